//! The stage of a chaos run: broker, Kafka, cluster, pipelines and load.
//!
//! Half of the shards are *cells*: pipelines of one shard, each with the readings of a zone of its own, so that the gap of a shard
//! can be seen from outside. The other half is one pipeline of many shards that share two zones, as most users have it; whose
//! reading went through which of them nobody outside can tell. With `--plain` there are only cells, and their subscriptions are plain.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;

use super::{
    ChaosArgs,
    kind::Kind,
    load::{Load, Setup as LoadSetup},
    mqtt::Mqtt,
    timeline::Timeline,
};
use crate::{
    lab::{
        cluster::{Cluster, Setup, Shard, View},
        environment, eventually,
        kafka::Kafka,
        network::{End, Network},
        pipeline::Pipeline,
        topic::Topic,
    },
    reading::zone_name,
};

/// Readings that a session may have in flight: what a killed shard may repeat.
const WINDOW: u16 = 500;
const PARTITIONS: i32 = 6;
const DEVICES_PER_ZONE: u32 = 10;
/// Zones of the pipeline that shares.
const SHARED_ZONES: u8 = 2;
const SHARED: &str = "shared";

/// Everything that plays. What is first ends first.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) load: Load,
    pub(crate) cluster: Cluster,
    pub(crate) mqtt: Mqtt,
    pub(crate) kafka: Kafka,
    pub(crate) timeline: Timeline,
    pub(crate) lease: Duration,
    cells: u8,
    /// Shards of the pipeline that shares its zones; 0: there is none.
    sharing: u8,
    /// Cuts that have not been mended.
    cuts: Vec<(End, End)>,
    /// Nodes that ended and that nobody had ended.
    pub(crate) unexpected_ends: Vec<String>,
}

