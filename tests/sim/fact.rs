//! What happened in a step, as the invariants look at it: seen at the seams of the simulation, not taken from what the product says
//! of itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_coordinator::{
    machine::Command,
    model::{Epoch, Generation, ShardId, State},
};

use crate::{broker::ConnectionNo, kafka::Id};

/// A task, as it presents itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer {
    pub(crate) node: usize,
    pub(crate) generation: Generation,
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    /// It was told to throw away what its session holds.
    pub(crate) discards: bool,
}

#[derive(Debug)]
pub(crate) enum Fact {
    /// A command was applied.
    Applied { before: Arc<State>, after: Arc<State>, command: Box<Command> },
    /// A node was told that its keep-alive, sent then, gives it a lease so long.
    Leased { node: usize, sent_at: Instant, lease: Duration },
    /// A node's process has come to its end.
    Ended { node: usize },
    /// A task sends its CONNECT.
    Connects { peer: Peer },
    /// A CONNECT has arrived at the broker.
    Connected { peer: Peer },
    /// A client has acknowledged a packet; `due`: the oldest on this connection that it had not.
    Answered { connection: ConnectionNo, packet_id: u16, due: Option<u16> },
    /// A reading was acknowledged, by PUBACK or PUBREC.
    Acked { id: Id },
    /// A connection has ended with these readings sent and not acknowledged.
    Cut { unacked: Vec<Id> },
    /// A task could not end the session of this client id, and went without.
    LeftBehind { client_id: String },
    /// A task has left a connection; so many of its packets were not acknowledged.
    Left { unacked: usize },
}
