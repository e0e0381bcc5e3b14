//! Metrics per shard, read from the registry of tasks.
//!
//! A counter starts at 0 with each task, that is with each epoch of a shard on this node, as counters may: what the ledger brings from
//! earlier tasks would step back after a crash, which a rate takes for a restart.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::registry::{LATENCY_BOUNDS_MS, Registry, State, Task};

/// A counter's name without `_total`, its help, and where it is read.
type Counter = (&'static str, &'static str, fn(&Task) -> u64);

const COUNTERS: [Counter; 9] = [
    ("sluice_readings_received", "Readings decoded from MQTT.", |task| task.received.own()),
    ("sluice_readings_redelivered", "Of the received, those with the DUP flag.", |task| task.redelivered.own()),
    ("sluice_readings_delivered", "Readings that Kafka acknowledged.", |task| task.delivered.own()),
    ("sluice_readings_filtered", "Readings left out on purpose.", |task| task.filtered.own()),
    ("sluice_readings_dead_lettered", "Readings delivered to the dead-letter topic.", |task| task.dead_lettered.own()),
    (
        "sluice_readings_returned",
        "Readings left to the MQTT broker unacknowledged, which sends them again unless delivery is at-most-once.",
        |task| task.returned.own(),
    ),
    ("sluice_readings_acked", "Readings acknowledged to MQTT (QoS 1 and 2).", |task| task.acked.own()),
    ("sluice_mqtt_connections", "Connections to the MQTT broker that it accepted.", |task| task.connections.own()),
    ("sluice_mqtt_sessions_lost", "Sessions that the MQTT broker should have kept and had not.", |task| {
        task.sessions_lost.own()
    }),
];

/// A gauge's name without its unit, the unit, its help, and where it is read.
type Gauge = (&'static str, Option<Unit>, &'static str, fn(&Task) -> f64);

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds of one task stay far below 2^52")]
const GAUGES: [Gauge; 5] = [
    ("sluice_readings_in_flight", None, "Readings handed to Kafka and not yet acknowledged by it.", |task| {
        task.in_flight.get() as f64
    }),
    ("sluice_readings_in_flight", Some(Unit::Bytes), "Payload and key bytes of the readings in flight.", |task| {
        task.in_flight_bytes.get() as f64
    }),
    (
        "sluice_readings_unaccounted",
        None,
        "Received less everything known of them; not 0 at rest is a defect.",
        |task| task.unaccounted() as f64,
    ),
    (
        "sluice_oldest_unacked",
        Some(Unit::Seconds),
        "Age of the oldest reading not acknowledged to MQTT; 0: none.",
        |task| task.oldest_unacked_ms.get() as f64 / 1e3,
    ),
    ("sluice_shard_epoch", None, "Number of the assignment that the task runs under.", |task| task.epoch.0 as f64),
];

const STATES: [State; 7] = [
    State::Connecting,
    State::Running,
    State::BackPressure,
    State::Draining,
    State::Stopped,
    State::Failed,
    State::Retired,
];

/// The tasks of this node, as metrics.
#[derive(Debug)]
pub(super) struct Tasks(pub(super) Arc<Registry>);

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tasks = self.0.tasks();
        for (name, help, read) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            each(&tasks, &mut metric, |task, mut metric| {
                metric.encode_counter::<NoLabelSet, _, f64>(&read(task), None)
            })?;
        }
        for (name, unit, help, read) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            each(&tasks, &mut metric, |task, mut metric| metric.encode_gauge(&read(task)))?;
        }
        latencies(&tasks, &mut encoder)?;
        states(&tasks, &mut encoder)
    }
}

