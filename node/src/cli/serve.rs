//! Arguments of `sluice serve` and `sluice config check`. A flag goes before the configuration file.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use crate::telemetry::logs;

/// Runs a node.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "\
Examples:
  sluice serve --data-dir /var/lib/sluice
  sluice serve --config /etc/sluice/node.yaml
  sluice serve --data-dir ./data --pipelines ./pipelines    apply every *.yaml found there at the start

SIGTERM or Ctrl-C stops gracefully: readings in flight are delivered and acknowledged, checkpoints written, MQTT
sessions kept for the next start.")]
pub struct Args {
    /// Configuration file (YAML); every setting has a default without one
    #[arg(long, env = "SLUICE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Directory of what the node must remember: identity and replicated log
    #[arg(long, env = "SLUICE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory whose *.yaml manifests are applied at the start
    #[arg(long, env = "SLUICE_PIPELINES", value_name = "DIR")]
    pub pipelines: Option<PathBuf>,
    /// The node's name, stable across restarts
    #[arg(long, env = "SLUICE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Where gRPC for operators listens; anyone who reaches it can change pipelines [default: 127.0.0.1:7070]
    #[arg(long, env = "SLUICE_ADMIN_LISTEN", value_name = "ADDR:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Where `/metrics`, `/healthz` and `/readyz` listen [default: 127.0.0.1:7071]
    #[arg(long, env = "SLUICE_HTTP_LISTEN", value_name = "ADDR:PORT")]
    pub http_listen: Option<SocketAddr>,
    /// Threads that carry readings [default: one per core]
    #[arg(long, env = "SLUICE_LANES", value_name = "COUNT")]
    pub lanes: Option<NonZeroUsize>,
    /// How log lines on standard error are written
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<logs::Format>,
    /// What is logged, for example `info` or `info,sluice_node=debug`
    #[arg(long, env = "SLUICE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// Checks a node's configuration and pipeline manifests without starting anything, and prints what is in effect.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  sluice config check --config /etc/sluice/node.yaml
  sluice config check --pipelines ./pipelines
  sluice config check --config node.yaml -f readings.yaml -f alarms.yaml")]
pub struct CheckArgs {
    #[command(flatten)]
    pub node: Args,
    /// A pipeline manifest to check as well; may be given again
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
}
