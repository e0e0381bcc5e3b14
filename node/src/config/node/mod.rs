//! A node's own configuration: a YAML file, over which come environment variables, over which come flags.
//!
//! Every setting can be given in all three ways, under one name: `in_flight.lane_readings` in the file, `SLUICE_IN_FLIGHT_LANE_READINGS` in the
//! environment, `--in-flight-lane-readings` as a flag. All are checked together and every error is told.

mod cluster;
mod credentials;
mod data_dir;
mod layers;
mod show;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use sluice_coordinator::model::NodeName;

pub use cluster::{Balance, Cluster, ClusterTls, Security};
pub use credentials::{ClusterCredentials, Credentials, Pair, Tokens};
pub use layers::{Overrides, is_setting};

use super::{
    ClusterName, ConfigErrors, SecretRoots, Value,
    error::Report,
    read::{Field, Reader, Table},
    yaml,
};
use crate::kubernetes;

/// Most lanes: more than any machine has cores.
const LANES_MAX: u64 = 1_024;

/// Eight lanes unless told otherwise: far more than a broker's shards fill, and few enough that four sink configurations stay within the
/// bound of producers.
const LANES_DEFAULT_MAX: u64 = 8;

/// 200,000 readings: a fifth of a second at the rate a lane reaches, twenty times what linger and a Kafka round trip need.
const LANE_READINGS: u64 = 200_000;

/// 128 MiB of payloads and keys: what a lane may hold while Kafka is away, so memory is bounded by lanes × this, and some.
const LANE_BYTES: u64 = 128 << 20;

/// Half a lane, so that one shard cannot keep the others of its lane from reading.
const SHARD_READINGS: u64 = LANE_READINGS / 2;
const SHARD_BYTES: u64 = LANE_BYTES / 2;

/// Openraft tells at `info` what only its developers can use.
const LOG_FILTER: &str = "info,openraft=error";

/// A node's checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `name`: stable across restarts, unique in the cluster. Default: the host's name, with what is not a-z, 0-9 or `-` replaced by `-`.
    pub name: NodeName,
    /// `cluster`: part of every MQTT client id. Default `sluice`.
    pub cluster: ClusterName,
    /// `data_dir`: the coordinator's log and snapshots. Default `/var/lib/sluice`.
    pub data_dir: PathBuf,
    /// How it is one of several.
    pub clustering: Cluster,
    /// `admin_listen`: gRPC. Default `127.0.0.1:7070`; another than a loopback address needs `admin_tls` and `admin_tokens`, or
    /// `admin_allow_remote: true`.
    pub admin_listen: SocketAddr,
    /// `admin_allow_remote`: the user knows that whoever reaches `admin_listen` rules the cluster. Default false.
    pub admin_allow_remote: bool,
    /// `admin_tls`: the certificate that the admin listener shows. Default none.
    pub admin_tls: Option<AdminTls>,
    /// `admin_tokens`: what callers of the admin listener must show. Default none: nothing.
    pub admin_tokens: Option<AdminTokens>,
    /// `http_listen`: metrics and health, which tell much and change nothing. Default `127.0.0.1:7071`.
    pub http_listen: SocketAddr,
    /// `kubernetes_statefulset`: the StatefulSet that this node's pod is of, whose replicas say whether a stop is for good, and
    /// whether a node whose disk was removed from the cluster empties `data_dir` and joins anew. Needs `cluster_listen`. Default none.
    pub kubernetes_statefulset: Option<String>,
    /// `pipelines_dir`: pipelines that are applied at start, and when its files change. Default none.
    pub pipelines_dir: Option<PathBuf>,
    /// `lanes`: threads that carry readings. Default: the machine's cores, at most 8.
    pub lanes: NonZeroUsize,
    /// `in_flight`
    pub in_flight: InFlight,
    /// `secret_roots`: directories beneath which `${file:…}` may read. Default `[/run/secrets]`.
    pub secret_roots: SecretRoots,
    /// `drain_deadline`: how long a stopping node delivers what is in flight. Default 10s.
    pub drain_deadline: Duration,
    /// `checkpoint_interval`: between two checkpoints of the node. Default 1s.
    pub checkpoint_interval: Duration,
    /// `log`
    pub log: Log,
}

