//! The command line: names, defaults, bounds and words of every option.

use std::{str::FromStr, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench::{BenchArgs, FirehoseArgs},
    chaos::ChaosArgs,
    compare::CompareArgs,
    wire::Qos,
};

/// Readings under way per connection: above it flat-out publishing only fills the broker's memory.
const WINDOW_DEFAULT: u16 = 2_000;

/// Judges an MQTT to Kafka pipeline from outside: MQTT in, Kafka out.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish numbered readings, read Kafka, compare
    #[command(long_about = LONG)]
    Run(RunArgs),
    /// Play faults on a cluster between real brokers, and prove that nothing is lost
    #[command(long_about = CHAOS)]
    Chaos(ChaosArgs),
    /// Measure how much a node carries, per second and per second of CPU
    #[command(long_about = BENCH)]
    Bench(BenchArgs),
    /// Give Sluice and another bridge the same work, in turn
    #[command(long_about = COMPARE)]
    Compare(CompareArgs),
    /// The broker of a bench, in a process of its own
    #[command(hide = true)]
    Firehose(FirehoseArgs),
}

const BENCH: &str = "\
Measure how much a node carries, per second and per second of CPU.

Starts Apache Kafka once, and for every run a firehose and a `sluice serve`. The firehose is an MQTT broker that sends readings
encoded beforehand to every session, as fast as they are acknowledged and never more than the window, and checks that acks come in
order. After a warm-up the run is measured: what Kafka has more at its end than at its begin, against the CPU time (user and
system) of the node's process. Needs what tests/run installs and fetches.

  readings/CPU-second  the figure: it depends little on what else the machine does
  readings/s           here firehose, node and Kafka share the machine's cores
  acks/write           acks that came with one read of the broker's
  p50, p99             from the broker's write of a reading to its read of the ack: through the node to Kafka and back. Without a
                       rate a full window waits, so only the cases with a rate tell of latency
  instr./reading       user and kernel, where perf finds a counter

Exit code: 0 all runs were made, 2 one could not, or something that was acknowledged is not in Kafka.

Examples:
  loadtest bench --list
  loadtest bench --case qos1 --runs 5 -o json
  loadtest bench                               # every case once: about 9 minutes";

const COMPARE: &str = "\
Give Sluice and another bridge the same work, in turn.

Starts Apache Kafka once, and for each bridge and run a Mosquitto (window 1,000, unbounded queue) and a topic of 12 partitions. The
bridge is started until it carries, so that its session exists, and stopped; a backlog is published; it is started again and
drains it; then readings come at a rate. The figure is readings delivered per second of CPU (user and system) that the bridge's
process has used; the drain counts from its start. Needs what tests/run installs and fetches.

The peer's command must keep its session between runs, subscribe to factory/+/+/reading with QoS 1 at $MQTT, and write each payload
as it is to the topic $TOPIC at $KAFKA. It runs in a directory of its own, ends with SIGTERM, and is one process.

Exit code: 0 Sluice lost nothing, 1 it did, 2 the comparison could not be made.

Example, with what loadtest/peers/telegraf/build has built:

  loadtest compare --peer-name telegraf --peer \"$PWD/telegraf --config $PWD/loadtest/peers/telegraf/telegraf.conf\"";

const CHAOS: &str = "\
Play faults on a cluster between real brokers, and prove that nothing is lost.

Starts an MQTT broker, Apache Kafka and a cluster of `sluice serve`, applies pipelines, and publishes numbered readings all
the time (QoS 1). Then, round after round: a fault by chance, healing, and proof: everything that the MQTT broker had
acknowledged must come to Kafka. Needs what tests/run installs and fetches; network partitions and full disks need root.

A fault counts only if it bit: killed nodes had readings in flight, a partition made packets be sent again, a paused node
lost its shards, and so on. A round whose fault did not bite is played again.

  lost        acknowledged, and not in Kafka when the run is over: the one that must be 0. What the MQTT broker said is for
              nobody counts as for_nobody in rounds that end that broker (Mosquitto forgets who shared a subscription), else it is lost
  duplicated  further copies in Kafka of a reading that was there already
  gap_ms      the longest silence, by Kafka's clock, of a shard that the fault concerned; others_gap_ms: of any other
  wait_max_ms the longest that a reading took to Kafka

Exit code: 0 nothing acknowledged is missing, 1 something is, 2 the run could not be made or too few faults bit.

Examples:
  loadtest chaos --nodes 3 --rounds 30
  loadtest chaos --nodes 3 --rounds 40 --faults kill-follower,kill-leader     # how long is a failover?
  loadtest chaos --nodes 3 --rounds 20 --faults drain                         # and a planned move?
  loadtest chaos --nodes 3 --rounds 10 --mqtt hivemq-mended --plain";

const LONG: &str = "\
Publish numbered readings, read Kafka, compare.

Each reading is a JSON object with its device, its number and the time at which it was meant to be sent. loadtest keeps
every reading that the MQTT broker acknowledged, reads all partitions of the Kafka topics from their ends onwards
(read_committed), and compares. It knows nothing of what lies between, so it judges any bridge.

  published     readings written to the MQTT broker (a reading that is sent again counts once)
  acknowledged  of those, PUBACK (QoS 1) or PUBCOMP (QoS 2) came back without an error
  delivered     distinct readings of this run seen in Kafka
  lost          acknowledged, and not in Kafka after --settle of silence: the one that must be 0. It counts what a
                restarted Mosquitto acknowledged to nobody (see `for nobody`), which no subscriber can get
  undelivered   published, acknowledged or not, and not in Kafka
  duplicated    further copies in Kafka of a reading that was there already
  reordered     first copies that came after a younger reading of the same device
  latency       from the intended time of sending (not the actual one, so that a stalled sender hides nothing) to the
                moment that Kafka's consumer handed the reading out; timers add up to 1 ms

