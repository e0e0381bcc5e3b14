//! What happens to records that Kafka or librdkafka did not take: again, alone, to the dead letters, or the end of the shard.
//!
//! Nothing is dropped: a reading leaves the shard's tracker only when Kafka has it, on its own topic or as a dead letter.

use std::rc::Rc;

use bytes::Bytes;
use rdkafka::error::RDKafkaErrorCode;

use super::{
    core::{Core, Place},
    headers,
    shard::{DeadLetter, Failure, Shard, Unroutable},
};
use crate::pipeline::sink::{Headers, SinkFailure, Staged, TopicNo, Verdict, advice, verdict};

/// Deals with each failed record by the table of verdicts.
pub(super) fn handle(core: &Core, place: &Place, failures: Vec<Failure>) {
    for failure in failures {
        let Some(shard) = core.slots.borrow().get(failure.slot) else { continue };
        let mut shard = shard.borrow_mut();
        if failure.code == RDKafkaErrorCode::UnknownPartition {
            forget_partitions(&shard, place, failure.seq);
        }
        match verdict(failure.code) {
            // librdkafka does not call all of these fatal; a record that it will not send again must not wait for ever.
            Verdict::Fatal => kill(&mut shard, place, failure.code),
            Verdict::Stop => stop(&mut shard, place, &failure),
            Verdict::Refused if failure.was_alone => refused(core, place, &mut shard, failure),
            // Once more at once would be a loop as fast as Kafka answers.
            Verdict::Retry if failure.was_alone => {
                let message = format!("Kafka topic {}: {}", topic_of(&shard, place, failure.seq), failure.code);
                shard.fail_at_reading(message, true);
            }
            Verdict::Refused | Verdict::Retry => send_alone(core, place, &mut shard, failure),
        }
    }
}

/// Readings without a route are dead letters that were never records.
pub(super) fn unroutable(core: &Core, place: &Place, shard: &mut Shard, readings: Vec<Unroutable>) {
    for Unroutable { seq, why, payload } in readings {
        let key = shard.tracker.origin(seq).map(|origin| Rc::clone(&origin.route.key)).unwrap_or_default();
        bury(core, place, shard, Record { seq, key, payload }, DeadLetter { reason: why, kafka_topic: None });
    }
}

/// A reading's record, whole.
struct Record {
    seq: u64,
    key: Rc<[u8]>,
    payload: Bytes,
}

/// The producer is of no more use: its shards go back to MQTT and take another.
fn kill(shard: &mut Shard, place: &Place, code: RDKafkaErrorCode) {
    place.sink.borrow_mut().kill(&code.to_string());
    shard.give_back();
    shard.wake.notify_one();
}

fn stop(shard: &mut Shard, place: &Place, failure: &Failure) {
    let (name, code) = (topic_of(shard, place, failure.seq), failure.code);
    shard.fail_at_reading(
        format!("Kafka topic {name}: {code}: {}; the shard tries again by itself", advice(code)),
        true,
    );
}

/// Sends the record again, as a request of its own: what fails then fails for itself.
fn send_alone(core: &Core, place: &Place, shard: &mut Shard, failure: Failure) {
    let Some(origin) = shard.tracker.origin(failure.seq) else { return };
    let record = Record { seq: failure.seq, key: failure.key, payload: failure.payload };
    if let Some(letter) = shard.dead_letters.remove(&failure.seq) {
        return bury(core, place, shard, record, letter);
    }
    if let Ok(topic) = &origin.route.topic {
        let (topic, headers) = (*topic, headers::of_reading(origin, &shard.manifest.metadata_headers));
        hand_over_alone(core, place, shard, topic, record, headers);
    }
}

