//! A node that was away for longer than its lease and does not know it yet: it may connect once more for a shard that it has lost,
//! then it knows better. The witness is Mosquitto's log.

use std::{collections::BTreeMap, net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_tests::{
    cluster::{Cluster, Setup, Shard},
    eventually,
    kafka::Kafka,
    loadtest::Load,
    mosquitto::{self, Mosquitto},
    network::Network,
    pipeline::Pipeline,
    topic::Topic,
};

use crate::alone;

const SHARDS: u32 = 6;
const WELL: Duration = Duration::from_secs(90);
/// Five leases: whoever has not connected again by then has no reason to.
const NEVER: Duration = Duration::from_secs(10);

#[test]
fn a_node_paused_beyond_its_lease_connects_at_most_once_more_for_a_shard_and_then_never() -> anyhow::Result<()> {
    let _alone = alone();
    // Addresses of their own tell in the log who connects; without them only how often anybody did.
    let network = Network::check_possible().is_ok().then(|| Network::make(3)).transpose()?;
    let host = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::gateway);
    let mqtt = Mosquitto::start(&mosquitto::Setup { host: Some(host.into()), ..mosquitto::Setup::default() })?;
    let kafka = Kafka::start_at(host.into())?;
    let topic = Topic::create(&kafka.servers(), "ping-pong", 4, &[])?;
    let mut cluster = Cluster::prepare(Setup { nodes: 3, network, ..Setup::default() })?;
    cluster.start()?;
    let (mqtt_url, servers) = (mqtt.url(), kafka.servers());
    let pipeline = Pipeline { shards: SHARDS, ..Pipeline::new("ping-pong", &mqtt_url, &servers, &topic.name) };
    eventually("the pipeline is applied", || Ok(cluster.admin()?.apply(&pipeline.yaml())?))?;
    cluster.wait_well(SHARDS as usize, WELL)?;
    let load = Load { rate: 500, duration: Duration::from_secs(50), ..Load::new(&mqtt_url, &servers, &topic.name) };
    let mut load = load.start()?;
    load.wait_published(500)?;

    for is_leader in [false, true] {
        let view = cluster.wait_well(SHARDS as usize, WELL)?;
        let number = (0..3).find(|&number| (cluster.nodes()[number].name() == view.leader) == is_leader);
        let number = number.context("there is a leader, and there are others")?;
        away_and_back(&mut cluster, &mqtt, number)?;
    }
    load.finish()?.check_complete()
}

/// Has a node hang until others own its shards, and watches what it does when it goes on.
fn away_and_back(cluster: &mut Cluster, mqtt: &Mosquitto, number: usize) -> anyhow::Result<()> {
    let who = cluster.nodes()[number].name().to_owned();
    let lost = cluster.view()?.shards_of(&who);
    ensure!(!lost.is_empty(), "{who} has no shard to lose");
    cluster.set_out(number, true);
    cluster.node(number).process()?.pause()?;
    eventually("others have its shards", || check_taken(cluster, &who, &lost))?;
    // Or the plan gives it shards again, and it connects with every right.
    cluster.admin()?.drain(&who)?;
    let before = mqtt.log()?.len();
    cluster.node(number).process()?.unpause()?;
    eventually("it knows what it has lost, and all is well", || {
        ensure!(cluster.view_of(number)?.shards_of(&who).is_empty(), "{who} does not know");
        ensure!(cluster.nodes()[number].why_not_ready()?.is_empty(), "{who} is not ready");
        check_taken(cluster, &who, &lost)
    })?;
    let known = connections(cluster, mqtt, number, before)?;
    thread::sleep(NEVER);
    let end = connections(cluster, mqtt, number, before)?;
    eprintln!("{who}, back: connected {known:?} until it knew, {end:?} in the end");
    // Where addresses do not tell, the owner that was robbed of a session and took it back counts too.
    let most = if cluster.network.is_some() { 1 } else { 2 };
    ensure!(end.values().all(|&count| count <= most), "{who} came back again and again: {end:?}");
    ensure!(end == known, "{who} knew that it had lost them, and connected: {known:?}, then {end:?}");
    cluster.set_out(number, false);
    cluster.admin()?.fill(&who)?;
    Ok(())
}

fn check_taken(cluster: &Cluster, who: &str, lost: &[Shard]) -> anyhow::Result<()> {
    let view = cluster.view()?;
    for shard in lost {
        let owner = view.shards.get(shard).context("the shard is there")?;
        ensure!(owner.node != who && owner.is_settled, "{shard:?}: {owner:?}");
    }
    Ok(())
}

/// How often the broker has let in this node, or anybody where addresses do not tell, under each client id, after so much of its log.
fn connections(
    cluster: &Cluster,
    mqtt: &Mosquitto,
    number: usize,
    after: usize,
) -> anyhow::Result<BTreeMap<String, u32>> {
    let address = cluster.network.as_ref().map(|network| network.host(number).address.to_string());
    let log = mqtt.log()?;
    let mut connections = BTreeMap::new();
    for line in log.get(after..).context("a log only grows")?.lines() {
        // "1763829000: New client connected from 10.213.0.10:43210 as test-ping-pong-0 (p5, c0, k30)."
        let Some((_, rest)) = line.split_once("New client connected from ") else { continue };
        let (from, rest) = rest.split_once(" as ").context("a client has an id")?;
        let (host, _) = from.rsplit_once(':').context("a client has an address")?;
        let client = rest.split(' ').next().unwrap_or(rest);
        if client.starts_with("test-") && address.as_ref().is_none_or(|address| address == host) {
            *connections.entry(client.to_owned()).or_default() += 1;
        }
    }
    Ok(connections)
}
