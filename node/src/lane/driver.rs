//! One shard's life on its lane: connect, carry, connect again, until it is told to stop or cannot go on.
//!
//! Waits; decides little. What bytes mean is the session's business, what is in flight the shard's. How it leaves the broker is in
//! `goodbye`.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use sluice_coordinator::model::Session as Recorded;
use tokio::time::{sleep, sleep_until};

use super::{
    core::{Core, Place},
    course::{End, Purpose, QUIET, Serving, Stop, may_be_taken_over, may_leave_behind},
    job::Job,
    setup::{self, Setup},
    shard::Shard,
    turn::{self, Turned},
};
use crate::{
    pipeline::source::{backoff::Backoff, connection::Connection, session::Event},
    registry::State,
};

/// How long a connection that cannot be written to is still read. To a broker that was killed what it had sent may count as handed over, and
/// not be sent again. What has come is in the socket, with the end behind it, so that only back-pressure makes this wait.
const REST_WITHIN: Duration = Duration::from_secs(1);

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Close {
    /// It broke, or the broker ended it; `is_retryable`: false asks for the longest wait.
    Lost { why: String, is_retryable: bool },
    /// The producer is gone.
    SinkDied { why: String },
    /// All is done that was asked for.
    Ended(End),
}

/// A shard, its driver's own state, and the lane.
pub(super) struct Driver {
    core: Rc<Core>,
    pub(super) job: Job,
    pub(super) setup: Setup,
    pub(super) shard: Rc<RefCell<Shard>>,
    /// When the broker accepted the present connection.
    accepted_at: Cell<Option<Instant>>,
}

/// Runs `job` to its end.
pub(super) async fn run(core: Rc<Core>, job: Job) -> End {
    let end = match start(&core, job).await {
        Ok(mut driver) => {
            let end = driver.carry().await;
            driver.leave(&end);
            end
        }
        // What the session would need to be ended is not to be had, and what it holds may be lost: the user has said so.
        Err(Unstarted { job, message, is_unusable: true }) if job.purpose == Purpose::Discard => {
            tracing::warn!(shard = %job.task.shard, client_id = %job.client_id, "{message}: the session could not be ended; if the MQTT broker has one, remove it there");
            job.task.set_session(None);
            job.task.set_status(State::Retired, "");
            End::Retired
        }
        Err(Unstarted { job, message, .. }) => {
            job.task.set_status(State::Failed, message);
            End::Failed { may_pass: true }
        }
    };
    core.room.notify_waiters();
    end
}

/// A job that came to nothing.
struct Unstarted {
    job: Job,
    message: String,
    /// Because of what it says, not of what this node has at the moment.
    is_unusable: bool,
}

async fn start(core: &Rc<Core>, job: Job) -> Result<Driver, Unstarted> {
    let unstarted = |job, message| Unstarted { job, message, is_unusable: false };
    let made = setup::make(&job).and_then(|setup| Ok((setup.session(&job)?, setup)));
    let (session, setup) = match made {
        Ok(made) => made,
        Err(message) => return Err(Unstarted { job, message, is_unusable: true }),
    };
    let place = match core.sink(&job.resolved.producer) {
        Ok(place) => place,
        Err(error) => return Err(unstarted(job, error.to_string())),
    };
    // The coordinator knows of the session before the broker does: whoever comes after this node must find it. Where it knows exactly
    // this already, a word more says nothing new, and a shard that moves need not wait for it: what was read is of this epoch, under
    // which nobody else may change it.
    let before = setup.recorded_before(&job);
    let is_known = job.recorded.as_ref() == Some(&before);
    job.task.set_session(Some(before));
    if !is_known && let Err(error) = job.checkpointer.record(&job.task).await {
        // Nothing was opened: to the next try what is recorded must not look like more than it is.
        job.task.set_session(job.recorded.clone());
        return Err(unstarted(job, error.to_string()));
    }
    let slot = core.slots.borrow_mut().free();
    let Some(slot) = slot else { return Err(unstarted(job, "the lane is full of tasks: run more lanes".to_owned())) };
    let in_flight = core.slots.borrow().unreported(slot);
    let shard = Shard::new(slot, job.task.clone(), job.manifest.clone(), session, in_flight, place);
    let shard = Rc::new(RefCell::new(shard));
    let reporter: Rc<dyn Any> = shard.borrow().place.clone();
    core.slots.borrow_mut().report_by(slot, Rc::downgrade(&reporter));
    core.slots.borrow_mut().set(slot, Some(Rc::clone(&shard)));
    Ok(Driver { core: Rc::clone(core), job, setup, shard, accepted_at: Cell::new(None) })
}

