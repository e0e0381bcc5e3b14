//! Arguments of `sluice serve` and `sluice config check`.
//!
//! Every setting of a node is a flag; all are text here, for the configuration checks file, environment and flags together
//! and tells every error at once.

use std::path::PathBuf;

/// Runs a node.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "\
Every setting can stand in the file (in_flight.lane_readings), in the environment (SLUICE_IN_FLIGHT_LANE_READINGS) and in \
a flag (--in-flight-lane-readings); the flag wins, then the environment. `sluice config check` shows what is in effect.

Examples:
  sluice serve --data-dir ./data
  sluice serve --config /etc/sluice/node.yaml
  sluice serve --data-dir ./data --pipelines-dir ./pipelines    apply every *.yaml found there at the start

SIGTERM or Ctrl-C stops gracefully: readings in flight are delivered and acknowledged, checkpoints written, MQTT \
sessions kept for the next start.")]
pub struct Args {
    /// Configuration file (YAML); without one, defaults, environment and flags say everything
    #[arg(long, env = "SLUICE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// What a node can be told; the help names the defaults.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The node's name, stable across restarts [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The cluster's name, part of every MQTT client id [default: sluice]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Directory of identity and replicated log [default: /var/lib/sluice]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where gRPC for operators listens [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin_listen: Option<String>,
    /// `true` lets admin-listen be reached from other machines: whoever reaches it rules the cluster [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub admin_allow_remote: Option<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` listen [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http_listen: Option<String>,
    /// Directory whose *.yaml pipelines are applied at the start [default: none]
    #[arg(long, value_name = "DIR")]
    pub pipelines_dir: Option<String>,
    /// Threads that carry readings [default: one per core]
    #[arg(long, value_name = "COUNT")]
    pub lanes: Option<String>,
    /// Readings in flight per lane [default: 200000]
    #[arg(long, value_name = "COUNT")]
    pub in_flight_lane_readings: Option<String>,
    /// Payload and key bytes in flight per lane [default: 128MiB]
    #[arg(long, value_name = "SIZE")]
    pub in_flight_lane_bytes: Option<String>,
    /// Readings in flight per shard [default: half a lane's]
    #[arg(long, value_name = "COUNT")]
    pub in_flight_shard_readings: Option<String>,
    /// Payload and key bytes in flight per shard [default: half a lane's]
    #[arg(long, value_name = "SIZE")]
    pub in_flight_shard_bytes: Option<String>,
    /// Directories beneath which `${file:…}` may read, separated by `:` [default: /run/secrets]
    #[arg(long, value_name = "DIRS")]
    pub secret_roots: Option<String>,
    /// How long a stopping node delivers what is in flight [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub drain_deadline: Option<String>,
    /// Time between two checkpoints [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub checkpoint_interval: Option<String>,
    /// How log lines on standard error look: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What is logged, for example `info,sluice_node=debug` [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
}

/// Checks a node's configuration and pipelines without starting anything, and prints what is in effect.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  sluice config check --config /etc/sluice/node.yaml
  sluice config check --pipelines-dir ./pipelines
  sluice config check --config node.yaml -f readings.yaml -f alarms.yaml")]
pub struct CheckArgs {
    #[command(flatten)]
    pub node: Args,
    /// A pipeline manifest to check as well; may be given again
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
}
