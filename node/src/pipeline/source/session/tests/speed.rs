//! What a reading costs in the session: printed, not asserted (`cargo test --release speed -- --nocapture`).

#![expect(clippy::print_stdout, reason = "a benchmark is read on the terminal")]

use super::*;

#[test]
fn speed_of_next_and_ack() {
    for (version, qos) in [(Version::V5, 1), (Version::V311, 1), (Version::V5, 2), (Version::V5, 0)] {
        let nanos = (0..5).map(|_| nanos_per_reading(version, qos)).min_by(f64::total_cmp).unwrap_or_default();
        println!("session {version:?} QoS {qos}: {nanos:.1} ns per reading");
    }
}

/// 256 KiB of 110-byte payloads under 39-byte topics, as a lane takes them over, then one ack for all.
#[expect(clippy::cast_precision_loss, reason = "a benchmark's quotient")]
fn nanos_per_reading(version: Version, qos: u8) -> f64 {
    const ROUNDS: u32 = 200;
    let mut settings = settings(version, Qos::ExactlyOnce);
    settings.receive_maximum = NonZeroU16::MAX;
    let mut wire = Wire::new(settings);
    wire.reconnect(false);
    let stream: Vec<u8> = (1..=1_600).flat_map(|id| long_publish(version, qos, id)).collect();
    let releases: Vec<u8> = (1..=1_600).flat_map(pubrel).collect();
    let (mut input, mut bytes, mut readings) = (BytesMut::with_capacity(1 << 18), 0, 0_u64);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        // As a read from the socket does.
        input.extend_from_slice(&stream);
        while let Some(event) = wire.session.next(&mut input, wire.now, &mut wire.out).unwrap() {
            let Event::Reading(reading) = event else { continue };
            bytes += reading.topic.len() + reading.payload.len();
            readings += 1;
        }
        wire.session.ack_up_to(Seq(readings), &mut wire.out);
        if qos == 2 {
            input.extend_from_slice(&releases);
            assert!(wire.session.next(&mut input, wire.now, &mut wire.out).unwrap().is_none());
        }
        wire.out.clear();
    }
    let nanos = start.elapsed().as_nanos() as f64;
    assert_eq!((readings, bytes), (u64::from(ROUNDS) * 1_600, 1_600 * 149 * ROUNDS as usize));
    nanos / readings as f64
}

fn long_publish(version: Version, qos: u8, packet_id: u16) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(39);
    body.put_slice(b"factory/zone-0001/device-000017/reading");
    if qos > 0 {
        body.put_u16(packet_id);
    }
    if version == Version::V5 {
        body.put_u8(0);
    }
    body.put_bytes(b'x', 110);
    let length = u8::try_from(body.len()).unwrap();
    let mut packet = vec![0x30 | qos << 1, length | 0x80, 1];
    packet.extend_from_slice(&body);
    packet
}
