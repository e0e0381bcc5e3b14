//! What a run is made of, all drawn from its seed but the kind of broker, and the clock that it goes by.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::{Duration, Instant},
};

use sluice_coordinator::{
    model::{PipelineName, PipelineSpec, SourceIdentity, UnixMs},
    plan,
};
use sluice_node::pipeline::source::session::{Qos, Version};

use crate::chance::Chance;

/// Milliseconds since the run began.
pub(crate) type Ms = u64;

/// Everything happens at a multiple of this.
pub(crate) const STEP: Ms = 10;
/// As the product's defaults are.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
pub(crate) const KEEP_ALIVE: Ms = 300;
/// Of the leader with itself: a quarter of an election timeout, and no more.
pub(crate) const OWN_KEEP_ALIVE: Ms = 250;
/// Client ids without the shard's index.
pub(crate) const CLIENT_IDS: &str = "sluice-readings";
/// How long a task that stops may deliver what it has in flight. The product's default is longer; this one is reached more often.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// What stays the same in a run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    pub(crate) shards: u32,
    pub(crate) qos: Qos,
    pub(crate) version: Version,
    pub(crate) keep_alive: Duration,
    pub(crate) receive_maximum: NonZeroU16,
    /// Readings of one task that may be in flight.
    pub(crate) shard_readings: u64,
    pub(crate) plan: plan::Settings,
    pub(crate) clock: Clock,
    /// How long faults happen.
    pub(crate) faults_for: Ms,
}

impl Setup {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let plan = plan::Settings {
            handover_deadline: DRAIN_DEADLINE + Duration::from_secs(2),
            stable_after: Duration::from_secs(2),
            ..plan::Settings::default()
        };
        Self {
            nodes: 2 + chance.place(4),
            shards: u32::try_from(chance.between(1, 6)).unwrap_or(1),
            qos: if chance.one_in(2) { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
            version: if chance.one_in(3) { Version::V311 } else { Version::V5 },
            keep_alive: Duration::from_secs(if chance.one_in(4) { 8 } else { 30 }),
            receive_maximum: NonZeroU16::MIN.saturating_add(u16::try_from(chance.below(12)).unwrap_or(0)),
            shard_readings: chance.between(4, 40),
            plan,
            clock: Clock { start: Instant::now() + Duration::from_secs(3_600) },
            faults_for: chance.between(8_000, 45_000),
        }
    }

    /// The pipeline, with so many shards, in the share group of this number, subscribed to one filter or to two.
    pub(crate) fn spec(&self, shards: u32, group: u32, is_wide: bool) -> PipelineSpec {
        let filters =
            if is_wide { vec!["narrow/#".to_owned(), "wide/#".to_owned()] } else { vec!["narrow/#".to_owned()] };
        PipelineSpec {
            name: pipeline(),
            shards: NonZeroU32::new(shards).unwrap_or(NonZeroU32::MIN),
            source: SourceIdentity {
                servers: vec!["mqtt://broker".to_owned()],
                share_group: Some(format!("group-{group}")),
                client_id_prefix: CLIENT_IDS.to_owned(),
            },
            filters,
            manifest: String::new(),
            must_keep_shards: false,
        }
    }
}

/// The one pipeline of a run.
pub(crate) fn pipeline() -> PipelineName {
    "readings".parse().expect("a name")
}

/// A run's time as the product takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn at(self, now: Ms) -> Instant {
        self.start + Duration::from_millis(now)
    }

    pub(crate) fn unix(self, now: Ms) -> UnixMs {
        UnixMs(1_700_000_000_000 + now)
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> Ms {
    u64::try_from(duration.as_millis()).unwrap_or(Ms::MAX)
}
