//! Whether a fault bit: what metrics, logs and the kernel say, never what the fault's author hopes.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::stage::Stage;

/// A node under load has readings in flight most of the time; between two batches it may have none.
const PATIENCE: Duration = Duration::from_secs(3);

/// Waits for a moment at which these nodes have readings in flight; gives how many. 0: there was no such moment.
pub(crate) fn wait_in_flight(stage: &Stage, nodes: &[usize]) -> u64 {
    let start = Instant::now();
    loop {
        let in_flight: u64 = nodes.iter().map(|&number| in_flight(stage, number)).sum();
        if in_flight > 0 || start.elapsed() > PATIENCE {
            return in_flight;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of readings")]
fn in_flight(stage: &Stage, number: usize) -> u64 {
    // A node without shards has no such metric.
    stage.cluster.nodes()[number].metric("sluice_readings_in_flight").unwrap_or(0.0) as u64
}

/// TCP segments that this process's namespace has sent again, by the kernel's count.
pub(crate) fn retransmitted(pid: u32) -> anyhow::Result<u64> {
    let snmp = fs::read_to_string(format!("/proc/{pid}/net/snmp"))?;
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let names = lines.next().context("no Tcp in snmp")?.split_ascii_whitespace();
    let values = lines.next().context("no Tcp in snmp")?.split_ascii_whitespace();
    let (_, value) = names.zip(values).find(|(name, _)| *name == "RetransSegs").context("no RetransSegs")?;
    Ok(value.parse()?)
}

/// Connections that the broker has accepted from this address, by client id.
pub(crate) fn connections_from(stage: &Stage, address: IpAddr) -> anyhow::Result<BTreeMap<String, u32>> {
    let log = stage.mqtt.connection_log()?;
    let mut connections = BTreeMap::new();
    for line in log.lines() {
        // "1763829000: New client connected from 10.213.0.10:43210 as test-cell-a-0 (p5, c0, k30)."
        let Some((_, rest)) = line.split_once("New client connected from ") else { continue };
        let Some((from, rest)) = rest.split_once(" as ") else { continue };
        if from.rsplit_once(':').is_some_and(|(host, _)| host == address.to_string()) {
            let client = rest.split(' ').next().unwrap_or(rest);
            *connections.entry(client.to_owned()).or_default() += 1;
        }
    }
    Ok(connections)
}

/// How much has to be done again, at least, for the client that connected most often; with its name.
pub(crate) fn most_since(before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) -> (u32, String) {
    let since = after.iter().map(|(client, count)| (count - before.get(client).copied().unwrap_or(0), client.clone()));
    since.max().unwrap_or_default()
}

/// Waits until `check` is true; gives how long it took.
pub(crate) fn wait_until(patience: Duration, mut check: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if check() {
            return Some(start.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}
