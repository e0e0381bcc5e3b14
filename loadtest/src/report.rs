//! The verdict, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::Output;

/// What a run found. The field names are the JSON's; they are stable.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) run: String,
    pub(crate) qos: u8,
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) undelivered: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) refused: u64,
    /// Acknowledged with the remark that nobody was subscribed.
    pub(crate) for_nobody: u64,
    pub(crate) resent: u64,
    pub(crate) reconnects: u64,
    pub(crate) mqtt_sessions_lost: u64,
    /// Seconds from the start to the last acknowledgement that was waited for.
    pub(crate) publish_seconds: f64,
    pub(crate) publish_rate: f64,
    /// Seconds from the first to the last delivery.
    pub(crate) delivery_seconds: f64,
    pub(crate) delivery_rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readings_per_cpu_second: Option<f64>,
    /// At most ten.
    pub(crate) lost_examples: Vec<String>,
}

impl Report {
    /// Nothing that was acknowledged is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.lost == 0
    }

    pub(crate) fn render(&self, output: Output) -> anyhow::Result<String> {
        match output {
            Output::Json => Ok(serde_json::to_string(self)? + "\n"),
            Output::Text => self.text(),
        }
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        writeln!(
            text,
            "published     {:>12}   {:.0}/s for {:.1} s",
            self.published, self.publish_rate, self.publish_seconds
        )?;
        writeln!(text, "acknowledged  {:>12}", self.acknowledged)?;
        writeln!(text, "delivered     {:>12}   {:.0}/s", self.delivered, self.delivery_rate)?;
        writeln!(text, "lost          {:>12}", self.lost)?;
        writeln!(text, "undelivered   {:>12}", self.undelivered)?;
        writeln!(text, "duplicated    {:>12}", self.duplicated)?;
        writeln!(text, "reordered     {:>12}", self.reordered)?;
        writeln!(
            text,
            "latency       p50 {:.1} ms   p99 {:.1} ms   p99.9 {:.1} ms   max {:.1} ms",
            self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        if let (Some(seconds), Some(rate)) = (self.node_cpu_seconds, self.readings_per_cpu_second) {
            writeln!(text, "node CPU      {seconds:>12.2} s   {rate:.0} readings per CPU-second")?;
        }
        if self.reconnects > 0 {
            writeln!(
                text,
                "reconnects    {:>12}   {} readings sent again, {} sessions forgotten by the MQTT broker",
                self.reconnects, self.resent, self.mqtt_sessions_lost
            )?;
        }
        if self.refused > 0 {
            writeln!(text, "refused       {:>12}   by the MQTT broker", self.refused)?;
        }
        if self.for_nobody > 0 {
            writeln!(
                text,
                "for nobody    {:>12}   said the MQTT broker: nobody was subscribed when they came",
                self.for_nobody
            )?;
        }
        if !self.lost_examples.is_empty() {
            writeln!(text, "missing       {}", self.lost_examples.join(" "))?;
        }
        Ok(text)
    }
}
