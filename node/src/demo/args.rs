//! The command line of `sluice demo`.

use std::{io::IsTerminal as _, time::Duration};

use crate::cli::Output;

/// Shows readings travelling from simulated sensors through MQTT and Sluice to Kafka.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Nothing else has to be installed. The MQTT broker and the Kafka live in this process on free loopback ports; the Kafka \
is a mock that keeps nothing. A reader of Kafka outside the nodes counts what arrives, by device and number.

With --nodes 3 the nodes are processes of their own that form a cluster on loopback, with shorter timings than a network \
would want. In the live view a digit or the arrow keys select a node; k kills it (kill -9), s starts it again, or stops it in order \
and starts it again, q ends the demo.

Examples:
  sluice demo                              a live view, until q or Ctrl-C
  sluice demo --duration 15s -o json       one line: {published, delivered, lost, duplicated, p50_ms, p99_ms}
  sluice demo --rate 2000 --devices 50 --shards 2
  sluice demo --nodes 3                    a cluster: kill a node, watch its shards move
  sluice demo --nodes 3 --duration 15s --kill-after 5s -o json
                                           the same without watching; the line also has kills: [{node, shards, gap_ms}]

Exit code 1: a reading that the MQTT broker had acknowledged did not arrive, or nothing did.")]
pub struct Args {
    /// How long the sensors publish, for example 15s or 2m; until q or Ctrl-C without it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Readings a second, of all sensors together
    #[arg(long, value_name = "COUNT", default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: u32,
    /// Simulated sensors
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    pub(super) devices: u32,
    /// Shards of the pipeline
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) shards: u32,
    /// Nodes; more than one are processes of their own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(super) nodes: u8,
    /// Kill (kill -9) the node that leads the cluster, once, this long after the sensors start; of two
    /// nodes one alone cannot take over, so it needs three
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) kill_after: Option<Duration>,
    /// How the result is printed; a live view needs a terminal and 'table'
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

impl Args {
    /// Whether the demo draws on the terminal, where log lines would disturb it.
    pub fn is_live(&self) -> bool {
        self.output == Output::Table && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
    }

    /// What the arguments say together that they may not.
    pub fn check(&self) -> Result<(), String> {
        let Some(kill_after) = self.kill_after else { return Ok(()) };
        if self.nodes < 3 {
            return Err("--kill-after kills a node whose shards others take over; give --nodes 3 or more".to_owned());
        }
        if self.duration.is_some_and(|duration| duration <= kill_after) {
            return Err("--kill-after lies beyond --duration; give it less, or --duration more".to_owned());
        }
        Ok(())
    }

    /// How the result is to be printed.
    pub fn output(&self) -> Output {
        self.output
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}; give for example 15s or 2m"))?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| "give more than 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("2m 5s"), Ok(Duration::from_secs(125)));
        assert!(duration("0s").is_err() && duration("-1s").is_err() && duration("soon").is_err());
    }
}
