//! How a node is one of several: where others reach it, whom it asks first, Raft's clockwork, leases.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use sluice_coordinator::model::NodeName;

use super::{address, path};
use crate::config::{
    read::{Field, Table},
    units,
};

/// A node with seeds waits for two others before it founds a cluster: three is the least that survives a loss.
const EXPECTED_WITH_SEEDS: u64 = 3;
/// Voters, of all the nodes there may be: five survive the loss of two, and a sixth would only slow every write.
const VOTERS_MAX: u64 = 5;
/// A lease lives through this many lost keep-alives, less one: a single slow answer must not end it.
const KEEP_ALIVES_PER_LEASE: u32 = 3;
/// A voter stands for election only after it has missed this many heartbeats, less one.
const HEARTBEATS_PER_ELECTION: u32 = 3;

/// How a node is one of several. Without `listen` it is a cluster of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `cluster_listen`: where other nodes reach this one. Default none: a cluster of one.
    pub listen: Option<SocketAddr>,
    /// `cluster_advertise`: `host:port` under which they do. Default: `cluster_listen`.
    pub advertise: Option<String>,
    /// `seeds`: `host:port` of nodes to ask first, this one's own included or not; a name stands for all its addresses. Default none.
    pub seeds: Vec<String>,
    /// `bootstrap_expect`: nodes, this one included, that must have been seen before a cluster is founded. Default 1 without seeds, else 3.
    pub bootstrap_expect: u64,
    /// `bootstrap`: this node may found the cluster. Default: it has no seeds, or its name ends in `-0`.
    pub may_found: bool,
    /// `voters_max`: 3 or 5 (default).
    pub voters_max: u64,
    /// `lease`: how long after the last answer of the leader a node may start tasks. Default 2s.
    pub lease: Duration,
    /// `keep_alive`: between two calls that renew the lease. Default 300ms.
    pub keep_alive: Duration,
    /// `heartbeat`: between two of the Raft leader. Default 100ms.
    pub heartbeat: Duration,
    /// `election_timeout`: a voter that hears nothing for a time drawn from this range stands for election. Default 500ms-1s.
    pub election_timeout: (Duration, Duration),
    /// `balance`: what is spread evenly over the nodes. Default count.
    pub balance: Balance,
    /// `cluster_tls`, or `cluster_insecure: true`.
    pub security: Security,
}

/// What is spread evenly over the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Shards.
    Count,
    /// Shards, and then readings a second.
    Rate,
}

/// How nodes know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// `cluster_insecure: true`, or there is no `cluster_listen`: whoever reaches the port is taken for a node.
    None,
    /// `cluster_tls`: both sides show a certificate.
    Tls(ClusterTls),
}

/// `cluster_tls`: PEM files, read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// `ca_file`: who signs the nodes' certificates.
    pub ca_file: PathBuf,
    /// `cert_file`: this node's certificate, good for servers and clients.
    pub cert_file: PathBuf,
    /// `key_file`: its key.
    pub key_file: PathBuf,
    /// `server_name`: the name that every node's certificate bears. Default: the host in its address.
    pub server_name: Option<String>,
}

pub(super) fn read(table: &Table<'_>, name: Option<&NodeName>) -> Option<Cluster> {
    let ms = Duration::from_millis;
    let listen = table.maybe("cluster_listen", address);
    let advertise = table.maybe("cluster_advertise", host_port);
    let seeds = table.or("seeds", Vec::new(), seeds);
    let has_seeds = seeds.as_ref().is_some_and(|seeds| !seeds.is_empty());
    let expected = if has_seeds { EXPECTED_WITH_SEEDS } else { 1 };
    let bootstrap_expect = table.or("bootstrap_expect", expected, |field| field.number(1..=1_000));
    let is_first = !has_seeds || name.is_some_and(|name| ordinal(name.as_str()) == Some(0));
    let may_found = table.or("bootstrap", is_first, Field::bool);
    let voters_max = table.or("voters_max", VOTERS_MAX, |field| match field.number(3..=5)? {
        4 => field.refuse("4 voters survive the loss of one, as 3 do; give 3 or 5"),
        votes => Some(votes),
    });
    let keep_alive = table.or("keep_alive", ms(300), |field| field.duration(ms(20)..=ms(10_000)));
    let lease = table.or("lease", ms(2_000), |field| field.duration(ms(100)..=ms(60_000)));
    let lease = lease.and_then(|lease| outlasts(table, lease, keep_alive));
    let heartbeat = table.or("heartbeat", ms(100), |field| field.duration(ms(10)..=ms(10_000)));
    let election_timeout = table.or("election_timeout", (ms(500), ms(1_000)), election_timeout);
    let election_timeout = election_timeout.and_then(|range| outlasts_heartbeats(table, range, heartbeat));
    let words = [("count", Balance::Count), ("rate", Balance::Rate)];
    let balance = table.or("balance", Balance::Count, |field| field.word(&words));
    let security = security(table, listen.flatten().is_some());
    match listen {
        Some(None) => alone(table, has_seeds, bootstrap_expect),
        Some(Some(listen)) if listen.ip().is_unspecified() && advertise == Some(None) => {
            let message = format!("is missing: {listen} is no address that others could call; give host:port");
            table.refuse_below("cluster_advertise", message)
        }
        _ => Some(()),
    }?;
    Some(Cluster {
        listen: listen?,
        advertise: advertise?,
        seeds: seeds?,
        bootstrap_expect: bootstrap_expect?,
        may_found: may_found?,
        voters_max: voters_max?,
        lease: lease?,
        keep_alive: keep_alive?,
        heartbeat: heartbeat?,
        election_timeout: election_timeout?,
        balance: balance?,
        security: security?,
    })
}