/// `admin_tls`: PEM files, read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// `cert_file`: the certificate.
    pub cert_file: PathBuf,
    /// `key_file`: its key.
    pub key_file: PathBuf,
}

/// `admin_tokens`: text or `${file:…}`, resolved at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTokens {
    /// `read`: looks and changes nothing. Default none.
    pub read: Option<Value>,
    /// `operate`: may do everything.
    pub operate: Value,
}

/// How much may be in flight; what reaches a bound is not read until there is room. Bytes are those of payloads and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// `lane_readings`: default 200000.
    pub lane_readings: NonZeroU64,
    /// `lane_bytes`: default 128MiB.
    pub lane_bytes: NonZeroU64,
    /// `shard_readings`: at most `lane_readings`; default half of it.
    pub shard_readings: NonZeroU64,
    /// `shard_bytes`: at most `lane_bytes`; default half of it.
    pub shard_bytes: NonZeroU64,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `format`: `text` (default) or `json`.
    pub format: LogFormat,
    /// `filter`: tracing's directives, as in `info,sluice_node=debug`. Default `info,openraft=error`.
    pub filter: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the machine tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its host name, if it has one.
    pub name: Option<String>,
    /// Its cores.
    pub cores: NonZeroUsize,
}

impl Node {
    /// Checks a node's whole configuration. `file` is the name and the text of the configuration file, if there is one.
    ///
    /// # Errors
    /// Everything that is wrong, with file and line, variable or flag.
    pub fn load(
        file: Option<(&str, &str)>,
        environment: &BTreeMap<String, String>,
        flags: &Overrides,
        host: &Host,
    ) -> Result<Self, ConfigErrors> {
        let (origin, text) = file.unwrap_or(("configuration", ""));
        let mut documents = yaml::parse(text)
            .map_err(|error| ConfigErrors::whole(format!("{origin}:{}", error.line), error.message))?;
        if documents.len() > 1 {
            return Err(ConfigErrors::whole(origin, "holds several documents; a node has one configuration"));
        }
        let report = Report::default();
        let file = documents.pop().map(|document| document.root);
        let root = layers::merge(file, environment, flags, &report);
        let node = Reader { origin, report: &report }.root(&root).table().and_then(|table| {
            let node = read(&table, host);
            table.finish();
            node
        });
        report.finish(node)
    }
}

fn read(table: &Table<'_>, host: &Host) -> Option<Node> {
    let name = match table.field("name") {
        Some(field) => field.parse(),
        None => sanitise(host.name.as_deref().unwrap_or_default()).or_else(|| {
            table.refuse_below("name", "is missing: this machine has no usable host name; give the node a name")
        }),
    };
    let cluster = table.or("cluster", ClusterName::default(), Field::parse);
    let data_dir = table.or("data_dir", PathBuf::from("/var/lib/sluice"), path);
    let clustering = cluster::read(table, name.as_ref());
    let admin = admin(table);
    let http_listen = table.or("http_listen", SocketAddr::from(([127, 0, 0, 1], 7071)), address);
    let kubernetes_statefulset = table.maybe("kubernetes_statefulset", |field| statefulset(field, name.as_ref()));
    let kubernetes_statefulset = match (&clustering, &kubernetes_statefulset) {
        (Some(Cluster { listen: None, .. }), Some(Some(_))) => table.refuse_below(
            "kubernetes_statefulset",
            "needs cluster_listen: without it the node is a cluster of one, which it cannot leave; give it, or remove this",
        ),
        _ => kubernetes_statefulset,
    };
    let pipelines_dir = table.maybe("pipelines_dir", path);
    let cores = u64::try_from(host.cores.get()).unwrap_or(LANES_MAX);
    let lanes = table.or("lanes", cores.min(LANES_DEFAULT_MAX), |field| field.number(1..=LANES_MAX));
    let in_flight = in_flight(table);
    let secret_roots = table.or("secret_roots", vec!["/run/secrets".into()], secret_roots);
    let second = Duration::from_secs(1);
    let drain_deadline = table.or("drain_deadline", second * 10, |f| f.duration(Duration::ZERO..=second * 600));
    let checkpoint_interval = table.or("checkpoint_interval", second, |f| f.duration(second / 10..=second * 60));
    let log = log(table);
    let listeners = [
        ("cluster_listen", clustering.as_ref().and_then(|cluster| cluster.listen)),
        ("admin_listen", admin.listen),
        ("http_listen", http_listen),
    ];
    let is_apart = apart(table, &listeners);
    is_apart?;
    Some(Node {
        name: name?,
        cluster: cluster?,
        data_dir: data_dir?,
        clustering: clustering?,
        admin_listen: admin.listen?,
        admin_allow_remote: admin.allow_remote?,
        admin_tls: admin.tls?,
        admin_tokens: admin.tokens?,
        http_listen: http_listen?,
        kubernetes_statefulset: kubernetes_statefulset?,
        pipelines_dir: pipelines_dir?,
        lanes: NonZeroUsize::new(usize::try_from(lanes?).ok()?)?,
        in_flight: in_flight?,
        secret_roots: SecretRoots::new(secret_roots?),
        drain_deadline: drain_deadline?,
        checkpoint_interval: checkpoint_interval?,
        log: log?,
    })
}

