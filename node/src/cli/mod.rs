//! The command line: a noun, then a verb. Data goes to standard output, talk to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 the command, configuration or manifest is wrong.

mod checkpoints;
mod client;
mod cluster;
mod demo;
mod error;
mod nodes;
mod output;
mod pipelines;
mod serve;
mod shards;
mod status;
mod text;

use std::{
    panic,
    path::PathBuf,
    process::{self, ExitCode},
};

use clap::{Parser, Subcommand};

pub use self::{
    error::Failure,
    output::{Output, write_line},
};

/// Sluice carries readings from MQTT brokers to Kafka and loses none.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, propagate_version = true)]
#[command(after_help = "\
Examples:
  sluice serve --config node.yaml           run a node
  sluice demo                               watch readings travel; nothing to install
  sluice demo --nodes 3                     the same on a cluster; kill a node and watch
  sluice config check --config node.yaml    check everything, start nothing
  sluice status                             who answers, who leads, who is a member
  sluice nodes list                         every node, how it fares and what it carries
  sluice pipelines apply -f readings.yaml   create or change a pipeline
  sluice shards list --watch                follow every shard of every pipeline
  sluice checkpoints list -o json           what has been delivered, for a program

Exit codes: 0 done, 1 failed, 2 the command, configuration or manifest is wrong.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(Box<serve::ServeArgs>),
    /// Watch readings travel from simulated sensors to Kafka; needs nothing else
    Demo(crate::demo::Args),
    /// Check configuration without starting anything
    #[command(subcommand)]
    Config(serve::ConfigCommand),
    /// Show the node that answers, the leader and the members
    Status(status::Args),
    /// See the nodes; empty one on purpose, fill it again, take it out
    #[command(subcommand)]
    Nodes(nodes::Command),
    /// See who votes and how far they are; found a cluster, or bring one back that lost most of its disks
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Declare what is carried from where to where
    #[command(subcommand)]
    Pipelines(pipelines::Command),
    /// See which node runs which shard, and how it fares; move one
    #[command(subcommand)]
    Shards(shards::Command),
    /// See what has been delivered, as the replicated log holds it
    #[command(subcommand)]
    Checkpoints(checkpoints::Command),
}

/// Where the node is and how to print; the same for every command that asks a node.
#[derive(Debug, Clone, clap::Args)]
struct Remote {
    /// URL of a node's gRPC listener, any node's of the cluster
    #[arg(long, env = "SLUICE_ADMIN", value_name = "URL", default_value = "http://127.0.0.1:7070")]
    admin: String,
    /// Certificates (PEM) to check an https:// node against [default: the system's]
    #[arg(long, env = "SLUICE_ADMIN_CA", value_name = "PATH")]
    admin_ca: Option<PathBuf>,
    /// Token to show the node; better in the environment, since others see this process's arguments
    #[arg(long, env = "SLUICE_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// How the answer is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Parses the arguments of this process and does what they say.
pub fn run() -> ExitCode {
    // clap itself leaves with 0 for help and 2 for a usage error.
    let cli = Cli::parse();
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sluice: {failure}");
            failure.exit_code()
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Config(command) => serve::check(&command),
        Command::Status(args) => block_on(status::run(args)),
        Command::Nodes(command) => block_on(nodes::run(command)),
        Command::Cluster(command) => cluster::run(command),
        Command::Pipelines(command) => block_on(pipelines::run(command)),
        Command::Shards(command) => block_on(shards::run(command)),
        Command::Checkpoints(command) => block_on(checkpoints::run(command)),
    }
}

/// A thread that panicked would leave its shards unattended. A node that dies loses nothing, and whoever watches it starts it again.
fn die_of_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        tell(panicked);
        tracing::error!("this is a defect of Sluice: the node ends, and MQTT sends again what was in flight");
        process::abort();
    }));
}

/// Runs a command that asks one node: one thread is plenty.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_destroys_asks_for_yes() {
        for words in [
            "pipelines delete x",
            "nodes remove sluice-2",
            "cluster bootstrap --force",
            "cluster recover --force --data-dir /d",
        ] {
            let words: Vec<_> = ["sluice"].into_iter().chain(words.split(' ')).collect();
            let refused = Cli::try_parse_from(&words).map_err(|error| error.to_string());
            assert!(refused.is_err_and(|said| said.contains("--yes")), "{words:?}");
            assert!(Cli::try_parse_from(words.iter().chain(&["--yes"])).is_ok(), "{words:?}");
        }
        assert!(Cli::try_parse_from(["sluice", "cluster", "bootstrap"]).is_ok(), "destroys nothing");
    }
}
