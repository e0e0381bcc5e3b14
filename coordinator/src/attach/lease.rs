//! A node's lease: its time-limited right to start tasks.
//!
//! Counted from when the answered keep-alive was *sent*, so that it ends here before the leader thinks it has. Nothing that makes
//! delivery safe depends on it: it keeps two nodes from kicking each other off a session.

use std::time::{Duration, Instant};

use tokio::{sync::watch, time::sleep_until};

/// A handle to the node's lease. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Lease {
    told: watch::Receiver<Told>,
}

/// What the last answer said. PURE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    until: Option<Instant>,
    /// When the last answered keep-alive was sent.
    confirmed: Option<Instant>,
}

/// The end that takes answers in.
#[derive(Debug)]
pub(super) struct Held {
    told: watch::Sender<Told>,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { told: watch::Sender::new(Told::default()) }
    }

    pub(super) fn handle(&self) -> Lease {
        Lease { told: self.told.subscribe() }
    }

    /// The keep-alive that was sent at `sent_at` is answered with a lease of `length`.
    pub(super) fn answered(&self, sent_at: Instant, length: Duration) {
        self.told.send_modify(|told| told.answered(sent_at, length));
    }

    /// The node is no member any more.
    pub(super) fn end(&self) {
        self.told.send_modify(Told::end);
    }
}

impl Lease {
    /// Whether a task may be started, or a connection made, at this moment.
    pub fn is_valid(&self) -> bool {
        self.told.borrow().is_valid(Instant::now())
    }

    /// Until when it is valid, if nothing more is heard; None: never told, or over for good.
    pub fn until(&self) -> Option<Instant> {
        self.told.borrow().until
    }

    /// What is known of it now.
    pub fn told(&mut self) -> Told {
        *self.told.borrow_and_update()
    }

    /// Waits until more is known than [`told`](Self::told) has told; false: nothing will be any more.
    pub async fn told_more(&mut self) -> bool {
        self.told.changed().await.is_ok()
    }

    /// Waits until it is valid.
    pub async fn valid(&self) {
        self.wait_for(|told| told.is_valid(Instant::now())).await;
    }

    /// Waits until a keep-alive that was sent at `moment` or later has been answered.
    pub async fn confirmed_since(&self, moment: Instant) {
        self.wait_for(|told| told.is_confirmed_since(moment)).await;
    }

    /// Waits until it is valid no more.
    pub async fn lapsed(&self) {
        let mut told = self.told.clone();
        loop {
            let now = *told.borrow_and_update();
            let Some(until) = now.until.filter(|_| now.is_valid(Instant::now())) else { return };
            tokio::select! {
                () = sleep_until(until.into()) => {}
                changed = told.changed() => if changed.is_err() { sleep_until(until.into()).await },
            }
        }
    }

    /// Waits until no keep-alive has been answered that was sent in the last `length`.
    pub async fn silent_for(&self, length: Duration) {
        let mut told = self.told.clone();
        loop {
            let confirmed = told.borrow_and_update().confirmed;
            let Some(until) = confirmed.map(|sent| sent + length).filter(|until| *until > Instant::now()) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until.into()) => {}
                changed = told.changed() => if changed.is_err() { sleep_until(until.into()).await },
            }
        }
    }

    async fn wait_for(&self, is_so: impl Fn(&Told) -> bool) {
        let mut told = self.told.clone();
        if told.wait_for(|told| is_so(told)).await.is_err() {
            // The coordinator has stopped: nothing will be answered any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Told {
    /// The keep-alive that was sent at `sent_at` is answered with a lease of `length`.
    pub fn answered(&mut self, sent_at: Instant, length: Duration) {
        // A shorter lease than the one before stands: a leader about to lose its own says so.
        self.until = Some(sent_at + length);
        self.confirmed = Some(sent_at);
    }

    /// The node is no member any more.
    pub fn end(&mut self) {
        self.until = None;
    }

    /// Whether a task may be started, or a connection made, at this moment.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether a keep-alive that was sent at `moment` or later has been answered: the node then has every change that was decided
    /// before `moment`.
    pub fn is_confirmed_since(&self, moment: Instant) -> bool {
        self.confirmed.is_some_and(|sent| sent >= moment)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_lease_counts_from_the_sending() {
        let held = Held::new();
        let lease = held.handle();
        assert!(!lease.is_valid());
        held.answered(Instant::now() - Duration::from_secs(2), Duration::from_secs(2));
        assert!(!lease.is_valid());
        held.answered(Instant::now(), SHORT);
        assert!(lease.is_valid());
        lease.valid().await;
        lease.lapsed().await;
        assert!(!lease.is_valid());
        assert!(timeout(SHORT, lease.valid()).await.is_err());
    }

    #[tokio::test]
    async fn silence_counts_from_the_last_answered_keep_alive() {
        let held = Held::new();
        let lease = held.handle();
        timeout(SHORT, lease.silent_for(SHORT)).await.expect("nobody ever answered");
        held.answered(Instant::now(), Duration::ZERO);
        let began = Instant::now();
        assert!(timeout(SHORT, lease.silent_for(SHORT * 3)).await.is_err());
        held.answered(Instant::now(), Duration::ZERO);
        lease.silent_for(SHORT * 3).await;
        assert!(began.elapsed() >= SHORT * 4);
    }

    #[test]
    fn only_a_later_keep_alive_confirms() {
        let (mut told, sent_at) = (Told::default(), Instant::now());
        told.answered(sent_at, SHORT);
        let moment = sent_at + Duration::from_nanos(1);
        assert!(!told.is_confirmed_since(moment));
        told.answered(moment, SHORT);
        assert!(told.is_confirmed_since(moment));
        told.end();
        assert!(!told.is_valid(moment));
    }
}
