//! The reading that the demo's sensors send, and how to tell from its JSON which one it is. Pure.

use std::{f64::consts::TAU, fmt::Write as _};

use serde::Deserialize;

/// Zones that the sensors are spread over.
const ZONES: [&str; 4] = ["zoneA", "zoneB", "zoneC", "zoneD"];

/// A simulated sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device(pub(super) u32);

impl Device {
    fn zone(self) -> &'static str {
        ZONES[self.0 as usize % ZONES.len()]
    }

    /// Where it publishes.
    pub(super) fn topic(self) -> String {
        format!("factory/{}/sensor-{:05}/reading", self.zone(), self.0)
    }

    /// Its reading number `seq`, taken at `unix_ms`: about 110 bytes of JSON, written to `json`.
    pub(super) fn write_reading(self, seq: u64, unix_ms: u64, json: &mut String) {
        // A slow wave, another phase for each sensor: looks alive and needs no randomness.
        let phase = (f64::from(self.0) / 7.0 + f64::from(u32::try_from(seq % 600).unwrap_or(0)) / 600.0) * TAU;
        let (temperature, pressure) = (21.5 + 4.0 * phase.sin(), 1013.2 + 6.0 * phase.cos());
        json.clear();
        // Writing to a String cannot fail.
        let _ = write!(
            json,
            r#"{{"device":"sensor-{:05}","zone":"{}","seq":{seq},"ts":{unix_ms},"temperature":{temperature:.2},"pressure":{pressure:.1},"unit":"C"}}"#,
            self.0,
            self.zone(),
        );
    }
}

/// Which reading a record's value is; `None`: none that a sensor of the demo sent.
pub(super) fn identify(json: &[u8]) -> Option<(Device, u64)> {
    #[derive(Deserialize)]
    struct Identity<'a> {
        device: &'a str,
        seq: u64,
    }
    let identity: Identity<'_> = serde_json::from_slice(json).ok()?;
    let device = identity.device.strip_prefix("sensor-")?.parse().ok()?;
    Some((Device(device), identity.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_recognised_by_what_it_says() {
        let mut json = String::new();
        Device(42).write_reading(17, 1_763_829_000_123, &mut json);
        assert!(
            json.starts_with(r#"{"device":"sensor-00042","zone":"zoneC","seq":17,"ts":1763829000123,"temperature":"#)
        );
        assert!((105..130).contains(&json.len()), "{json}");
        assert_eq!(identify(json.as_bytes()), Some((Device(42), 17)));
        assert_eq!(identify(b"{}"), None);
        assert_eq!(Device(42).topic(), "factory/zoneC/sensor-00042/reading");
    }
}