/// Kafka refuses this very record for good.
fn refused(core: &Core, place: &Place, shard: &mut Shard, failure: Failure) {
    let Some(origin) = shard.tracker.origin(failure.seq) else { return };
    let (name, code) = (topic_of(shard, place, failure.seq), failure.code);
    if shard.dead_letters.contains_key(&failure.seq) {
        let message = format!(
            "a reading on MQTT topic {:?}, {} bytes, cannot be kept: the dead-letter topic {name} refuses it too: {code}: {}; then pause and resume the pipeline, or, if it is being deleted, delete it with --discard",
            origin.route.mqtt_topic,
            failure.payload.len(),
            advice(code)
        );
        return shard.fail_at_reading(message, false);
    }
    let record = Record { seq: failure.seq, key: failure.key, payload: failure.payload };
    bury(core, place, shard, record, DeadLetter { reason: code.to_string(), kafka_topic: Some(name) });
}

/// Sends a reading to the dead-letter topic, or stops the shard where there is none.
fn bury(core: &Core, place: &Place, shard: &mut Shard, record: Record, letter: DeadLetter) {
    let Some(origin) = shard.tracker.origin(record.seq) else { return };
    let Some(name) = &shard.manifest.dead_letter_topic else {
        let message = format!(
            "a reading on MQTT topic {:?}, {} bytes, cannot be delivered: {}; give the pipeline a dead_letter_topic, or mend the cause, then pause and resume the pipeline, or, if it is being deleted, delete it with --discard",
            origin.route.mqtt_topic,
            record.payload.len(),
            letter.reason
        );
        return shard.fail_at_reading(message, false);
    };
    let headers = headers::of_dead_letter(origin, &letter);
    shard.dead_letters.insert(record.seq, letter);
    let topic = place.sink.borrow_mut().topic(name.as_str());
    match topic {
        Ok(topic) => hand_over_alone(core, place, shard, topic, record, headers),
        Err(error) => {
            let message = format!("dead-letter topic {name}: {error}");
            shard.fail_at_reading(message, true);
        }
    }
}

fn hand_over_alone(core: &Core, place: &Place, shard: &mut Shard, topic: TopicNo, record: Record, headers: Headers) {
    let Record { seq, key, payload } = record;
    let staged = Staged { opaque: shard.slot.opaque(seq), key, payload, headers };
    let sent = place.sink.borrow_mut().send_alone(topic, &staged, core.bell_fd());
    let code = match sent {
        Ok(()) => {
            core.handed_over(place, shard.slot, staged.volume());
            return shard.show_load();
        }
        Err(SinkFailure::Sink(error)) => return shard.fail_at_reading(error.to_string(), true),
        Err(SinkFailure::Code(code)) => code,
    };
    let failure = Failure { slot: shard.slot, seq, code, was_alone: true, key: staged.key, payload: staged.payload };
    match verdict(code) {
        Verdict::Refused => refused(core, place, shard, failure),
        Verdict::Fatal => kill(shard, place, code),
        Verdict::Stop => stop(shard, place, &failure),
        // librdkafka's own queue is full, which the lane's bounds keep from happening: begin again from MQTT.
        Verdict::Retry => shard.fail_at_reading(format!("librdkafka takes no more: {code}"), true),
    }
}

/// The topic was made anew with fewer partitions: librdkafka's own partitioner places its records until the count is known.
fn forget_partitions(shard: &Shard, place: &Place, seq: u64) {
    let own = shard.tracker.origin(seq).filter(|_| !shard.dead_letters.contains_key(&seq));
    if let Some(Ok(topic)) = own.map(|origin| &origin.route.topic) {
        place.sink.borrow_mut().set_partitions(*topic, None);
    }
}

/// Where the record of reading `seq` was sent.
fn topic_of(shard: &Shard, place: &Place, seq: u64) -> String {
    let Some(origin) = shard.tracker.origin(seq) else { return String::new() };
    match (shard.dead_letters.get(&seq), &origin.route.topic) {
        (Some(_), _) => shard.manifest.dead_letter_topic.as_ref().map(ToString::to_string).unwrap_or_default(),
        (None, Ok(topic)) => place.sink.borrow().topic_name(*topic).to_string(),
        (None, Err(_)) => String::new(),
    }
}
