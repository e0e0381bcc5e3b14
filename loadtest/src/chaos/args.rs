//! The command line of `loadtest chaos`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum as _};

use super::{kind::Kind, mqtt::Broker};
use crate::cli::{Output, duration};

#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// Rounds whose fault must bite
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Where chance begins; printed, so that a run can be played again [default: by chance]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Kinds of faults, dealt out evenly [default: all that this cluster and broker can have]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) faults: Vec<Kind>,
    /// MQTT broker to start
    #[arg(long, value_enum, default_value_t = Broker::Mosquitto)]
    pub(crate) mqtt: Broker,
    /// The program `sluice` [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) sluice: Option<PathBuf>,
    /// Plain subscriptions, one shard a pipeline: for MQTT brokers that lose what a shared subscription has in flight when they die
    #[arg(long)]
    pub(crate) plain: bool,
    /// The nodes know each other by certificates, and talk in TLS
    #[arg(long)]
    pub(crate) tls: bool,
    /// Readings per second over all devices
    #[arg(long, value_name = "READINGS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// The lease in the nodes' configuration
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) lease: Duration,
    /// Give up on missing readings, and on a cluster that does not get well, after so long
    #[arg(long, default_value = "90s", value_parser = duration)]
    pub(crate) settle: Duration,
    /// Keep the logs and configurations there, also when all is well
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,
    /// Form of the report; the timeline goes to stderr
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

impl ChaosArgs {
    /// The kinds to play.
    ///
    /// # Errors
    /// One is meaningless with this cluster, or this machine cannot do it. Nothing is left out silently.
    pub(crate) fn kinds(&self) -> anyhow::Result<Vec<Kind>> {
        let mut kinds = self.faults.clone();
        if kinds.is_empty() {
            let all = Kind::value_variants().iter().copied();
            kinds = all.filter(|kind| kind.check_meaningful(self.nodes, self.mqtt).is_ok()).collect();
        }
        kinds.sort_unstable();
        kinds.dedup();
        for kind in &kinds {
            kind.check_meaningful(self.nodes, self.mqtt)?;
            kind.check_possible()
                .with_context(|| format!("{} cannot be done here; --faults chooses what is played", kind.name()))?;
        }
        Ok(kinds)
    }
}