impl Stage {
    /// Starts everything, and waits until readings flow.
    pub(crate) fn set(args: &ChaosArgs, kinds: &[Kind], timeline: Timeline) -> anyhow::Result<Self> {
        let nodes = usize::from(args.nodes);
        // Addresses of their own also tell in the broker's log which node connects.
        let network = Network::check_possible().is_ok().then(|| Network::make(nodes)).transpose()?;
        let host: IpAddr = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::gateway).into();
        let program = match &args.sluice {
            Some(program) => fs::canonicalize(program).with_context(|| format!("no {}", program.display()))?,
            None => environment::built("sluice")?,
        };
        timeline.say(&format!("program {}", program.display()));
        let mqtt = Mqtt::start(args.mqtt, host)?;
        let kafka = Kafka::start_at(host)?;
        // Kafka's own clock says when a reading was stored.
        let topic =
            Topic::create(&kafka.servers(), "chaos", PARTITIONS, &[("message.timestamp.type", "LogAppendTime")])?;
        // A node alone has no lease to keep.
        let config = if nodes == 1 { String::new() } else { format!("lease: {}ms\n", args.lease.as_millis()) };
        let mut cluster = Cluster::prepare(Setup {
            nodes,
            program: Some(program),
            network,
            has_tls: args.tls,
            has_small_disks: kinds.contains(&Kind::FullDisk),
            config,
        })?;
        cluster.start()?;
        timeline.say("all nodes are ready");
        let cells = 2 * args.nodes;
        let sharing = if args.plain { 0 } else { cells };
        let pipelines = pipelines(cells, sharing, &mqtt.url(), &kafka.servers(), &topic.name);
        for pipeline in &pipelines {
            eventually("the pipeline is applied", || Ok(cluster.admin()?.apply(&pipeline.yaml())?))?;
        }
        let shards = pipelines.iter().map(|pipeline| pipeline.shards as usize).sum();
        cluster.wait_well(shards, args.settle)?;
        timeline.say(&format!("{shards} shards run"));
        let load = Load::start(&LoadSetup {
            mqtt: mqtt.url(),
            kafka: kafka.servers(),
            kafka_topic: topic.name,
            topic_template: "chaos/{zone}/{device}/reading".to_owned(),
            zones: cells + shared_zones(sharing),
            devices: u32::from(cells + shared_zones(sharing)) * DEVICES_PER_ZONE,
            rate: args.rate,
        })?;
        Ok(Self {
            load,
            cluster,
            mqtt,
            kafka,
            timeline,
            lease: args.lease,
            cells,
            sharing,
            cuts: Vec::new(),
            unexpected_ends: Vec::new(),
        })
    }

    /// Waits until all is well.
    pub(crate) fn wait_well(&self, patience: Duration) -> anyhow::Result<View> {
        self.cluster.wait_well(usize::from(self.cells + self.sharing), patience)
    }

    /// From now on nothing that `from` sends arrives at `to`, until [`Self::heal`].
    pub(crate) fn cut(&mut self, from: End, to: End) -> anyhow::Result<()> {
        self.cluster.network.as_ref().context("there is no network to cut")?.cut(from, to)?;
        self.cuts.push((from, to));
        Ok(())
    }

    /// Mends the network, starts what is down, and waits until every node is ready.
    pub(crate) fn heal(&mut self) -> anyhow::Result<()> {
        for (from, to) in std::mem::take(&mut self.cuts) {
            self.cluster.network.as_ref().context("there was a network")?.mend(from, to)?;
        }
        // All at once: a node is ready only when there is a quorum.
        for number in 0..self.cluster.size() {
            self.start_if_down(number)?;
        }
        for number in 0..self.cluster.size() {
            if self.cluster.node(number).wait_ready().is_err() {
                // It may have been about to end.
                self.start_if_down(number)?;
                self.cluster.node(number).wait_ready()?;
            }
            self.cluster.set_out(number, false);
        }
        Ok(())
    }

    fn start_if_down(&mut self, number: usize) -> anyhow::Result<()> {
        let node = self.cluster.node(number);
        if let Some(status) = node.ended()? {
            let what = format!("{} had ended by itself: {status}", node.name());
            self.timeline.say(&what);
            self.unexpected_ends.push(what);
        }
        let node = self.cluster.node(number);
        if !node.is_started() {
            node.start_process()?;
        }
        Ok(())
    }

    /// The zones of these shards, as far as a shard has one of its own.
    pub(crate) fn zones_of(&self, shards: &BTreeSet<Shard>) -> Vec<u8> {
        (0..self.cells).filter(|&cell| shards.contains(&(cell_name(cell), 0))).collect()
    }

    /// Every shard.
    pub(crate) fn all_shards(&self) -> BTreeSet<Shard> {
        let cells = (0..self.cells).map(|cell| (cell_name(cell), 0));
        cells.chain((0..u32::from(self.sharing)).map(|index| (SHARED.to_owned(), index))).collect()
    }

    /// Copies the logs and configurations of all nodes, and the broker's log.
    pub(crate) fn keep_logs(&self, dir: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(dir)?;
        for node in self.cluster.nodes() {
            for (from, to) in [("log", "log"), ("node.yaml", "yaml")] {
                if node.path(from).is_file() {
                    fs::copy(node.path(from), dir.join(format!("{}.{to}", node.name())))?;
                }
            }
        }
        if let Ok(log) = self.mqtt.connection_log() {
            fs::write(dir.join("mqtt.log"), log)?;
        }
        Ok(())
    }
}

/// Equal names in equal order to the zones, so that a cell's zone is its number.
fn cell_name(cell: u8) -> String {
    format!("cell-{}", zone_name(cell).trim_start_matches("zone").to_lowercase())
}

fn shared_zones(sharing: u8) -> u8 {
    if sharing == 0 { 0 } else { SHARED_ZONES }
}

fn pipelines(cells: u8, sharing: u8, mqtt: &str, kafka: &str, topic: &str) -> Vec<Pipeline> {
    let filter = |zone| format!("chaos/{}/#", zone_name(zone));
    let base = |name: &str| Pipeline { receive_maximum: WINDOW, ..Pipeline::new(name, mqtt, kafka, topic) };
    let source = if sharing == 0 { vec!["shared: false".to_owned()] } else { Vec::new() };
    let of_cell = |cell| Pipeline { filters: vec![filter(cell)], source: source.clone(), ..base(&cell_name(cell)) };
    let mut pipelines: Vec<Pipeline> = (0..cells).map(of_cell).collect();
    if sharing > 0 {
        let filters = (cells..cells + shared_zones(sharing)).map(filter).collect();
        pipelines.push(Pipeline { filters, shards: u32::from(sharing), ..base(SHARED) });
    }
    pipelines
}