impl Driver {
    /// Connects again and again until something ends the task.
    async fn carry(&mut self) -> End {
        let mut backoff = Backoff::default();
        let mut taken_over_at = None;
        for attempt in 0.. {
            if !self.may_connect(taken_over_at.take()).await {
                return End::Stopped { is_clean: self.is_idle() };
            }
            let close = match self.connect(attempt).await {
                Ok(connection) => self.serve(connection, attempt).await,
                Err(close) => close,
            };
            let accepted_at = self.accepted_at.take();
            if let Some(accepted_at) = accepted_at {
                backoff.ended(accepted_at.elapsed());
            }
            match close {
                Close::Ended(end) => return end,
                Close::SinkDied { why } => {
                    if let Err(message) = self.replace_sink() {
                        self.job.task.set_status(State::Failed, message);
                        return End::Failed { may_pass: true };
                    }
                    // A producer that dies at once, for want of a right say, must not be made again and again without a pause.
                    self.lost(&format!("the Kafka producer failed: {why}"), true, &mut backoff).await;
                }
                Close::Lost { why, is_retryable } => {
                    let version = self.job.manifest.source.version;
                    taken_over_at = may_be_taken_over(is_retryable, version, accepted_at.is_some()).then(Instant::now);
                    // As recorded, or opened by this very task.
                    let was_open = self.job.task.session().is_some_and(|session| session.is_open);
                    if may_leave_behind(self.job.purpose, was_open, attempt) {
                        tracing::warn!(shard = %self.job.task.shard, client_id = %self.job.client_id, "{why}: the session could not be ended; if the MQTT broker has one, remove it there");
                        return End::Retired;
                    }
                    self.lost(&why, is_retryable, &mut backoff).await;
                }
            }
        }
        End::Stopped { is_clean: false }
    }

    /// Waits until the task may connect; false: it is told to stop, or the shard is no longer this node's.
    pub(super) async fn may_connect(&self, taken_over_at: Option<Instant>) -> bool {
        let mut stop = self.job.stop.clone();
        if !self.job.permit.is_leased() {
            self.job.task.set_status(State::Connecting, "waits until the cluster's leader answers before it connects");
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => false,
            permit = self.job.permit.obtain(taken_over_at) => permit.is_ok(),
        }
    }

    /// Fails when the permit was taken away while the network was waited for: nothing has been sent then, and no session is taken.
    pub(super) fn check_permit(&self) -> Result<(), String> {
        let is_permitted = self.job.permit.is_valid();
        is_permitted.then_some(()).ok_or_else(|| "the lease ran out, or the shard moved, while connecting".to_owned())
    }

    async fn connect(&mut self, attempt: usize) -> Result<Connection, Close> {
        let connecting = self.setup.connector.connect(attempt);
        let mut stop = self.job.stop.clone();
        let connected = tokio::select! {
            connected = connecting => connected,
            _ = stop.wait_for(Option::is_some) => return Err(Close::Ended(End::Stopped { is_clean: self.is_idle() })),
        };
        let mut shard = self.shard.borrow_mut();
        let shard = &mut *shard;
        shard.forget_rest();
        let connection = connected.map_err(|error| error.to_string());
        let connection = connection.and_then(|connection| self.check_permit().map(|()| connection));
        let connection = connection.map_err(|why| Close::Lost { why, is_retryable: true })?;
        shard.session.connect(Instant::now(), &mut shard.out).map_err(turn::lost)?;
        Ok(connection)
    }

