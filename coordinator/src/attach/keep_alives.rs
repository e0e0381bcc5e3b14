//! The keep-alives of one stay that wait for their answer: an answered one says since when the node's lease counts. PURE.

use std::{collections::VecDeque, time::Instant};

/// Keep-alives without an answer, and when they were sent.
#[derive(Debug, Default)]
pub struct KeepAlives {
    sent: VecDeque<(u64, Instant)>,
    number: u64,
}

impl KeepAlives {
    /// The number of a keep-alive that is being sent now.
    pub fn send(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.sent.push_back((self.number, now));
        self.number
    }

    /// When the answered keep-alive was sent. Those before it will have no answer of their own.
    pub fn answered(&mut self, number: u64) -> Option<Instant> {
        while let Some((sent, at)) = self.sent.pop_front() {
            if sent == number {
                return Some(at);
            }
            if sent > number {
                self.sent.push_front((sent, at));
                break;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_counts_from_the_sending_of_the_keep_alive_that_it_answers() {
        let (mut sent, now) = (KeepAlives::default(), Instant::now());
        let numbers: Vec<_> = (0..3).map(|second| sent.send(now + Duration::from_secs(second))).collect();
        assert_eq!(sent.answered(numbers[1]), Some(now + Duration::from_secs(1)));
        assert_eq!(sent.answered(numbers[0]), None, "its answer is in the later one");
        assert_eq!(sent.answered(numbers[2]), Some(now + Duration::from_secs(2)));
    }
}