/// What was read of the admin listener; `None` was reported.
struct Admin {
    listen: Option<SocketAddr>,
    allow_remote: Option<bool>,
    tls: Option<Option<AdminTls>>,
    tokens: Option<Option<AdminTokens>>,
}

fn admin(table: &Table<'_>) -> Admin {
    let allow_remote = table.or("admin_allow_remote", false, Field::bool);
    let tls = table.maybe("admin_tls", |field| {
        let table = field.table()?;
        let file = |key, what| table.required(key, what).and_then(|field| path(&field));
        let cert_file = file("cert_file", "the PEM file of the listener's certificate");
        let key_file = file("key_file", "the PEM file of its key");
        table.finish();
        Some(AdminTls { cert_file: cert_file?, key_file: key_file? })
    });
    let tokens = table.maybe("admin_tokens", |field| {
        let table = field.table()?;
        let operate = table.required("operate", "the token of those who may change things").and_then(|f| f.parse());
        let read = table.maybe("read", Field::parse);
        table.finish();
        Some(AdminTokens { read: read?, operate: operate? })
    });
    let is_guarded = !matches!((&tls, &tokens), (Some(None), _) | (_, Some(None)));
    let listen = table.or("admin_listen", SocketAddr::from(([127, 0, 0, 1], 7070)), |field| {
        let listen = address(field)?;
        if !listen.ip().is_loopback() && allow_remote == Some(false) && !is_guarded {
            return field.refuse(format!(
                "{listen} can be reached from other machines, and whoever reaches it rules the cluster; \
                 give admin_tls and admin_tokens, or a loopback address, or set `admin_allow_remote: true`"
            ));
        }
        Some(listen)
    });
    Admin { listen, allow_remote, tls, tokens }
}

/// Two listeners cannot have one port of one address; port 0 is any that is free.
fn apart(table: &Table<'_>, listeners: &[(&'static str, Option<SocketAddr>)]) -> Option<()> {
    let known: Vec<_> = listeners.iter().filter_map(|(key, listen)| Some((*key, (*listen)?))).collect();
    let pairs = known.iter().enumerate().flat_map(|(at, one)| known[..at].iter().map(move |other| (other, one)));
    let told = pairs.filter(|(other, one)| is_same(&other.1, &one.1)).map(|(other, one)| {
        // At one that the user gave: the other may be a default.
        let (at, by) = if table.field(one.0).is_some() { (one, other) } else { (other, one) };
        table.refuse_below(at.0, format!("{} is taken by {}, {}; give one of them another port", at.1, by.0, by.1))
    });
    // Every clash is told, not only the first.
    told.collect::<Vec<_>>().into_iter().collect()
}

