//! A task connects only while its node has a lease, counted from the sending of the last keep-alive that was answered.

use std::{collections::BTreeMap, time::Instant};

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check {
    /// By node, until when.
    leases: BTreeMap<usize, Instant>,
}

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "nobody_connects_without_a_lease"
    }

    fn see(&mut self, fact: &Fact, around: &Around) -> Result<(), String> {
        match fact {
            Fact::Leased { node, sent_at, lease } => {
                let until = self.leases.entry(*node).or_insert(*sent_at);
                *until = (*until).max(*sent_at + *lease);
            }
            Fact::Ended { node } => {
                self.leases.remove(node);
            }
            Fact::Connects { peer } => {
                let is_leased = self.leases.get(&peer.node).is_some_and(|until| around.instant() < *until);
                return ensure(is_leased, || format!("{peer:?} connects, and its node's lease is over"));
            }
            _ => {}
        }
        Ok(())
    }
}