When the MQTT broker goes away, loadtest connects again with the same session and sends what was not acknowledged once
more, with the DUP flag; such copies may show up as duplicates (see `resent` in the report).

Exit code: 0 nothing acknowledged is missing, 1 something is, 2 the run could not be made.

Example, against your own broker and Kafka, while a pipeline carries factory/+/+/reading to iot-sensor-readings:

  loadtest run --mqtt mqtt://127.0.0.1:1883 --kafka 127.0.0.1:9092 \\
    --kafka-topic iot-sensor-readings --devices 1000 --rate 20000 --duration 30s

How many readings does the bridge carry per second of CPU? Pause it, run this with a long --settle and the bridge's
process id, and resume it when the publishing is over: what it burns is then the drain alone.

  loadtest run ... --rate 0 --duration 20s --settle 120s --node-pid $(pidof sluice) -o json";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// MQTT broker to publish to
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub(crate) mqtt: MqttUrl,
    /// Kafka bootstrap servers, as host:port[,host:port]
    #[arg(long, value_name = "SERVERS", default_value = "127.0.0.1:9092")]
    pub(crate) kafka: String,
    /// Kafka topic in which the readings must arrive; may be given more than once
    #[arg(long, value_name = "TOPIC", required = true)]
    pub(crate) kafka_topic: Vec<String>,
    /// MQTT topic of a device; {zone} and {device} are filled in
    #[arg(long, value_name = "TEMPLATE", default_value = "factory/{zone}/{device}/reading", value_parser = topic_template)]
    pub(crate) topic_template: String,
    /// Simulated devices
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) devices: u32,
    /// Readings per second over all devices; 0: as fast as the MQTT broker takes them
    #[arg(long, value_name = "READINGS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=5_000_000))]
    pub(crate) rate: u32,
    /// How long to publish, as 500ms, 30s, 5m, 1h
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Quality of service of the publications. With 0 nothing is acknowledged: see `undelivered`
    #[arg(long, value_enum, default_value_t = Qos::AtLeastOnce)]
    pub(crate) qos: Qos,
    /// Size of a payload; shorter than the reading itself (about 115) means: no padding
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub(crate) payload_bytes: u32,
    /// MQTT connections; a device always uses the same one
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) connections: u32,
    /// Readings under way per connection; the MQTT broker's Receive Maximum may lower it
    #[arg(long, value_name = "READINGS", default_value_t = WINDOW_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    pub(crate) window: u16,
    /// Give up on missing readings (or missing acknowledgements) after so much silence
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) settle: Duration,
    /// User name for the MQTT broker
    #[arg(long)]
    pub(crate) username: Option<String>,
    /// File that holds the password for the MQTT broker
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<std::path::PathBuf>,
    /// Process whose CPU time to set against the delivered readings (Linux)
    #[arg(long, value_name = "PID")]
    pub(crate) node_pid: Option<u32>,
    /// Form of the report; progress goes to stderr
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object on one line
    Json,
}

/// Where the MQTT broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MqttUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for MqttUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let url = url::Url::parse(text).context("an address looks like mqtt://host:port")?;
        if url.scheme() != "mqtt" && url.scheme() != "tcp" {
            bail!("only mqtt:// is spoken here, not {}://", url.scheme());
        }
        let host = url.host_str().context("the address names no host")?.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: url.port().unwrap_or(1883) })
    }
}

/// An MQTT topic that tells the devices apart: on one topic for all, none of them has an order of its own.
fn topic_template(text: &str) -> anyhow::Result<String> {
    if !text.contains("{device}") {
        bail!("it names no {{device}}, so all devices would publish to one topic");
    }
    if text.contains(['+', '#']) {
        bail!("'+' and '#' are wildcards, and no part of a topic that is published to");
    }
    Ok(text.to_owned())
}

/// Parses a property of librdkafka.
pub(crate) fn property(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').context("a property looks like linger.ms=0")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Parses `500ms`, `30s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> anyhow::Result<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().context("a duration looks like 500ms, 30s, 5m or 1h")?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => bail!("a duration looks like 500ms, 30s, 5m or 1h"),
    };
    let duration = Duration::from_millis(number.saturating_mul(millis));
    // A day: the oracle keeps two bits a reading and numbers them with 32 bits a device.
    if duration > Duration::from_secs(86_400) {
        bail!("at most 24h");
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("500ms").ok(), Some(Duration::from_millis(500)));
        assert_eq!(duration("2m").ok(), Some(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "5d", "-1s", "25h", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_topic_names_its_device() {
        assert!(topic_template("a/{zone}/{device}").is_ok());
        for wrong in ["a/{zone}", "a/+/{device}", "{device}/#"] {
            assert!(topic_template(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_name_host_and_port() {
        let parsed = |text: &str| text.parse::<MqttUrl>().ok().map(|url| (url.host, url.port));
        assert_eq!(parsed("mqtt://localhost"), Some(("localhost".to_owned(), 1883)));
        assert_eq!(parsed("mqtt://[::1]:77"), Some(("::1".to_owned(), 77)));
        assert_eq!(parsed("mqtts://localhost"), None);
        assert_eq!(parsed("localhost:1883"), None);
    }
}
