//! The books of a lane, with real shards on real sinks: what is in flight, for whom, and until when; and what a reading costs.

use std::{
    any::Any,
    cell::RefCell,
    num::{NonZeroU16, NonZeroU64},
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use rdkafka::{error::RDKafkaErrorCode, mocking::MockCluster};
use sluice_coordinator::model::{Epoch, ShardId};

use super::{
    core::{Core, Place},
    failures, headers,
    shard::{Failure, Shard},
    turn,
};
use crate::{
    config::{InFlight, Manifest, SecretRoots, manifest::Resolved},
    pipeline::{
        sink::{Errand, Headers, TopicNo, Volume},
        source::session::{Qos, Session, Settings, Version},
    },
    registry::Task,
};

/// Port 9 of loopback answers nobody.
const NOBODY: &str = "127.0.0.1:9";

const LIMITS: InFlight = InFlight {
    lane_readings: NonZeroU64::new(1_000).expect("not 0"),
    lane_bytes: NonZeroU64::new(1 << 20).expect("not 0"),
    shard_readings: NonZeroU64::new(500).expect("not 0"),
    shard_bytes: NonZeroU64::new(1 << 19).expect("not 0"),
};

struct Lane {
    core: Rc<Core>,
    _ring: UnixStream,
    _asked: mpsc::Receiver<Errand>,
}

fn lane() -> anyhow::Result<Lane> {
    let (ring, bell) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    let (errands, asked) = mpsc::channel();
    Ok(Lane { core: Rc::new(Core::new(LIMITS, bell, errands)), _ring: ring, _asked: asked })
}

fn manifest(kafka: &str) -> anyhow::Result<(Manifest, Resolved)> {
    manifest_with(kafka, "")
}

fn manifest_with(kafka: &str, more: &str) -> anyhow::Result<(Manifest, Resolved)> {
    let text = format!(
        "{{name: p, source: {{mqtt: {{servers: ['mqtt://h'], topics: [a/b]}}}}, default_topic: t, {more} sink: {{kafka: {{bootstrap.servers: '{kafka}'}}}}}}"
    );
    let manifest = Manifest::parse(&text, "test")?;
    let resolved = manifest.resolve(&SecretRoots::new(Vec::new()))?;
    Ok((manifest, resolved))
}

impl Lane {
    fn place(&self, kafka: &str) -> anyhow::Result<Rc<Place>> {
        Ok(self.core.sink(&manifest(kafka)?.1.producer)?)
    }

    fn shard(&self, kafka: &str) -> anyhow::Result<Rc<RefCell<Shard>>> {
        self.shard_with(kafka, "")
    }

    /// A shard whose broker has accepted the connection.
    fn shard_with(&self, kafka: &str, more: &str) -> anyhow::Result<Rc<RefCell<Shard>>> {
        let (manifest, place) = (Arc::new(manifest_with(kafka, more)?.0), self.place(kafka)?);
        let settings = Settings {
            version: Version::V5,
            client_id: "c".to_owned(),
            username: None,
            password: None,
            connack_within: Duration::from_secs(10),
            keep_alive: Duration::ZERO,
            receive_maximum: NonZeroU16::MAX,
            qos: Qos::AtLeastOnce,
            filters: vec!["a/b".to_owned()],
            packet_bytes_max: 1 << 16,
            expects_session: false,
            ends_session: false,
        };
        let mut slots = self.core.slots.borrow_mut();
        let slot = slots.free().ok_or_else(|| anyhow::anyhow!("no slot"))?;
        let reporter: Rc<dyn Any> = place.clone();
        slots.report_by(slot, Rc::downgrade(&reporter));
        let task = Arc::new(Task::new(ShardId { pipeline: "p".parse()?, index: 0 }, Epoch(1)));
        let session = Session::new(settings)?;
        let shard = Shard::new(slot, task, manifest, session, slots.unreported(slot), place);
        let shard = Rc::new(RefCell::new(shard));
        slots.set(slot, Some(Rc::clone(&shard)));
        drop(slots);
        {
            let mut shard = shard.borrow_mut();
            let shard = &mut *shard;
            shard.session.connect(Instant::now(), &mut shard.out)?;
        }
        self.hear(&shard, &[0x20, 3, 0, 0, 0]);
        Ok(shard)
    }

    fn hear(&self, shard: &Rc<RefCell<Shard>>, bytes: &[u8]) {
        let turned = turn::receive(Ok(bytes.len()), &self.core, shard, &mut BytesMut::from(bytes));
        assert!(turned.close.is_none(), "{turned:?}");
    }

    fn take_reports_until(&self, is_done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_done() {
            assert!(Instant::now() < deadline, "{} in flight", self.core.total.readings());
            self.core.take_reports();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn in_flight(&self) -> (u64, u64) {
        (self.core.total.readings(), self.core.total.bytes())
    }
}

/// So many readings under `a/b` with one property, ten bytes each with their key.
fn publishes(count: u16) -> BytesMut {
    let mut bytes = BytesMut::new();
    for packet_id in 1..=count {
        bytes.put_slice(&[0x32, 21, 0, 3]);
        bytes.put_slice(b"a/b");
        bytes.put_u16(packet_id);
        bytes.put_slice(&[6, 3, 0, 3]);
        bytes.put_slice(b"t/ppayload");
    }
    bytes
}

#[test]
fn what_a_task_has_abandoned_fills_the_lane_until_kafka_has_it() -> anyhow::Result<()> {
    let kafka = MockCluster::new(1)?;
    kafka.create_topic("t", 3, 1)?;
    let (lane, kafka) = (lane()?, kafka.bootstrap_servers());
    let place = lane.place(&kafka)?;
    let shard = lane.shard(&kafka)?;
    let slot = shard.borrow().slot;
    lane.hear(&shard, &publishes(3));
    let task = Arc::clone(&shard.borrow().task);
    assert_eq!((lane.in_flight(), task.in_flight.get(), task.in_flight_bytes.get()), ((3, 30), 3, 30));
    shard.borrow_mut().abandon();
    lane.core.slots.borrow_mut().set(slot, None);
    drop(shard);
    assert_eq!(lane.in_flight(), (3, 30), "librdkafka still holds them");
    assert_eq!((task.in_flight.get(), task.returned.get(), task.unaccounted()), (0, 3, 0));
    let next = lane.shard(&kafka)?;
    assert_ne!(next.borrow().slot, slot);
    lane.hear(&next, &publishes(2));
    assert_eq!(lane.in_flight(), (5, 50));
    lane.take_reports_until(|| lane.core.total.readings() == 0);
    assert_eq!(lane.in_flight(), (0, 0), "as many bytes are reported as were handed over");
    let task = Arc::clone(&next.borrow().task);
    assert_eq!((task.delivered.get(), task.in_flight.get(), task.unaccounted()), (2, 0, 0));
    assert_eq!(lane.core.slots.borrow_mut().free(), Some(slot));
    drop(place);
    Ok(())
}

#[test]
fn what_a_producer_held_is_not_in_flight_when_the_producer_is_gone() -> anyhow::Result<()> {
    let lane = lane()?;
    let shard = lane.shard(NOBODY)?;
    lane.hear(&shard, &publishes(3));
    shard.borrow_mut().abandon();
    let slot = shard.borrow().slot;
    lane.core.slots.borrow_mut().set(slot, None);
    assert_eq!(lane.in_flight(), (3, 30));
    drop(shard);
    assert_eq!(lane.in_flight(), (0, 0));
    Ok(())
}

#[test]
fn a_reading_lost_on_its_way_to_the_sink_is_unaccounted_for() -> anyhow::Result<()> {
    let lane = lane()?;
    let shard = lane.shard(NOBODY)?;
    lane.hear(&shard, &publishes(2));
    let task = Arc::clone(&shard.borrow().task);
    assert_eq!((task.received.get(), task.unaccounted()), (2, 0));
    let (mut data, other) = (shard.borrow_mut(), lane.place("127.0.0.1:10")?);
    // Staged at another sink than the one that is flushed.
    other.sink.borrow_mut().topic("t")?;
    let received = data.receive(&mut publishes(1), Instant::now(), &mut other.sink.borrow_mut(), &mut Vec::new());
    lane.core.flush(&data.place, data.slot);
    data.count(&received);
    assert_eq!((task.received.get(), task.in_flight.get(), task.unaccounted()), (3, 2, 1));
    Ok(())
}

#[test]
fn a_reading_that_failed_for_good_is_given_back_once() -> anyhow::Result<()> {
    let lane = lane()?;
    let shard = lane.shard(NOBODY)?;
    lane.hear(&shard, &publishes(2));
    let (task, place, slot) = {
        let shard = shard.borrow();
        (Arc::clone(&shard.task), Rc::clone(&shard.place), shard.slot)
    };
    place.load.subtract(Volume { readings: 1, bytes: 10 });
    assert!(lane.core.slots.borrow().reported(slot.opaque(0), 10).is_some());
    let (key, payload) = (Rc::from(&b"a/b"[..]), bytes::Bytes::from_static(b"payload"));
    let code = RDKafkaErrorCode::Fatal;
    failures::handle(&lane.core, &place, vec![Failure { slot, seq: 0, code, was_alone: false, key, payload }]);
    assert_eq!((task.in_flight.get(), task.returned.get(), task.unaccounted()), (1, 1, 0));
    shard.borrow_mut().abandon();
    assert_eq!((task.in_flight.get(), task.returned.get(), task.unaccounted()), (0, 2, 0));
    Ok(())
}

#[test]
fn a_producer_has_the_lane_to_itself_as_soon_as_the_other_is_gone() -> anyhow::Result<()> {
    let lane = lane()?;
    let (a, b) = (lane.place(NOBODY)?, lane.place("127.0.0.1:10")?);
    a.load.add(Volume { readings: 600, bytes: 600 });
    assert!(!lane.core.has_room(&a) && lane.core.has_room(&b));
    drop(b);
    assert!(lane.core.has_room(&a));
    Ok(())
}

#[test]
fn a_pipeline_made_anew_does_not_take_the_routes_of_the_one_before_it() -> anyhow::Result<()> {
    let lane = lane()?;
    let place = lane.place(NOBODY)?;
    let (old, new) = (manifest(NOBODY)?.0, manifest(NOBODY)?.0);
    let routes = place.routes(&old);
    assert!(Rc::ptr_eq(&routes, &place.routes(&old)), "the shards of one pipeline share them");
    assert!(!Rc::ptr_eq(&routes, &place.routes(&new)));
    Ok(())
}

#[test]
fn properties_are_kept_only_where_a_header_may_be_made_of_them() -> anyhow::Result<()> {
    let lane = lane()?;
    for (more, is_kept) in [
        ("", false),
        ("metadata_headers: [topic, qos],", false),
        ("metadata_headers: [topic, content-type],", true),
        ("dead_letter_topic: d,", true),
    ] {
        let shard = lane.shard_with(NOBODY, more)?;
        lane.hear(&shard, &publishes(1));
        let shard = shard.borrow();
        assert_eq!(shard.tracker.origin(0).map(|origin| origin.properties.is_some()), Some(is_kept), "{more}");
    }
    Ok(())
}

#[test]
fn headers_that_all_records_of_a_route_have_are_made_once() -> anyhow::Result<()> {
    let (lane, more) = (
        lane()?,
        "metadata_headers: [qos, topic, content-type], mapping: [{match: a/b, topic: t, headers: {from: '{topic}'}}],",
    );
    let shard = lane.shard_with(NOBODY, more)?;
    lane.hear(&shard, &publishes(2));
    let shard = shard.borrow();
    let of = |seq| {
        let origin = shard.tracker.origin(seq);
        origin.map(|origin| headers::of_reading(origin, &shard.manifest.metadata_headers)).unwrap_or_default()
    };
    let told: Vec<_> = of(0).iter().map(|(name, value)| (name.clone().into_owned(), value.to_vec())).collect();
    let expected = [(c"from", "a/b"), (c"mqtt.topic", "a/b"), (c"mqtt.qos", "1"), (c"mqtt.content-type", "t/p")];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
    let shared = |headers: Headers| headers.shared.map(|shared| shared.as_ptr());
    assert!(shared(of(0)).is_some() && shared(of(0)) == shared(of(1)));
    Ok(())
}

#[test]
fn a_reading_costs_no_allocation() -> anyhow::Result<()> {
    const READINGS: u16 = 400;
    /// Of a read of a socket, and of a round of reports: lists of what is concerned, not of readings.
    const ALLOWED: u64 = 40;
    let kafka = MockCluster::new(1)?;
    kafka.create_topic("t", 1, 1)?;
    let (lane, kafka) = (lane()?, kafka.bootstrap_servers());
    let shard = lane.shard(&kafka)?;
    let task = Arc::clone(&shard.borrow().task);
    for round in 1..=20 {
        if round == 10 {
            // From here on records are grouped by partition.
            shard.borrow().place.sink.borrow_mut().set_partitions(TopicNo::from_index(0), Some(1));
        }
        let mut input = publishes(READINGS);
        let mut dearest = allocation_counter::measure(|| {
            let turned = turn::receive(Ok(input.len()), &lane.core, &shard, &mut input);
            assert!(turned.close.is_none(), "{turned:?}");
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        while lane.core.total.readings() > 0 {
            assert!(Instant::now() < deadline, "{} in flight", lane.core.total.readings());
            let reports = allocation_counter::measure(|| {
                lane.core.take_reports();
            });
            if reports.count_total > dearest.count_total {
                dearest = reports;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(task.acked.get(), round * u64::from(READINGS));
        shard.borrow_mut().out.clear();
        // The first rounds fill caches and find out how large buffers must be.
        assert!(round <= 5 || dearest.count_total <= ALLOWED, "{dearest:?} in round {round}");
    }
    Ok(())
}