    /// Carries readings over one connection until it ends.
    async fn serve(&self, mut connection: Connection, attempt: usize) -> Close {
        let (mut last_moved, mut was_reading) = (Instant::now(), true);
        let mut unwritable = None;
        loop {
            let stop = self.stop();
            // A task that stops reads no more, whatever there is.
            if let Some((close, _)) = unwritable.take_if(|(_, until)| stop.is_some() || *until <= Instant::now()) {
                return close;
            }
            let may_read = self.may_read(stop);
            // A broker is quiet only as long as it is listened to.
            if !was_reading || !may_read || self.shard.borrow().is_busy() {
                last_moved = Instant::now();
            }
            if let Some(close) = self.ended(stop, last_moved) {
                return self.close(connection, close, attempt).await;
            }
            self.ask(stop, last_moved);
            if std::mem::replace(&mut was_reading, may_read) != may_read
                && let Some(close) = self.turned(may_read)
            {
                return close;
            }
            let mut deadline = self.next_deadline(stop, last_moved);
            if let Some((_, until)) = &unwritable {
                deadline = deadline.min(*until);
            }
            let wake = Rc::clone(&self.shard.borrow().wake);
            let mut stopping = self.job.stop.clone();
            let turned = tokio::select! {
                turned = std::future::poll_fn(|cx| self.turn(cx, &mut connection, may_read, &mut unwritable)) => turned,
                () = wake.notified() => Turned::default(),
                () = self.core.room.notified(), if !may_read => Turned::default(),
                _ = stopping.wait_for(Option::is_some), if stop.is_none() => Turned::default(),
                () = sleep_until(deadline.into()) => self.tick(may_read),
            };
            for event in turned.events {
                if let Err(close) = self.take(event) {
                    return close;
                }
            }
            if let Some(close) = turned.close {
                // That it could not be written to was there first, and says more than its end.
                return unwritable.map_or(close, |(first, _)| first);
            }
        }
    }

    /// Writes what there is to write, then reads if that is allowed; pending when neither moves.
    fn turn(
        &self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        may_read: bool,
        unwritable: &mut Option<(Close, Instant)>,
    ) -> Poll<Turned> {
        if unwritable.is_none() {
            match turn::write(cx, connection, &mut self.shard.borrow_mut()) {
                Err(close) => {
                    *unwritable = Some((close, Instant::now() + REST_WITHIN));
                    return Poll::Ready(Turned::default());
                }
                // With the last ack written a task that stops may be done.
                Ok(true) if !may_read => return Poll::Ready(Turned::default()),
                Ok(_) => {}
            }
        }
        if !may_read {
            return Poll::Pending;
        }
        // Others of the lane may have filled it meanwhile, and a stop may have come.
        if !self.may_read(self.stop()) {
            return Poll::Ready(Turned::default());
        }
        turn::read(cx, connection, &self.core, &self.shard)
    }

    /// Reading stops or starts again.
    fn turned(&self, may_read: bool) -> Option<Close> {
        self.shard.borrow_mut().unread_since = (!may_read).then(Instant::now);
        self.tick(may_read).close
    }

    fn tick(&self, may_read: bool) -> Turned {
        let mut shard = self.shard.borrow_mut();
        let shard = &mut *shard;
        let ticked = shard.session.tick(Instant::now(), &mut shard.out, may_read);
        Turned { events: Vec::new(), close: ticked.err().map(turn::lost) }
    }

