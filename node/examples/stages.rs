//! One pure stage of the data path with so many readings, for a tool that counts instructions.
//!
//! What a run of 2n readings takes more than one of n is what n readings take: start and set-up are the same in both.
//!
//!     cargo build --release --example stages
//!     valgrind --tool=callgrind target/release/examples/stages receive 20000
//!
//! Stages: `receive` (bytes to readings: decoding and session), `receive-ack` (the same, and their acks), `map` (an MQTT topic to
//! Kafka topic and key; the node then remembers it by MQTT topic), `track` (deliveries out of order to a watermark).

use std::{
    env,
    hint::black_box,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, BytesMut};
use sluice_node::{
    config::Manifest,
    pipeline::{
        source::session::{Event, Qos, Seq, Session, Settings, Version},
        tracker::Tracker,
    },
};

/// Readings of one read of a socket.
const BATCH: u64 = 400;
/// Below MQTT's 65,535 packet identifiers, of which each may be under way once.
const READINGS_MAX: u64 = 60_000;
const PAYLOAD: &[u8] =
    br#"{"device":"sensor-00042","zone":"zoneA","seq":17,"ts":1763829000123,"temperature":21.53,"humidity":40.1}"#;

const MANIFEST: &str = "\
name: stages
source: {mqtt: {servers: ['mqtt://h'], topics: ['factory/+/+/reading']}}
mapping:
  - {match: 'factory/{zone}/{device}/state', topic: states, key: '{device}'}
  - {match: 'factory/{zone}/{device}/reading', topic: readings, key: '{zone}/{device}'}
sink: {kafka: {bootstrap.servers: k}}
";

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let (stage, readings) =
        (arguments.next().context("which stage?")?, arguments.next().context("how many readings?")?);
    let readings: u64 = readings.parse().context("how many readings?")?;
    ensure!(
        readings <= READINGS_MAX && readings.is_multiple_of(BATCH),
        "a multiple of {BATCH}, at most {READINGS_MAX}"
    );
    match stage.as_str() {
        "receive" => receive(readings, false),
        "receive-ack" => receive(readings, true),
        "map" => map(readings),
        "track" => track(readings),
        _ => bail!("there is no stage {stage:?}"),
    }
}

fn topic(device: u64) -> String {
    format!("factory/zone{}/sensor-{device:05}/reading", device % 10)
}

fn receive(readings: u64, acks: bool) -> anyhow::Result<()> {
    let mut session = Session::new(Settings {
        version: Version::V5,
        client_id: "stages".to_owned(),
        username: None,
        password: None,
        connack_within: Duration::from_secs(10),
        keep_alive: Duration::ZERO,
        receive_maximum: NonZeroU16::MAX,
        qos: Qos::AtLeastOnce,
        filters: vec!["factory/+/+/reading".to_owned()],
        packet_bytes_max: 1 << 20,
        expects_session: false,
        ends_session: false,
    })?;
    let (now, mut input, mut out) = (Instant::now(), BytesMut::new(), BytesMut::new());
    session.connect(now, &mut out)?;
    input.put_slice(&[0x20, 3, 0, 0, 0]);
    while session.next(&mut input, now, &mut out)?.is_some() {}
    let (mut packets, mut packet_ids) = (BytesMut::new(), Vec::new());
    for number in 0..BATCH {
        packet_ids.push(publish(number, &mut packets)?);
    }
    let (mut received, mut packet_id) = (0, 0_u16);
    for batch in 0..readings / BATCH {
        out.clear();
        input.clear();
        // Little beside what is counted: a copy, and two bytes a reading.
        input.put_slice(&packets);
        for at in &packet_ids {
            packet_id += 1;
            input[*at..*at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        while let Some(event) = session.next(&mut input, now, &mut out)? {
            received += u64::from(matches!(black_box(event), Event::Reading(_)));
        }
        if acks {
            // As Kafka's answers come: some at a time.
            for part in 1..=4 {
                session.ack_up_to(Seq(batch * BATCH + part * BATCH / 4), &mut out);
            }
        }
    }
    ensure!(received == readings, "{received} of {readings}");
    Ok(())
}

/// Appends a PUBLISH; returns where its packet identifier stands.
fn publish(number: u64, input: &mut BytesMut) -> anyhow::Result<usize> {
    let topic = topic(number);
    let remaining = 2 + topic.len() + 2 + 1 + PAYLOAD.len();
    ensure!((128..16_384).contains(&remaining), "two bytes of length");
    input.put_u8(0x32);
    input.put_u8(u8::try_from(remaining % 128)? | 0x80);
    input.put_u8(u8::try_from(remaining / 128)?);
    input.put_u16(u16::try_from(topic.len())?);
    input.put_slice(topic.as_bytes());
    let packet_id = input.len();
    input.put_slice(&[0, 0, 0]);
    input.put_slice(PAYLOAD);
    Ok(packet_id)
}

fn map(readings: u64) -> anyhow::Result<()> {
    let manifest = Manifest::parse(MANIFEST, "stages")?;
    let topics: Vec<_> = (0..1_000).map(topic).collect();
    for topic in topics.iter().cycle().take(usize::try_from(readings)?) {
        black_box(manifest.mapping.route(black_box(topic))?);
    }
    Ok(())
}

fn track(readings: u64) -> anyhow::Result<()> {
    let (mut tracker, now, mut seen) = (Tracker::default(), Instant::now(), 0);
    for batch in 0..readings / BATCH {
        for number in 0..BATCH {
            tracker.receive(number);
        }
        tracker.end_batch(now);
        // Each partition answers by itself.
        for partition in [3, 1, 0, 2] {
            for seq in (batch * BATCH..(batch + 1) * BATCH).filter(|seq| seq % 4 == partition) {
                black_box(tracker.deliver(seq));
            }
            tracker.advance(|_, count| seen += count);
        }
    }
    ensure!(seen == readings, "{seen} of {readings}");
    Ok(())
}
