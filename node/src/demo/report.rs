//! The result of a demo.

use serde::Serialize;

use super::{cluster::Killed, tally::Tally};

/// What came of it. Field names are part of the interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Readings that the sensors sent; the MQTT broker acknowledged all of them.
    pub published: u64,
    /// Of those, found in Kafka.
    pub delivered: u64,
    /// Acknowledged to a sensor and not found in Kafka.
    pub lost: u64,
    /// Records found beyond the first of each reading.
    pub duplicated: u64,
    /// Median latency from publish to arrival at a reader of Kafka, in milliseconds.
    pub p50_ms: f64,
    /// The same for the slowest of a hundred.
    pub p99_ms: f64,
    /// Nodes that were killed, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kills: Vec<Killed>,
}

impl Report {
    pub(super) fn of(tally: &Tally, kills: Vec<Killed>) -> Self {
        let (totals, latency) = (tally.totals(), tally.latency());
        Self {
            published: totals.published,
            delivered: totals.delivered,
            lost: totals.missing,
            duplicated: totals.duplicated,
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
            kills,
        }
    }

    /// Whether Sluice kept its promise, and had something to keep.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.delivered > 0
    }

    /// Names and values, for a table.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<_> = [
            ("published", self.published.to_string()),
            ("delivered", self.delivered.to_string()),
            ("lost", self.lost.to_string()),
            ("duplicated", self.duplicated.to_string()),
            ("p50_ms", self.p50_ms.to_string()),
            ("p99_ms", self.p99_ms.to_string()),
        ]
        .map(|(name, value)| vec![name.to_owned(), value])
        .into();
        rows.extend(self.kills.iter().map(|killed| vec![format!("gap_ms of {}", killed.node), killed.gap()]));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_the_stated_ones() -> anyhow::Result<()> {
        let mut report =
            Report { published: 3, delivered: 2, lost: 1, duplicated: 0, p50_ms: 7.5, p99_ms: 20.0, kills: Vec::new() };
        let expected = r#"{"published":3,"delivered":2,"lost":1,"duplicated":0,"p50_ms":7.5,"p99_ms":20.0}"#;
        assert_eq!(serde_json::to_string(&report)?, expected);
        assert!(!report.is_good());
        report.kills.push(Killed { node: "sluice-1".to_owned(), shards: 2, gap_ms: None });
        let expected = expected.replace('}', r#","kills":[{"node":"sluice-1","shards":2,"gap_ms":null}]}"#);
        assert_eq!(serde_json::to_string(&report)?, expected);
        Ok(())
    }
}
