//! Which nodes are alive, as the leader hears them. PURE: time is an argument.
//!
//! A node is alive for one lease and a margin after its last keep-alive, so its own lease, counted from the sending, has ended
//! before it counts as dead here. A new leader has heard nobody yet: everybody gets that long, but for the leader before it,
//! whose lease was its leadership.
//!
//! A leader that was itself held up, a stopped process say, has heard nobody meanwhile and may not hold that against them: what it
//! missed is added to every contact.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{model::NodeName, plan::Health};

/// How much longer the leader counts a lease than the node does: a tenth, far beyond what clocks of two machines drift apart in it.
const MARGIN: u32 = 10;

/// What the present leader has heard, since it leads.
#[derive(Debug)]
pub(crate) struct Heard {
    lease: Duration,
    leading_since: Instant,
    /// Who led before, unless it was handed over.
    previous: Option<NodeName>,
    was_asked: bool,
    nodes: BTreeMap<NodeName, Contact>,
    looked_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Contact {
    last: Instant,
    /// Since when there was no gap.
    since: Instant,
}

impl Heard {
    /// Of a leader whose rule starts now.
    pub(crate) fn new(lease: Duration, previous: Option<NodeName>, now: Instant) -> Self {
        let lease = lease + lease / MARGIN;
        Self { lease, leading_since: now, previous, was_asked: false, nodes: BTreeMap::new(), looked_at: now }
    }

    /// To be called before anything else is taken in or asked, many times in a lease. A longer gap than half of one is the leader's own:
    /// keep-alives that came meanwhile lie unread.
    pub(crate) fn looked(&mut self, now: Instant) {
        let gap = now.duration_since(std::mem::replace(&mut self.looked_at, now));
        if gap <= self.lease / 2 {
            return;
        }
        tracing::warn!(?gap, "this leader was held up, and gives everybody as much longer");
        // Nobody's last word can be later than now.
        self.leading_since = (self.leading_since + gap).min(now);
        self.nodes.values_mut().for_each(|contact| contact.last = (contact.last + gap).min(now));
    }

    /// `node` has started anew, or attached anew after its lease here was over.
    pub(crate) fn started(&mut self, node: &NodeName, now: Instant) {
        self.nodes.insert(node.clone(), Contact { last: now, since: now });
    }

    /// `node` has sent a keep-alive.
    pub(crate) fn kept_alive(&mut self, node: &NodeName, now: Instant) {
        match self.nodes.get_mut(node) {
            Some(contact) if now.duration_since(contact.last) <= self.lease => contact.last = now,
            _ => self.started(node, now),
        }
    }

    /// The leader before this one was asked whether it is there. If so it was not lost but handed over, and gets as long as everybody.
    pub(crate) fn previous_is(&mut self, is_there: bool) {
        self.was_asked = true;
        if is_there {
            self.previous = None;
        }
    }

    /// Who led before and is to be asked.
    pub(crate) fn previous(&self) -> Option<&NodeName> {
        self.previous.as_ref().filter(|node| !self.was_asked && !self.nodes.contains_key(node))
    }

    /// How `node` is.
    pub(crate) fn of(&self, node: &NodeName, now: Instant) -> Health {
        let Some(contact) = self.nodes.get(node) else {
            let is_alive = self.previous.as_ref() != Some(node) && now < self.leading_since + self.lease;
            return Health { is_alive, stable_for: Duration::ZERO };
        };
        let is_alive = now < contact.last + self.lease;
        let stable_for = if is_alive { now.duration_since(contact.since) } else { Duration::ZERO };
        Health { is_alive, stable_for }
    }

    /// How long `node` has been away, for all that this leader can know.
    pub(crate) fn absent_for(&self, node: &NodeName, now: Instant) -> Duration {
        let last = self.nodes.get(node).map_or(self.leading_since, |contact| contact.last);
        now.duration_since(last)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);
    const MS: Duration = Duration::from_millis(1);

    fn name(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_new_leader_gives_everybody_a_full_lease_but_the_leader_before_it() {
        let start = Instant::now();
        let mut heard = Heard::new(LEASE, Some(name("n0")), start);
        assert!(!heard.of(&name("n0"), start).is_alive);
        assert!(heard.of(&name("n1"), start + LEASE).is_alive);
        assert!(!heard.of(&name("n1"), start + LEASE + LEASE / 10).is_alive);
        assert_eq!(heard.previous(), Some(&name("n0")));
        heard.previous_is(false);
        assert!(!heard.of(&name("n0"), start).is_alive && heard.previous().is_none());
        heard.previous_is(true);
        assert!(heard.of(&name("n0"), start).is_alive);
    }

    #[test]
    fn the_leader_before_counts_again_once_it_is_heard() {
        let start = Instant::now();
        let mut heard = Heard::new(LEASE, Some(name("n0")), start);
        assert_eq!(heard.previous(), Some(&name("n0")));
        heard.kept_alive(&name("n0"), start + MS);
        assert_eq!(heard.previous(), None);
        assert!(heard.of(&name("n0"), start + MS).is_alive);
    }

    #[test]
    fn a_gap_ends_a_life_and_what_follows_is_not_stable() {
        let start = Instant::now();
        let mut heard = Heard::new(LEASE, None, start);
        let node = name("n1");
        for tenth in 0..100_u32 {
            heard.kept_alive(&node, start + MS * 100 * tenth);
        }
        let last = start + MS * 9_900;
        assert_eq!(heard.of(&node, last), Health { is_alive: true, stable_for: MS * 9_900 });
        // The node's own lease, counted from the sending, is over by now.
        assert!(heard.of(&node, last + LEASE).is_alive);
        let late = last + LEASE + LEASE / 10 + MS;
        assert_eq!(heard.of(&node, late), Health { is_alive: false, stable_for: Duration::ZERO });
        assert_eq!(heard.absent_for(&node, late), LEASE + LEASE / 10 + MS);
        heard.kept_alive(&node, late);
        assert_eq!(heard.of(&node, late + MS), Health { is_alive: true, stable_for: MS });
    }

    #[test]
    fn what_a_leader_missed_while_it_was_held_up_is_held_against_nobody() {
        let start = Instant::now();
        let mut heard = Heard::new(LEASE, None, start);
        let (well, silent, gone) = (name("n1"), name("n2"), name("n3"));
        [&well, &silent, &gone].iter().for_each(|node| heard.kept_alive(node, start));
        let mut now = start;
        for _ in 0..21 {
            now += MS * 100;
            heard.looked(now);
            heard.kept_alive(&well, now);
            if now <= start + MS * 1_900 {
                heard.kept_alive(&silent, now);
            }
        }
        now += MS * 100;
        heard.looked(now);
        assert!(!heard.of(&gone, now).is_alive);
        // Stopped, and woken up after more than a lease.
        now += MS * 2_500;
        heard.looked(now);
        assert!(heard.of(&well, now).is_alive && heard.of(&silent, now).is_alive);
        assert!(!heard.of(&gone, now).is_alive, "it was dead before");
        heard.kept_alive(&well, now);
        assert!(heard.of(&well, now).stable_for > MS * 2_100, "nor is anybody less stable for it");
        for _ in 0..22 {
            now += MS * 100;
            heard.looked(now);
        }
        assert!(!heard.of(&silent, now).is_alive, "the leader hears again, and it says nothing");
    }
}
