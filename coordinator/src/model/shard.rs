//! Who runs a shard, and the MQTT session it has at the broker.

use super::{Epoch, Generation, NodeName, Revision, UnixMs};

/// A shard and its assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// None: nobody owns the shard.
    pub owner: Option<Owner>,
    /// Grows by one each time the owner or its generation changes.
    pub epoch: Epoch,
    /// When the owner last changed; when the shard was made, before that.
    pub since: UnixMs,
    /// The MQTT session that the shard has at the broker, as far as its owner has told.
    pub session: Option<Session>,
    /// The planned move under way; None: the owner is to keep the shard. Only shards with an owner have one.
    pub handover: Option<Handover>,
    /// The pipeline has fewer shards now: this one is read empty, its session ended, then it goes.
    pub is_retiring: bool,
}

/// A planned move: the owner stops reading, delivers what it has and releases the shard, which then is the target's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The member that gets it, in the generation it then has.
    pub to: NodeName,
    /// When the owner was told.
    pub since: UnixMs,
}

/// A node in one of its lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The member's name.
    pub node: NodeName,
    /// Its incarnation.
    pub generation: Generation,
}

/// A shard's MQTT session as the broker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The pipeline revision whose source the session was opened with.
    pub revision: Revision,
    /// Filters the session is subscribed to, without the `$share` prefix.
    pub filters: Vec<String>,
    /// The broker has accepted the session at least once; before that it may not exist yet.
    pub is_open: bool,
}