/// One sample a task, labelled with its pipeline and shard.
fn each(
    tasks: &[Arc<Task>],
    metric: &mut MetricEncoder<'_>,
    mut sample: impl FnMut(&Task, MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    for task in tasks {
        let labels = labels(task);
        sample(task, metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn labels(task: &Task) -> impl EncodeLabelSet {
    [("pipeline", task.shard.pipeline.as_str().to_owned()), ("shard", task.shard.index.to_string())]
}

fn latencies(tasks: &[Arc<Task>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "From receipt of a reading to Kafka's acknowledgement.";
    let mut metric =
        encoder.encode_descriptor("sluice_delivery_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    each(tasks, &mut metric, |task, mut metric| {
        let counts = task.latency.buckets();
        metric.encode_histogram::<NoLabelSet>(
            task.latency.sum_seconds(),
            counts.iter().sum(),
            &bounds_seconds().zip(counts).collect::<Vec<_>>(),
            None,
        )
    })
}

#[expect(clippy::cast_precision_loss, reason = "the bounds are small")]
fn bounds_seconds() -> impl Iterator<Item = f64> {
    LATENCY_BOUNDS_MS.iter().map(|&bound_ms| bound_ms as f64 / 1e3).chain([f64::INFINITY])
}

/// 1 for the state that a task is in, 0 for the others: the library has no state set.
fn states(tasks: &[Arc<Task>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "1 for the state that the shard's task is in.";
    let mut metric = encoder.encode_descriptor("sluice_shard_state", help, None, MetricType::Gauge)?;
    for task in tasks {
        let now = task.status().state;
        for state in STATES {
            let labels = [
                ("pipeline", task.shard.pipeline.as_str().to_owned()),
                ("shard", task.shard.index.to_string()),
                ("state", state.to_string()),
            ];
            metric.encode_family(&labels)?.encode_gauge(&i64::from(now == state))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sluice_coordinator::model::{Epoch, ShardId};

    use super::*;
    use crate::telemetry::metrics::{Metrics, NodeMeters};

    fn scrape_of(index: u32, prepare: impl FnOnce(&Task)) -> anyhow::Result<String> {
        let registry = Arc::new(Registry::default());
        let task = Task::new(ShardId { pipeline: "readings".parse()?, index }, Epoch(4));
        prepare(&task);
        registry.insert(Arc::new(task));
        let node = || NodeMeters {
            is_ready: true,
            has_leader: true,
            pipelines_dir_errors: 0,
            statefulset_is_unreadable: None,
            overview: None,
        };
        Ok(Metrics::new(registry, Arc::new(node)).scrape()?)
    }

    fn value(text: &str, sample: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn a_scrape_shows_what_the_meters_hold() -> anyhow::Result<()> {
        let text = scrape_of(3, |task| {
            task.received.set(10);
            task.delivered.set(6);
            task.in_flight.set(3);
            task.oldest_unacked_ms.set(1_500);
            task.latency.record(4_000, 5);
            task.latency.record(90_000_000, 1);
            task.set_status(State::BackPressure, "");
        })?;
        let shard = r#"pipeline="readings",shard="3""#;
        let latency = "sluice_delivery_latency_seconds";
        for (sample, expected) in [
            (format!("sluice_readings_received_total{{{shard}}}"), 10.0),
            (format!("sluice_readings_delivered_total{{{shard}}}"), 6.0),
            (format!("sluice_readings_in_flight{{{shard}}}"), 3.0),
            (format!("sluice_readings_unaccounted{{{shard}}}"), 1.0),
            (format!("sluice_oldest_unacked_seconds{{{shard}}}"), 1.5),
            (format!("sluice_shard_epoch{{{shard}}}"), 4.0),
            (format!(r#"sluice_shard_state{{state="back-pressure",{shard}}}"#), 1.0),
            (format!(r#"sluice_shard_state{{state="running",{shard}}}"#), 0.0),
            (format!(r#"{latency}_bucket{{le="0.002",{shard}}}"#), 0.0),
            (format!(r#"{latency}_bucket{{le="0.005",{shard}}}"#), 5.0),
            (format!(r#"{latency}_bucket{{le="+Inf",{shard}}}"#), 6.0),
            (format!("{latency}_count{{{shard}}}"), 6.0),
            (format!("{latency}_sum{{{shard}}}"), 90.02),
        ] {
            assert_eq!(value(&sorted(&text), &sorted(&sample)), Some(expected), "{sample}\n{text}");
        }
        Ok(())
    }

    /// Label order carries no meaning in `OpenMetrics`, so neither side of a comparison may depend on it.
    fn sorted(text: &str) -> String {
        let line = |line: &str| match (line.find('{'), line.rfind('}')) {
            (Some(open), Some(close)) if !line.starts_with('#') => {
                let mut labels: Vec<_> = line[open + 1..close].split(',').collect();
                labels.sort_unstable();
                format!("{}{}{}", &line[..=open], labels.join(","), &line[close..])
            }
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The rules of `OpenMetrics` that a strict scraper checks: families apart, declared once, ended with EOF.
    #[test]
    fn a_scrape_is_well_formed() -> anyhow::Result<()> {
        let text = scrape_of(0, |_| {})?;
        let mut families = std::collections::BTreeSet::new();
        let mut current = ("", "");
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("#", rest)) if rest.starts_with("TYPE ") => {
                    current = rest[5..].split_once(' ').ok_or_else(|| anyhow::anyhow!("{line}"))?;
                    assert!(families.insert(current.0), "declared twice: {line}");
                }
                Some(("#", _)) => {}
                _ => {
                    let suffixes: &[&str] = match current.1 {
                        "counter" => &["_total"],
                        "info" => &["_info"],
                        "histogram" => &["_bucket", "_count", "_sum"],
                        _ => &[""],
                    };
                    let name = line.split(['{', ' ']).next().unwrap_or_default();
                    assert!(suffixes.iter().any(|suffix| name == format!("{}{suffix}", current.0)), "{line}");
                }
            }
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(families.contains("sluice_build") && families.contains("sluice_delivery_latency_seconds"));
        Ok(())
    }
}