/// Whether only one of two can be listened on. `[::]` takes IPv4 too, `0.0.0.0` IPv4 alone.
fn is_same(one: &SocketAddr, other: &SocketAddr) -> bool {
    let covers = |wide: &SocketAddr, narrow: &SocketAddr| match wide.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

fn in_flight(table: &Table<'_>) -> Option<InFlight> {
    let Some(field) = table.field("in_flight") else {
        return bounds(LANE_READINGS, LANE_BYTES, SHARD_READINGS, SHARD_BYTES);
    };
    let table = field.table()?;
    let lane_readings = table.or("lane_readings", LANE_READINGS, |f| f.number(1..=1 << 30));
    let lane_bytes = table.or("lane_bytes", LANE_BYTES, |f| f.size(1..=1 << 40));
    let readings_max = lane_readings.unwrap_or(1 << 30);
    let bytes_max = lane_bytes.unwrap_or(1 << 40);
    let shard_readings = table.or("shard_readings", readings_max.div_ceil(2), |f| f.number(1..=readings_max));
    let shard_bytes = table.or("shard_bytes", bytes_max.div_ceil(2), |f| f.size(1..=bytes_max));
    table.finish();
    bounds(lane_readings?, lane_bytes?, shard_readings?, shard_bytes?)
}

fn bounds(lane_readings: u64, lane_bytes: u64, shard_readings: u64, shard_bytes: u64) -> Option<InFlight> {
    Some(InFlight {
        lane_readings: NonZeroU64::new(lane_readings)?,
        lane_bytes: NonZeroU64::new(lane_bytes)?,
        shard_readings: NonZeroU64::new(shard_readings)?,
        shard_bytes: NonZeroU64::new(shard_bytes)?,
    })
}

fn log(table: &Table<'_>) -> Option<Log> {
    let Some(field) = table.field("log") else {
        return Some(Log { format: LogFormat::Text, filter: LOG_FILTER.to_owned() });
    };
    let table = field.table()?;
    let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = table.or("format", LogFormat::Text, |field| field.word(&words));
    let filter = table.or("filter", LOG_FILTER.to_owned(), |field| {
        let text = field.text()?;
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Some(text.to_owned()),
            Err(error) => field.refuse(format!("{text:?}: {error}; give directives as in info,sluice_node=debug")),
        }
    });
    table.finish();
    Some(Log { format: format?, filter: filter? })
}

/// A pod is called by its StatefulSet and its number, and the node must be called as its pod.
fn statefulset(field: &Field<'_>, node: Option<&NodeName>) -> Option<String> {
    let text = field.text()?;
    match node {
        Some(node) if kubernetes::ordinal(text, node).is_none() => field.refuse(format!(
            "node {node} is no pod of StatefulSet {text:?}, whose pods are {text}-0, {text}-1 and so on; set `name` to the pod's, or remove this"
        )),
        _ => Some(text.to_owned()),
    }
}

fn path(field: &Field<'_>) -> Option<PathBuf> {
    match field.text()? {
        "" => field.refuse("cannot be an empty path"),
        path => Some(path.into()),
    }
}

fn secret_roots(field: &Field<'_>) -> Option<Vec<PathBuf>> {
    let root = |field: &Field<'_>| {
        let path = path(field)?;
        if path.is_absolute() {
            Some(path)
        } else {
            field.refuse(format!("{} is not an absolute path", path.display()))
        }
    };
    let roots: Vec<_> = field.list("absolute directories")?.iter().map(root).collect();
    roots.into_iter().collect()
}

fn address(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.text()?;
    let parsed = text.parse().ok();
    parsed.or_else(|| {
        field.refuse(format!("{text:?} is not an address to listen on; give IP and port, as in 127.0.0.1:7070"))
    })
}

/// The host's name as a node's, if anything is left of it.
fn sanitise(host: &str) -> Option<NodeName> {
    let replaced: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(63).collect();
    replaced.trim_matches('-').parse().ok()
}
