//! PURE: the numbered reading that loadtest publishes, and how to know it again.

use std::io::Write as _;

use serde::Deserialize;

/// Which reading: a device and its number there, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadingId {
    pub(crate) device: u32,
    pub(crate) seq: u32,
}

impl std::fmt::Display for ReadingId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sensor-{:05}#{}", self.device, self.seq)
    }
}

/// Writes topics and payloads of one run.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    run: String,
    topic_template: String,
    payload_bytes: usize,
    zones: u8,
}

/// Zones of a plain run.
pub(crate) const ZONES: u8 = 8;
/// They are named by letters.
pub(crate) const ZONES_MAX: u8 = 26;

/// The name of a zone, from 0.
pub(crate) fn zone_name(zone: u8) -> String {
    format!("zone{}", char::from(b'A' + zone % ZONES_MAX))
}

impl Format {
    pub(crate) fn new(run: String, topic_template: String, payload_bytes: usize, zones: u8) -> Self {
        Self { run, topic_template, payload_bytes, zones: zones.clamp(1, ZONES_MAX) }
    }

    /// The zone of a device: devices are dealt out over the zones.
    pub(crate) fn zone(&self, device: u32) -> u8 {
        u8::try_from(device % u32::from(self.zones)).unwrap_or(0)
    }

    /// The MQTT topic of a device.
    pub(crate) fn topic(&self, device: u32) -> String {
        self.topic_template
            .replace("{zone}", &zone_name(self.zone(device)))
            .replace("{device}", &format!("sensor-{device:05}"))
    }

    /// Appends the payload of a reading meant to leave at `sent_unix_ns`. The same arguments give the same bytes, so a
    /// reading that is sent again needs no copy of the first.
    pub(crate) fn write_payload(&self, id: ReadingId, sent_unix_ns: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        let centi = u64::from(id.device) * 31 + u64::from(id.seq) * 7;
        let written = write!(
            out,
            r#"{{"device":"sensor-{:05}","zone":"zone{}","seq":{},"ts":{},"temperature":{}.{:02},"run":"{}""#,
            id.device,
            char::from(b'A' + self.zone(id.device)),
            id.seq,
            sent_unix_ns,
            18 + centi / 100 % 8,
            centi % 100,
            self.run,
        );
        debug_assert!(written.is_ok(), "a vector takes everything");
        // `,"pad":""}` is ten bytes.
        if let Some(padding) = self.payload_bytes.checked_sub(out.len() - begin + 10) {
            out.extend_from_slice(br#","pad":""#);
            out.resize(out.len() + padding, b'x');
            out.push(b'"');
        }
        out.push(b'}');
    }

    /// The reading in `payload`, with its intended time; `None`: not one of this run.
    pub(crate) fn parse(&self, payload: &[u8]) -> Option<(ReadingId, u64)> {
        let payload: Payload<'_> = serde_json::from_slice(payload).ok()?;
        if payload.run != self.run {
            return None;
        }
        let device = payload.device.strip_prefix("sensor-")?.parse().ok()?;
        Some((ReadingId { device, seq: payload.seq }, payload.ts))
    }
}

/// What the oracle needs of a payload; the rest may be changed on the way.
#[derive(Deserialize)]
struct Payload<'a> {
    run: &'a str,
    device: &'a str,
    seq: u32,
    ts: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(payload_bytes: usize) -> Format {
        Format::new("0badcafe".to_owned(), "factory/{zone}/{device}/reading".to_owned(), payload_bytes, ZONES)
    }

    #[test]
    fn a_reading_is_known_again() {
        let id = ReadingId { device: 42, seq: 17 };
        for bytes in [0, 10, 124, 125, 126, 200, 1_048_576] {
            let mut payload = Vec::new();
            format(bytes).write_payload(id, 1_763_830_000_000_000_000, &mut payload);
            assert_eq!(format(0).parse(&payload), Some((id, 1_763_830_000_000_000_000)));
            if bytes >= 130 {
                assert_eq!(payload.len(), bytes);
            }
        }
    }

    #[test]
    fn readings_of_other_runs_are_not_known() {
        let mut payload = Vec::new();
        Format::new("other".to_owned(), String::new(), 0, ZONES).write_payload(
            ReadingId { device: 0, seq: 0 },
            0,
            &mut payload,
        );
        assert_eq!(format(0).parse(&payload), None);
        assert_eq!(format(0).parse(b"\xff\x00"), None);
        assert_eq!(format(0).parse(b""), None);
    }

    #[test]
    fn topics_follow_the_template() {
        assert_eq!(format(0).topic(9), "factory/zoneB/sensor-00009/reading");
    }
}
