//! In which order a node looks for the leader, and how long it waits between two rounds. PURE: chance is an argument.

use std::{collections::BTreeSet, time::Duration};

/// Longest wait before the second round; half of an election.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait between two rounds: what a cluster without a leader may add to the time until work goes on.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Addresses that may be the leader's, best first, each once and never this node's own.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    own: String,
    tried: BTreeSet<String>,
    next: Vec<String>,
}

impl Candidates {
    pub(crate) fn new(own: &str) -> Self {
        Self { own: own.to_owned(), ..Self::default() }
    }

    /// Comes after those that are known already.
    pub(crate) fn offer(&mut self, address: Option<String>) {
        let Some(address) = address.filter(|address| !address.is_empty() && *address != self.own) else { return };
        if !self.tried.contains(&address) && !self.next.contains(&address) {
            self.next.push(address);
        }
    }

    /// Somebody says that it leads: comes before all others.
    pub(crate) fn prefer(&mut self, address: Option<String>) {
        let before = std::mem::take(&mut self.next);
        self.offer(address);
        before.into_iter().for_each(|address| self.offer(Some(address)));
    }

    pub(crate) fn next(&mut self) -> Option<String> {
        if self.next.is_empty() {
            return None;
        }
        let next = self.next.remove(0);
        self.tried.insert(next.clone());
        Some(next)
    }
}

/// How long to wait after so many rounds without success; `chance` is from 0 to 1, lest all nodes come at once.
pub(crate) fn pause(rounds: u32, chance: f64) -> Duration {
    let longest = (FIRST_PAUSE * 2_u32.saturating_pow(rounds.min(10))).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_tried_once_and_whom_others_name_first() {
        let mut candidates = Candidates::new("me:1");
        for address in ["a:1", "me:1", "b:1", "a:1", "", "c:1"] {
            candidates.offer(Some(address.to_owned()));
        }
        assert_eq!(candidates.next().as_deref(), Some("a:1"));
        candidates.prefer(Some("c:1".to_owned()));
        candidates.prefer(Some("a:1".to_owned()));
        assert_eq!(candidates.next().as_deref(), Some("c:1"));
        assert_eq!(candidates.next().as_deref(), Some("b:1"));
        assert_eq!(candidates.next(), None);
    }

    #[test]
    fn pauses_grow_to_a_second_and_never_beyond() {
        assert!(pause(0, 1.0) <= Duration::from_millis(100));
        assert!(pause(0, 0.0) >= Duration::from_millis(50));
        assert!(pause(40, 1.0) <= Duration::from_secs(1));
        assert!(pause(40, 0.0) >= Duration::from_millis(500));
    }
}