    /// An event that is not a reading.
    fn take(&self, event: Event) -> Result<(), Close> {
        let mut shard = self.shard.borrow_mut();
        let task = &self.job.task;
        match event {
            Event::Connected(granted) => {
                task.connections.add(1);
                if granted.is_session_lost {
                    task.sessions_lost.add(1);
                    tracing::warn!(shard = %task.shard, "the MQTT broker had lost the session, and perhaps readings: look at its persistence and session expiry");
                }
                for note in &granted.notes {
                    tracing::info!(shard = %task.shard, "{note}");
                }
                shard.notes = granted.notes;
                shard.is_serving = true;
                shard.at_rest = State::Running;
                self.accepted_at.set(Some(Instant::now()));
                let was_open = task.session().is_some_and(|session| session.is_open);
                task.set_session(Some(Recorded { is_open: true, ..self.setup.recorded_before(&self.job) }));
                task.set_status(self.serving(), shard.notes.join("; "));
                if !was_open {
                    self.job.checkpointer.record_soon(task);
                }
            }
            Event::Subscribed(subscribed) => {
                // What is granted is carried; ending the connection would have the broker send its readings again and again.
                for refused in &subscribed.refused {
                    let note = format!(
                        "{refused}: allow it at the broker, or change the pipeline's topics; then pause and resume the pipeline"
                    );
                    tracing::error!(shard = %task.shard, "{note}");
                    shard.notes.push(note);
                }
                shard.notes.extend(subscribed.notes);
                let is_deaf =
                    !subscribed.refused.is_empty() && subscribed.refused.len() == shard.session.filters().len();
                shard.at_rest = if is_deaf { State::Failed } else { State::Running };
                let state = if self.serving() == State::Running { shard.at_rest } else { self.serving() };
                task.set_status(state, shard.notes.join("; "));
                task.set_session(Some(self.setup.recorded_after(&self.job, &shard.session)));
            }
            Event::Unsubscribed { refused } => {
                for refused in &refused {
                    tracing::warn!(shard = %task.shard, "{refused}");
                }
                if self.job.purpose == Purpose::Retire && !refused.is_empty() {
                    let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
                    let message = format!(
                        "{}: allow it at the broker, or delete the pipeline with --discard",
                        refused.join("; ")
                    );
                    task.set_status(self.serving(), message);
                }
                if self.job.purpose == Purpose::Run {
                    task.set_session(Some(self.setup.recorded_after(&self.job, &shard.session)));
                }
            }
            Event::Noted(note) => {
                tracing::warn!(shard = %task.shard, "{note}");
                shard.notes.push(note);
                task.set_status(task.status().state, shard.notes.join("; "));
            }
            Event::Disconnected(disconnected) => {
                return Err(Close::Lost { why: disconnected.to_string(), is_retryable: !disconnected.is_taken_over() });
            }
            Event::Reading(_) => {}
        }
        Ok(())
    }

    /// Whether there is nothing more to do on this connection.
    fn ended(&self, stop: Option<Stop>, last_moved: Instant) -> Option<Close> {
        let shard = self.shard.borrow();
        if let Some(broken) = &shard.broken {
            self.job.task.set_status(State::Failed, broken.message.clone());
            tracing::error!(shard = %self.job.task.shard, "{}", broken.message);
            return Some(Close::Ended(End::Failed { may_pass: broken.may_pass }));
        }
        if let Some(why) = shard.place.sink.borrow().death() {
            return Some(Close::SinkDied { why: why.to_owned() });
        }
        self.stands(&shard, stop, last_moved).end(Instant::now()).map(Close::Ended)
    }

    /// Asks the broker whether it is there, when its silence may mean that it has nothing more.
    fn ask(&self, stop: Option<Stop>, last_moved: Instant) {
        let (mut shard, now) = (self.shard.borrow_mut(), Instant::now());
        if self.stands(&shard, stop, last_moved).asks(now) {
            let shard = &mut *shard;
            shard.session.ask(now, &mut shard.out);
        }
    }

