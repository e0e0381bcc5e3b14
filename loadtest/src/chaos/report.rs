//! The verdict of a chaos run, for people and for programs. The field names are the JSON's; they are stable.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{ChaosArgs, load::End};

/// What a run found, and why it broke off if it did.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) report: Report,
    pub(crate) error: Option<anyhow::Error>,
}

/// What a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) nodes: u8,
    pub(crate) mqtt: &'static str,
    pub(crate) seed: u64,
    /// Rounds whose fault bit.
    pub(crate) rounds: usize,
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) for_nobody: u64,
    pub(crate) refused: u64,
    pub(crate) resent: u64,
    pub(crate) mqtt_sessions_lost: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) kinds: Vec<Summary>,
    /// At most ten.
    pub(crate) lost_examples: Vec<String>,
}

/// One round.
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) round: usize,
    pub(crate) kind: &'static str,
    pub(crate) bit: bool,
    /// The longest silence of a shard that the fault concerned; null: none of those can be seen apart.
    pub(crate) gap_ms: Option<u64>,
    /// The longest silence of any other shard; null: the fault concerned all.
    pub(crate) others_gap_ms: Option<u64>,
    /// The longest that a reading took to Kafka.
    pub(crate) wait_max_ms: u64,
    pub(crate) lost: usize,
    pub(crate) duplicated: u64,
    pub(crate) for_nobody: u64,
    /// The longest silence of each shard that the fault concerned.
    pub(crate) shard_gaps_ms: Vec<u64>,
    /// Nodes that ended by themselves and should not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ended: Vec<String>,
    pub(crate) evidence: String,
    pub(crate) replay: String,
}

/// All rounds of a kind that bit.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) kind: &'static str,
    pub(crate) rounds: usize,
    pub(crate) gap_p50_ms: Option<u64>,
    pub(crate) gap_max_ms: Option<u64>,
    pub(crate) shard_gap_p50_ms: Option<u64>,
    pub(crate) others_gap_max_ms: Option<u64>,
}

impl Report {
    pub(crate) fn new(args: &ChaosArgs, seed: u64) -> Self {
        Self {
            nodes: args.nodes,
            mqtt: args.mqtt.name(),
            seed,
            rounds: 0,
            published: 0,
            acknowledged: 0,
            delivered: 0,
            lost: 0,
            duplicated: 0,
            for_nobody: 0,
            refused: 0,
            resent: 0,
            mqtt_sessions_lost: 0,
            faults: Vec::new(),
            kinds: Vec::new(),
            lost_examples: Vec::new(),
        }
    }

    /// A round is over.
    pub(crate) fn note(&mut self, fault: Fault) {
        self.rounds += usize::from(fault.bit);
        self.faults.push(fault);
        self.kinds = summaries(&self.faults);
    }

    /// The load is over.
    pub(crate) fn end(&mut self, end: &End) {
        self.published = end.published;
        self.acknowledged = end.counts.acknowledged;
        self.delivered = end.counts.delivered;
        self.lost = end.counts.lost();
        self.duplicated = end.counts.duplicated;
        self.for_nobody = end.for_nobody;
        self.refused = end.refused;
        self.resent = end.resent;
        self.mqtt_sessions_lost = end.mqtt_sessions_lost;
        self.lost_examples = end.lost_examples.iter().take(10).map(ToString::to_string).collect();
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: u64, note: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<14}{value:>12}   {note}");
        };
        line("rounds", self.rounds as u64, &format!("{} nodes, {}, seed {}", self.nodes, self.mqtt, self.seed));
        line("published", self.published, "");
        line("acknowledged", self.acknowledged, "");
        line("lost", self.lost, &self.lost_examples.join(" "));
        line("duplicated", self.duplicated, &format!("{} readings were sent again by the publishers", self.resent));
        line("for nobody", self.for_nobody, "said the MQTT broker: nobody was subscribed");
        let gap = |gap: Option<u64>| gap.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        let _ = writeln!(
            text,
            "\n{:<20}{:>7}{:>12}{:>12}{:>14}{:>16}",
            "fault", "rounds", "gap p50 ms", "gap max ms", "shard p50 ms", "others max ms"
        );
        for kind in &self.kinds {
            let _ = writeln!(
                text,
                "{:<20}{:>7}{:>12}{:>12}{:>14}{:>16}",
                kind.kind,
                kind.rounds,
                gap(kind.gap_p50_ms),
                gap(kind.gap_max_ms),
                gap(kind.shard_gap_p50_ms),
                gap(kind.others_gap_max_ms)
            );
        }
        text
    }
}

fn summaries(faults: &[Fault]) -> Vec<Summary> {
    let mut kinds: BTreeMap<&'static str, Vec<&Fault>> = BTreeMap::new();
    for fault in faults.iter().filter(|fault| fault.bit) {
        kinds.entry(fault.kind).or_default().push(fault);
    }
    let summary = |(kind, faults): (&'static str, Vec<&Fault>)| {
        let gaps: Vec<u64> = faults.iter().filter_map(|fault| fault.gap_ms).collect();
        Summary {
            kind,
            rounds: faults.len(),
            gap_max_ms: gaps.iter().copied().max(),
            gap_p50_ms: median(gaps),
            shard_gap_p50_ms: median(faults.iter().flat_map(|fault| fault.shard_gaps_ms.clone()).collect()),
            others_gap_max_ms: faults.iter().filter_map(|fault| fault.others_gap_ms).max(),
        }
    };
    kinds.into_iter().map(summary).collect()
}

/// The upper one of two in the middle.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: &'static str, bit: bool, gap_ms: u64) -> Fault {
        Fault {
            round: 1,
            kind,
            bit,
            gap_ms: Some(gap_ms),
            others_gap_ms: None,
            wait_max_ms: 0,
            lost: 0,
            duplicated: 0,
            for_nobody: 0,
            shard_gaps_ms: vec![gap_ms, 1],
            ended: Vec::new(),
            evidence: String::new(),
            replay: String::new(),
        }
    }

    #[test]
    fn only_faults_that_bit_count() {
        let faults = [fault("a", true, 10), fault("a", false, 9_000), fault("a", true, 30), fault("a", true, 20)];
        let expected = Summary {
            kind: "a",
            rounds: 3,
            gap_p50_ms: Some(20),
            gap_max_ms: Some(30),
            shard_gap_p50_ms: Some(10),
            others_gap_max_ms: None,
        };
        assert_eq!(summaries(&faults), [expected]);
    }
}
