//! PUBLISH packets, encoded before they are needed: a ring of them for each version of MQTT.

use anyhow::ensure;

use super::Flow;

/// MQTT topics, of which each reading has one: they decide on partitions.
const TOPICS: usize = 1_000;
/// Different readings at least: as many for a small window as for a large one, so that they can be compressed equally well.
const READINGS: usize = 20_000;

/// The readings of every session, one after the other, all of one length.
#[derive(Debug)]
pub(super) struct Packets {
    v5: Vec<u8>,
    v311: Vec<u8>,
    /// Packets in a ring: a multiple of the window, as packet ids go round with it.
    pub(super) count: usize,
}

impl Packets {
    pub(super) fn encode(flow: Flow) -> anyhow::Result<Self> {
        let window = usize::from(flow.window);
        let count = window * READINGS.div_ceil(window);
        let ring = |is_v5| {
            let packets = (0..count).map(|at| packet(at, u16::try_from(at % window + 1)?, flow, is_v5));
            Ok::<_, anyhow::Error>(packets.collect::<anyhow::Result<Vec<_>>>()?.concat())
        };
        Ok(Self { v5: ring(true)?, v311: ring(false)?, count })
    }

    /// `count` packets from the one at `at` on; not beyond the end of the ring.
    pub(super) fn bytes(&self, is_v5: bool, at: usize, count: usize) -> &[u8] {
        let ring = if is_v5 { &self.v5 } else { &self.v311 };
        let length = ring.len() / self.count;
        &ring[at * length..(at + count) * length]
    }
}

/// About what a sensor sends, padded to the flow's size.
fn packet(at: usize, id: u16, flow: Flow, is_v5: bool) -> anyhow::Result<Vec<u8>> {
    let device = at % TOPICS;
    let topic = format!("factory/zone{}/sensor-{device:05}/reading", device % 4);
    let mut payload = format!(
        r#"{{"device":"sensor-{device:05}","zone":"zone{}","seq":{at:08},"ts":1763829000{:03},"temperature":{}.{:02},"unit":"C"}}"#,
        device % 4,
        at % 1_000,
        15 + at % 10,
        at % 97,
    );
    while payload.len() < flow.payload_bytes {
        payload.push(' ');
    }
    let mut body = u16::try_from(topic.len())?.to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    if flow.qos > 0 {
        body.extend(id.to_be_bytes());
    }
    if is_v5 {
        body.push(0);
    }
    body.extend(payload.as_bytes());
    // Two bytes of length [MQTT-1.5.5].
    ensure!((128..16_384).contains(&body.len()), "payloads of {} bytes are not sent here", flow.payload_bytes);
    let mut packet = vec![0x30 | flow.qos << 1];
    packet.extend([u8::try_from(body.len() % 128)? | 0x80, u8::try_from(body.len() / 128)?]);
    packet.extend(body);
    Ok(packet)
}
