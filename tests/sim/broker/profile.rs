//! How the brokers differ, as far as a shard can tell: measured (Mosquitto 2.0.11, HiveMQ CE 2025.5) or read from their sources (EMQX 6.3,
//! VerneMQ). Queues have no bound here, as the README tells to set them.

/// One kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) share: Share,
    /// What a member that is gone has not acknowledged goes to another, `QoS` 2 and what it had answered with PUBREC included.
    pub(crate) redispatches: bool,
    pub(crate) at_end: AtEnd,
    /// Behind a full window each ack brings as many readings as the window is wide.
    pub(crate) exceeds_window: bool,
    /// A client whose session is taken over is told (MQTT 5).
    pub(crate) says_taken_over: bool,
    pub(crate) restart: Restart,
    /// What was queued before UNSUBSCRIBE is sent after it, which the specification leaves open [MQTT-3.10.4].
    pub(crate) unsubscribed_keep_queue: bool,
    /// A kill, which half of the restarts are, leaves what was in flight in its group's queue, out of reach. From then on the queue is never empty, and what
    /// enters it is sent when the broker has another reason to look: a client connects, subscribes or acknowledges.
    pub(crate) clogs: bool,
    /// Readings that a connection may have unacknowledged, whatever the client allows.
    pub(crate) window: usize,
}

/// Who gets a reading of a shared subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// All in turn, connected or not.
    InTurn,
    /// Those that are connected; if nobody is, one of the others.
    OnlineFirst,
    /// The group has a queue; those that are connected take from it.
    GroupQueue,
}

/// What becomes of unacknowledged readings when a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtEnd {
    Dropped,
    /// Others of the group get them; with `false` not those of `QoS` 2 that were sent [MQTT-4.8.2-5].
    Redispatched {
        qos2: bool,
    },
}

/// What a restart leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Everything,
    /// Sessions and queues, and no shared subscriptions until clients subscribe again.
    AllButShares,
    /// Sessions are in memory.
    Nothing,
}

pub(crate) const MOSQUITTO: Profile = Profile {
    name: "mosquitto",
    share: Share::InTurn,
    redispatches: false,
    at_end: AtEnd::Dropped,
    exceeds_window: true,
    says_taken_over: false,
    restart: Restart::AllButShares,
    unsubscribed_keep_queue: true,
    clogs: false,
    window: 20,
};

pub(crate) const EMQX: Profile = Profile {
    name: "emqx",
    share: Share::InTurn,
    redispatches: false,
    at_end: AtEnd::Redispatched { qos2: false },
    exceeds_window: false,
    says_taken_over: true,
    restart: Restart::Nothing,
    unsubscribed_keep_queue: true,
    clogs: false,
    window: 32,
};

pub(crate) const HIVEMQ: Profile = Profile {
    name: "hivemq",
    share: Share::GroupQueue,
    redispatches: true,
    at_end: AtEnd::Redispatched { qos2: true },
    exceeds_window: false,
    says_taken_over: true,
    restart: Restart::Everything,
    unsubscribed_keep_queue: true,
    clogs: true,
    window: 10,
};

pub(crate) const VERNEMQ: Profile = Profile {
    name: "vernemq",
    share: Share::OnlineFirst,
    redispatches: false,
    at_end: AtEnd::Dropped,
    exceeds_window: false,
    says_taken_over: true,
    restart: Restart::Everything,
    unsubscribed_keep_queue: true,
    clogs: false,
    window: 20,
};
