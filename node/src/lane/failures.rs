//! What happens to records that Kafka or librdkafka did not take: again, alone, to the dead letters, or the end of the shard.
//!
//! Nothing is dropped: a reading leaves the shard's tracker only when Kafka has it, on its own topic or as a dead letter.

use std::rc::Rc;

use bytes::Bytes;
use rdkafka::error::RDKafkaErrorCode;

use super::{
    core::{Core, Place},
    headers,
    shard::{Failure, Shard, Unroutable},
};
use crate::pipeline::sink::{SinkFailure, Staged, TopicNo, Verdict, advice, verdict};

/// Deals with each failed record by the table of verdicts.
pub(super) fn handle(core: &Core, place: &Place, failures: Vec<Failure>) {
    for failure in failures {
        let Some(shard) = core.slots.borrow().get(failure.slot) else { continue };
        let mut shard = shard.borrow_mut();
        if failure.code == RDKafkaErrorCode::UnknownPartition {
            forget_partitions(&shard, place, failure.seq);
        }
        match verdict(failure.code) {
            // The sink's death is seen where reports are taken.
            Verdict::Fatal => shard.wake.notify_one(),
            Verdict::Stop => stop(&mut shard, place, &failure),
            Verdict::Refused if failure.was_alone => refused(core, place, &mut shard, failure),
            Verdict::Refused | Verdict::Retry => send_alone(core, place, &mut shard, failure),
        }
    }
}

/// Readings without a route are dead letters that were never records.
pub(super) fn unroutable(core: &Core, place: &Place, shard: &mut Shard, readings: Vec<Unroutable>) {
    for Unroutable { seq, why, payload } in readings {
        let key = shard.tracker.origin(seq).map(|origin| Rc::clone(&origin.route.key)).unwrap_or_default();
        bury(core, place, shard, seq, &why, None, key, payload);
    }
}

fn stop(shard: &mut Shard, place: &Place, failure: &Failure) {
    let name = topic_of(shard, place, failure.seq);
    let message = format!(
        "Kafka topic {name}: {}: {}; the shard tries again by itself",
        words(failure.code),
        advice(failure.code)
    );
    shard.fail(message, true);
}

/// Sends the record again, as a request of its own: what fails then fails for itself.
fn send_alone(core: &Core, place: &Place, shard: &mut Shard, failure: Failure) {
    let Some(origin) = shard.tracker.origin(failure.seq) else { return };
    let (topic, headers) = if origin.is_dead_letter {
        // Its reason is in headers that librdkafka no longer holds: go through the whole way again.
        let reason = format!("sent again after {}", words(failure.code));
        return bury(core, place, shard, failure.seq, &reason, None, failure.key, failure.payload);
    } else {
        match &origin.route.topic {
            Ok(topic) => (*topic, headers::of_reading(origin, &shard.manifest.metadata_headers)),
            Err(_) => return,
        }
    };
    hand_over_alone(core, place, shard, failure.seq, topic, failure.key, failure.payload, headers);
}

/// Kafka refuses this very record for good.
fn refused(core: &Core, place: &Place, shard: &mut Shard, failure: Failure) {
    let Some(origin) = shard.tracker.origin(failure.seq) else { return };
    let name = topic_of(shard, place, failure.seq);
    if origin.is_dead_letter {
        let dead_letters = shard.manifest.dead_letter_topic.as_ref().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "a reading on MQTT topic {:?}, {} bytes, cannot be kept: Kafka refuses it on {name} and on the dead-letter topic {dead_letters} too: {}: {}; then pause and resume the pipeline",
            origin.route.mqtt_topic,
            failure.payload.len(),
            words(failure.code),
            advice(failure.code)
        );
        return shard.fail(message, false);
    }
    let reason = words(failure.code);
    bury(core, place, shard, failure.seq, &reason, Some(&name), failure.key, failure.payload);
}

/// Sends a reading to the dead-letter topic, or stops the shard where there is none.
#[expect(clippy::too_many_arguments, reason = "the parts of one record")]
fn bury(
    core: &Core,
    place: &Place,
    shard: &mut Shard,
    seq: u64,
    reason: &str,
    kafka_topic: Option<&str>,
    key: Rc<[u8]>,
    payload: Bytes,
) {
    let Some(origin) = shard.tracker.origin_mut(seq) else { return };
    let Some(name) = shard.manifest.dead_letter_topic.as_ref().map(ToString::to_string) else {
        let message = format!(
            "a reading on MQTT topic {:?}, {} bytes, cannot be delivered: {reason}; give the pipeline a dead_letter_topic, or mend the cause, then pause and resume the pipeline",
            origin.route.mqtt_topic,
            payload.len()
        );
        return shard.fail(message, false);
    };
    origin.is_dead_letter = true;
    let headers = headers::of_dead_letter(origin, reason, kafka_topic);
    let topic = place.sink.borrow_mut().topic(&name);
    match topic {
        Ok(topic) => hand_over_alone(core, place, shard, seq, topic, key, payload, headers),
        Err(error) => shard.fail(format!("dead-letter topic {name}: {error}"), true),
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one record")]
fn hand_over_alone(
    core: &Core,
    place: &Place,
    shard: &mut Shard,
    seq: u64,
    topic: TopicNo,
    key: Rc<[u8]>,
    payload: Bytes,
    headers: Vec<crate::pipeline::sink::Header>,
) {
    let record = Staged { opaque: shard.slot.opaque(seq), key, payload, headers };
    let sent = place.sink.borrow_mut().send_alone(topic, &record, core.bell_fd());
    match sent {
        Ok(()) => core.slots.borrow_mut().handed_over(shard.slot, 1),
        Err(SinkFailure::Sink(error)) => shard.fail(error.to_string(), true),
        Err(SinkFailure::Code(code)) => {
            let failure =
                Failure { slot: shard.slot, seq, code, was_alone: true, key: record.key, payload: record.payload };
            match verdict(code) {
                Verdict::Refused => refused(core, place, shard, failure),
                Verdict::Fatal => shard.wake.notify_one(),
                Verdict::Stop => stop(shard, place, &failure),
                // librdkafka's own queue is full, which the lane's bounds keep from happening: begin again from MQTT.
                Verdict::Retry => shard.fail(format!("librdkafka takes no more: {}", words(code)), true),
            }
        }
    }
}

/// The topic was made anew with fewer partitions: librdkafka's own partitioner places its records until the count is known.
fn forget_partitions(shard: &Shard, place: &Place, seq: u64) {
    if let Some(Ok(topic)) = shard.tracker.origin(seq).map(|origin| &origin.route.topic) {
        place.sink.borrow_mut().set_partitions(*topic, None);
    }
}

fn topic_of(shard: &Shard, place: &Place, seq: u64) -> String {
    let topic = shard.tracker.origin(seq).and_then(|origin| origin.route.topic.as_ref().ok());
    topic.map(|topic| place.sink.borrow().topic_name(*topic).to_string()).unwrap_or_default()
}

fn words(code: RDKafkaErrorCode) -> String {
    code.to_string()
}