    fn stands(&self, shard: &Shard, stop: Option<Stop>, last_moved: Instant) -> Serving {
        Serving {
            purpose: self.job.purpose,
            stop,
            is_serving: shard.is_serving,
            is_connected: shard.session.is_connected(),
            // A filter that the broker keeps brings readings until the session is gone, and they with it.
            is_settled: match self.job.purpose {
                Purpose::Retire => shard.session.is_unsubscribed(),
                Purpose::Run | Purpose::Discard => shard.session.is_settled(),
            },
            is_idle: shard.is_idle(),
            last_moved,
            question: shard.session.question(),
        }
    }

    async fn lost(&self, why: &str, is_retryable: bool, backoff: &mut Backoff) {
        {
            let mut shard = self.shard.borrow_mut();
            shard.session.connection_lost();
            shard.forget_rest();
            shard.is_serving = false;
            shard.unread_since = None;
            shard.notes.clear();
        }
        let wait = if is_retryable { backoff.wait(rand::random()) } else { backoff.longest(rand::random()) };
        tracing::warn!(shard = %self.job.task.shard, wait_ms = wait.as_millis(), "{why}");
        self.job.task.set_status(State::Connecting, why);
        let mut stop = self.job.stop.clone();
        tokio::select! {
            () = sleep(wait) => {}
            _ = stop.wait_for(Option::is_some) => {}
        }
    }

    /// What was in flight with the dead producer goes back to the broker; a new producer takes over.
    fn replace_sink(&mut self) -> Result<(), String> {
        let place: Rc<Place> = self.core.sink(&self.job.resolved.producer).map_err(|error| error.to_string())?;
        let mut shard = self.shard.borrow_mut();
        shard.show(Instant::now(), None);
        shard.abandon();
        shard.is_serving = false;
        let reporter: Rc<dyn Any> = place.clone();
        self.core.slots.borrow_mut().report_by(shard.slot, Rc::downgrade(&reporter));
        shard.move_to(place);
        self.core.room.notify_waiters();
        Ok(())
    }

    /// Leaves the lane: what is still in flight is the broker's again.
    fn leave(&mut self, end: &End) {
        let mut shard = self.shard.borrow_mut();
        shard.show(Instant::now(), None);
        shard.abandon();
        shard.task.oldest_unacked_ms.set(0);
        match end {
            End::Stopped { .. } => self.job.task.set_status(State::Stopped, ""),
            End::Retired => {
                self.job.task.set_session(None);
                self.job.task.set_status(State::Retired, "");
            }
            End::Failed { .. } => {}
        }
        self.core.slots.borrow_mut().set(shard.slot, None);
    }

    /// What a task does while it is connected.
    fn serving(&self) -> State {
        match self.job.purpose {
            Purpose::Run if self.stop().is_none() => State::Running,
            Purpose::Run | Purpose::Retire | Purpose::Discard => State::Draining,
        }
    }

    fn stop(&self) -> Option<Stop> {
        *self.job.stop.borrow()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shard.borrow().is_idle()
    }

    fn may_read(&self, stop: Option<Stop>) -> bool {
        let shard = self.shard.borrow();
        // CONNACK brings no reading, and is waited for whatever is in flight.
        if !shard.session.is_connected() {
            return true;
        }
        stop.is_none() && shard.has_room(&self.core.limits) && self.core.has_room(&shard.place)
    }

    fn next_deadline(&self, stop: Option<Stop>, last_moved: Instant) -> Instant {
        let far = Instant::now() + Duration::from_secs(3_600);
        let session = self.shard.borrow().session.deadline().unwrap_or(far);
        let quiet = if self.job.purpose == Purpose::Retire { last_moved + QUIET } else { far };
        // A quiet that has passed is looked at again when what kept the task from ending changes.
        let quiet = if quiet <= Instant::now() { far } else { quiet };
        session.min(stop.map_or(far, |stop| stop.deadline)).min(quiet)
    }
}