/// What is given for other nodes, with no way for them to come in, is a mistake and no choice.
fn alone(table: &Table<'_>, has_seeds: bool, bootstrap_expect: Option<u64>) -> Option<()> {
    let needed = |key: &str| {
        table
            .refuse_below(key, "needs cluster_listen: without it the node is a cluster of one; give it, or remove this")
    };
    let given = [
        ("cluster_advertise", table.field("cluster_advertise").is_some()),
        ("seeds", has_seeds),
        ("bootstrap_expect", bootstrap_expect.is_some_and(|expected| expected > 1)),
        ("cluster_tls", table.field("cluster_tls").is_some()),
    ];
    let refused: Vec<Option<()>> = given.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| needed(key)).collect();
    refused.is_empty().then_some(())
}

fn security(table: &Table<'_>, is_open: bool) -> Option<Security> {
    let tls = table.maybe("cluster_tls", tls);
    let is_insecure = table.or("cluster_insecure", false, Field::bool);
    match (tls?, is_insecure?) {
        (Some(_), true) => table.refuse_below("cluster_insecure", "contradicts cluster_tls; remove one of the two"),
        (Some(tls), false) => Some(Security::Tls(tls)),
        (None, false) if is_open => table.refuse_below(
            "cluster_tls",
            "is missing: whoever reaches cluster_listen could take part in the cluster; \
             give cluster_tls, or say cluster_insecure: true where the network itself keeps others out",
        ),
        (None, _) => Some(Security::None),
    }
}

fn tls(field: &Field<'_>) -> Option<ClusterTls> {
    let table = field.table()?;
    let file = |key, what| table.required(key, what).and_then(|field| path(&field));
    let ca_file = file("ca_file", "the PEM file of who signs the nodes' certificates");
    let cert_file = file("cert_file", "the PEM file of this node's certificate");
    let key_file = file("key_file", "the PEM file of its key");
    let server_name = table.maybe("server_name", |field| match field.text()? {
        "" => field.refuse("cannot be empty"),
        name => Some(name.to_owned()),
    });
    table.finish();
    Some(ClusterTls { ca_file: ca_file?, cert_file: cert_file?, key_file: key_file?, server_name: server_name? })
}

fn seeds(field: &Field<'_>) -> Option<Vec<String>> {
    let seeds = field.list("host:port")?;
    let seeds: Vec<_> = seeds.iter().map(host_port).collect();
    seeds.into_iter().collect()
}

fn host_port(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let parts = text.rsplit_once(':').filter(|(host, port)| {
        let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && !is_bare_v6 && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if parts.is_none() {
        return field.refuse(format!("{text:?} is not host:port; give for example sluice-0.sluice:7072"));
    }
    Some(text.to_owned())
}

/// The lease, if it fits the keep-alive, whichever of the two is a default.
fn outlasts(table: &Table<'_>, lease: Duration, keep_alive: Option<Duration>) -> Option<Duration> {
    let least = keep_alive? * KEEP_ALIVES_PER_LEASE;
    if lease >= least {
        return Some(lease);
    }
    let (lease, least) = (units::show_duration(lease), units::show_duration(least));
    table.refuse_below(
        "lease",
        format!("{lease} does not outlast a lost keep-alive; give at least {least}, which is {KEEP_ALIVES_PER_LEASE} keep-alives"),
    )
}

fn election_timeout(field: &Field<'_>) -> Option<(Duration, Duration)> {
    let text = field.text()?;
    let range = text.split_once('-').and_then(|(min, max)| {
        let range = (units::duration(min.trim())?, units::duration(max.trim())?);
        (range.0 < range.1 && range.1 <= Duration::from_secs(60)).then_some(range)
    });
    if range.is_none() {
        return field.refuse(format!("{text:?} is not a range of durations; give for example 500ms-1s, at most 60s"));
    }
    range
}

/// The range, if it fits the heartbeat, whichever of the two is a default.
fn outlasts_heartbeats(
    table: &Table<'_>,
    (min, max): (Duration, Duration),
    heartbeat: Option<Duration>,
) -> Option<(Duration, Duration)> {
    let least = heartbeat? * HEARTBEATS_PER_ELECTION;
    if min >= least {
        return Some((min, max));
    }
    table.refuse_below(
        "election_timeout",
        format!(
            "begins at {}, which does not outlast a lost heartbeat; begin at {} or more, which is {HEARTBEATS_PER_ELECTION} heartbeats",
            units::show_duration(min),
            units::show_duration(least),
        ),
    )
}

/// The number that a name ends in, after its last hyphen.
fn ordinal(name: &str) -> Option<u32> {
    name.rsplit_once('-')?.1.parse().ok()
}
