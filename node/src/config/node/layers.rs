//! File, environment, flags: three layers become one tree that remembers where each value came from.

use std::collections::BTreeMap;

use crate::config::{
    error::{At, Report},
    suggest,
    yaml::{Entry, Node, Place, Value},
};

const PREFIX: &str = "SLUICE_";

macro_rules! overrides {
    ($($field:ident => $($path:literal).+ : $doc:literal),+ $(,)?) => {
        /// What flags say; `None` where a flag is not given. Values are text as it came, checked with the rest.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Overrides {
            $(#[doc = $doc] pub $field: Option<String>,)+
        }

        /// Every setting: its name in [`Overrides`], and its path in the file.
        const SETTINGS: &[(&str, &[&str])] = &[$((stringify!($field), &[$($path),+])),+];

        impl Overrides {
            fn values(&self) -> impl Iterator<Item = &Option<String>> {
                [$(&self.$field),+].into_iter()
            }
        }
    };
}

overrides! {
    name => "name": "The node's name.",
    cluster => "cluster": "The cluster's name.",
    data_dir => "data_dir": "Directory of the coordinator's log.",
    admin_listen => "admin_listen": "gRPC address.",
    admin_allow_remote => "admin_allow_remote": "`true` or `false`.",
    admin_tls_cert_file => "admin_tls"."cert_file": "Certificate of the admin listener.",
    admin_tls_key_file => "admin_tls"."key_file": "Its key.",
    admin_tokens_read => "admin_tokens"."read": "Token of those who look.",
    admin_tokens_operate => "admin_tokens"."operate": "Token of those who may do everything.",
    cluster_listen => "cluster_listen": "Address for other nodes.",
    cluster_advertise => "cluster_advertise": "`host:port` under which they reach it.",
    seeds => "seeds": "`host:port`s, separated by `,`.",
    bootstrap_expect => "bootstrap_expect": "Nodes to wait for before a cluster is founded.",
    bootstrap => "bootstrap": "`true` or `false`.",
    voters_max => "voters_max": "3 or 5.",
    lease => "lease": "How long a node may start tasks unheard.",
    keep_alive => "keep_alive": "Time between two renewals of the lease.",
    heartbeat => "heartbeat": "Time between two of the Raft leader.",
    election_timeout => "election_timeout": "A range, as in `500ms-1s`.",
    balance => "balance": "`count` or `rate`.",
    cluster_tls_ca_file => "cluster_tls"."ca_file": "Who signs the nodes' certificates.",
    cluster_tls_cert_file => "cluster_tls"."cert_file": "This node's certificate.",
    cluster_tls_key_file => "cluster_tls"."key_file": "Its key.",
    cluster_tls_server_name => "cluster_tls"."server_name": "The name in every node's certificate.",
    cluster_insecure => "cluster_insecure": "`true` or `false`.",
    http_listen => "http_listen": "HTTP address.",
    kubernetes_statefulset => "kubernetes_statefulset": "The StatefulSet that the node's pod is of.",
    pipelines_dir => "pipelines_dir": "Directory of pipelines to apply at start and when its files change.",
    lanes => "lanes": "Threads that carry readings.",
    in_flight_lane_readings => "in_flight"."lane_readings": "Readings in flight per lane.",
    in_flight_lane_bytes => "in_flight"."lane_bytes": "Bytes in flight per lane.",
    in_flight_shard_readings => "in_flight"."shard_readings": "Readings in flight per shard.",
    in_flight_shard_bytes => "in_flight"."shard_bytes": "Bytes in flight per shard.",
    secret_roots => "secret_roots": "Directories, separated by `:`.",
    drain_deadline => "drain_deadline": "How long a stop may take.",
    checkpoint_interval => "checkpoint_interval": "Time between checkpoints.",
    log_format => "log"."format": "`text` or `json`.",
    log_filter => "log"."filter": "What is logged.",
}

/// One tree of all layers; the last one that says something wins.
pub(super) fn merge(
    file: Option<Node>,
    environment: &BTreeMap<String, String>,
    flags: &Overrides,
    report: &Report,
) -> Node {
    let mut root = file.unwrap_or_else(|| table("configuration"));
    refuse_slips(environment, report);
    for ((name, path), flag) in SETTINGS.iter().zip(flags.values()) {
        let variable = variable(name);
        if let Some(text) = environment.get(&variable) {
            put(&mut root, path, leaf(name, &format!("environment {variable}"), text));
        }
        if let Some(text) = flag {
            put(&mut root, path, leaf(name, &format!("flag --{}", name.replace('_', "-")), text));
        }
    }
    root
}

/// A variable that is nearly one of ours is a slip that would otherwise pass in silence. Others that begin alike are not:
/// Kubernetes sets `SLUICE_SERVICE_HOST` and the like for a service of that name.
fn refuse_slips(environment: &BTreeMap<String, String>, report: &Report) {
    let known: Vec<String> = SETTINGS.iter().map(|(name, _)| variable(name)).collect();
    for name in environment.keys().filter(|name| name.starts_with(PREFIX) && !known.contains(name)) {
        let word = name.trim_start_matches(PREFIX);
        let words = known.iter().map(|name| name.trim_start_matches(PREFIX));
        if let Some(meant) = suggest::nearest(word, words) {
            let at = At { place: format!("environment {name}"), key: String::new() };
            report.add(&at, format!("unknown variable; did you mean `{PREFIX}{meant}`?"));
        }
    }
}

/// Whether an environment variable of that name gives a setting.
pub fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|(setting, _)| variable(setting) == name)
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

fn leaf(name: &str, place: &str, text: &str) -> Node {
    let separator = match name {
        "secret_roots" => ':',
        "seeds" => ',',
        _ => return Node::named(place, text),
    };
    let parts = text.split(separator).map(str::trim).filter(|part| !part.is_empty());
    let parts = parts.map(|part| Node::named(place, part)).collect();
    Node { place: Place::Named(place.into()), value: Value::List(parts) }
}

fn table(place: &str) -> Node {
    Node { place: Place::Named(place.into()), value: Value::Table(Vec::new()) }
}

/// Puts `leaf` at `path`. Where the file has something else than a table on the way, the reader will say so.
fn put(node: &mut Node, path: &[&str], leaf: Node) {
    let ([key, rest @ ..], Value::Table(entries)) = (path, &mut node.value) else { return };
    let place = leaf.place.clone();
    let at = entries.iter().position(|entry| *entry.key == **key);
    if rest.is_empty() {
        entries.retain(|entry| *entry.key != **key);
        entries.push(Entry { place, key: (*key).into(), value: leaf });
        return;
    }
    let at = at.unwrap_or_else(|| {
        let value = Node { place: place.clone(), value: Value::Table(Vec::new()) };
        entries.push(Entry { place, key: (*key).into(), value });
        entries.len() - 1
    });
    put(&mut entries[at].value, rest, leaf);
}
