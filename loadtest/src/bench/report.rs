//! The figures, for people and for programs. The field names are the JSON's; they are stable.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{BenchArgs, bed::Look, case::Case};
use crate::lab::firehose::Latency;

/// What one run found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) readings_per_second: f64,
    pub(crate) readings_per_cpu_second: f64,
    /// Cores that the node used.
    pub(crate) node_cores: f64,
    pub(crate) node_resident_bytes: u64,
    /// First acks that came with one read of the broker's: about as many as the node wrote at once.
    pub(crate) acks_per_write: Option<f64>,
    /// Of a batch in Kafka, the mean.
    pub(crate) records_per_batch: Option<f64>,
    /// From the broker's write to its read of the ack; none with `QoS` 0.
    pub(crate) latency_us: Option<Latency>,
    pub(crate) instructions_per_reading: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
impl Run {
    pub(crate) fn of(
        before: &Look,
        after: &Look,
        node_resident_bytes: u64,
        records_per_batch: Option<f64>,
        instructions_per_second: Option<f64>,
    ) -> Self {
        let readings = after.held.saturating_sub(before.held) as f64;
        let (time, cpu) = ((after.at - before.at).as_secs_f64(), (after.cpu_time - before.cpu_time).as_secs_f64());
        let reads = after.counts.reads.saturating_sub(before.counts.reads);
        Self {
            readings_per_second: readings / time,
            readings_per_cpu_second: readings / cpu.max(0.01),
            node_cores: cpu / time,
            node_resident_bytes,
            acks_per_write: (reads > 0).then(|| readings / reads as f64),
            records_per_batch,
            latency_us: (reads > 0).then_some(after.counts.latency_us),
            instructions_per_reading: instructions_per_second.map(|count| count * time / readings.max(1.0)),
        }
    }
}

/// What the runs of a case found: the run with the median of readings per CPU-second (the lower of two), and how far the others lie.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) case: &'static str,
    pub(crate) runs: usize,
    #[serde(flatten)]
    pub(crate) median: Run,
    pub(crate) readings_per_cpu_second_min: f64,
    pub(crate) readings_per_cpu_second_max: f64,
    /// How long each run was measured.
    pub(crate) seconds: f64,
    pub(crate) settings: Case,
    /// Of the Kafka topic.
    pub(crate) partitions: i32,
    /// librdkafka's properties that were given besides.
    pub(crate) kafka: BTreeMap<String, String>,
}

impl Report {
    /// `runs` must hold one at least.
    pub(crate) fn of(case: &Case, args: &BenchArgs, mut runs: Vec<Run>) -> Option<Self> {
        runs.sort_by(|one, other| one.readings_per_cpu_second.total_cmp(&other.readings_per_cpu_second));
        Some(Self {
            case: case.name,
            runs: runs.len(),
            median: runs.get(runs.len().checked_sub(1)? / 2)?.clone(),
            readings_per_cpu_second_min: runs.first()?.readings_per_cpu_second,
            readings_per_cpu_second_max: runs.last()?.readings_per_cpu_second,
            seconds: args.duration.as_secs_f64(),
            settings: *case,
            partitions: args.partitions,
            kafka: args.kafka.iter().cloned().collect(),
        })
    }
}

/// The table's first line.
pub(crate) fn head() -> String {
    format!(
        "{:<24} {:>12} {:>21} {:>11} {:>6} {:>8} {:>9} {:>9} {:>8} {:>8} {:>9}",
        "case",
        "readings/",
        "least - most",
        "readings/s",
        "cores",
        "RSS MiB",
        "acks/",
        "records/",
        "p50 ms",
        "p99 ms",
        "instr./"
    ) + "\n"
        + &format!("{:<24} {:>12} {:>60} {:>9} {:>27}\n", "", "CPU-second", "write", "batch", "reading")
}

/// A case's line in it.
#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
pub(crate) fn line(report: &Report) -> String {
    let run = &report.median;
    let spread = format!("{:.0} - {:.0}", report.readings_per_cpu_second_min, report.readings_per_cpu_second_max);
    let ms = |of: fn(&Latency) -> u64| {
        run.latency_us.as_ref().map_or("-".to_owned(), |latency| format!("{:.1}", of(latency) as f64 / 1_000.0))
    };
    let instructions = run.instructions_per_reading.map_or("-".to_owned(), |count| format!("{count:.0}"));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<24} {:>12.0} {:>21} {:>11.0} {:>6.2} {:>8.0} {:>9} {:>9} {:>8} {:>8} {:>9}",
        report.case,
        run.readings_per_cpu_second,
        spread,
        run.readings_per_second,
        run.node_cores,
        run.node_resident_bytes as f64 / 1_048_576.0,
        run.acks_per_write.map_or("-".to_owned(), |acks| format!("{acks:.1}")),
        run.records_per_batch.map_or("-".to_owned(), |records| format!("{records:.1}")),
        ms(|latency| latency.p50),
        ms(|latency| latency.p99),
        instructions,
    );
    text
}
