//! One client's connection: readings out on one thread, acks in on another.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    Session, Shared, State,
    acks::{self, Acks},
    lock,
};

/// Readings written at once: about 64 KiB of small ones.
const CHUNK: u64 = 400;
/// How often a rate is looked at, at most.
const TICK: Duration = Duration::from_millis(1);
const CONNECT: u8 = 1;
/// Instead of CONNECT: asks for the counts.
pub(super) const TELL: u8 = 0;

/// When the readings up to a number were written, oldest first.
type Written = Mutex<VecDeque<(u64, Instant)>>;

impl Shared {
    /// One connection, up to its end.
    pub(super) fn serve(self: &Arc<Self>, mut stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = Vec::new();
        let (client, is_v5) = loop {
            if input.first() == Some(&TELL) {
                return self.tell(&stream);
            }
            let connect = acks::packet(&input)?.map(|(kind, body, length)| (kind, client(body), length));
            if let Some((kind, connect, length)) = connect {
                ensure!(kind == CONNECT, "a packet of kind {kind} before CONNECT");
                input.drain(..length);
                break connect.context("CONNECT without a client id")?;
            }
            if !read(&mut stream, &mut input) {
                return Ok(());
            }
        };
        let (session, is_present) = {
            let mut sessions = lock(&self.sessions);
            let is_present = sessions.contains_key(&client);
            (Arc::clone(sessions.entry(client).or_default()), is_present)
        };
        // Flags, success; in MQTT 5 no properties: the defaults grant everything.
        let connack = [0x20, if is_v5 { 3 } else { 2 }, u8::from(is_present), 0, 0];
        stream.write_all(if is_v5 { &connack } else { &connack[..4] })?;
        let (number, acked) = {
            let mut state = lock(&session.state);
            let connections = state.connections + 1;
            *state = State { connections, acked: state.acked, reads: state.reads, ..State::default() };
            (connections, state.acked)
        };
        // One that it takes over sees it, and ends.
        session.changed.notify_all();
        let acks = Acks::new(self.flow.window, is_v5, self.flow.qos, acked);
        let written = Arc::new(Written::default());
        let (shared, listener, timed) = (Arc::clone(self), Arc::clone(&session), Arc::clone(&written));
        let reading = stream.try_clone()?;
        let reader = thread::spawn(move || {
            let listened = shared.listen(reading, input, acks, &listener, number, &timed);
            let mut state = lock(&listener.state);
            state.is_closed |= state.connections == number;
            drop(state);
            listener.changed.notify_all();
            listened
        });
        // Ends when the client has gone.
        let _ = self.send(&stream, &session, number, acked, is_v5, &written);
        let _ = stream.shutdown(Shutdown::Both);
        reader.join().map_err(|_| anyhow::anyhow!("a reader of acks panicked"))?
    }

    /// Sends from the first reading that is not acknowledged, as far as window and rate allow, until the session is closed.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn send(
        &self,
        mut stream: &TcpStream,
        session: &Session,
        number: u64,
        acked: u64,
        is_v5: bool,
        written: &Written,
    ) -> anyhow::Result<()> {
        let (flow, count) = (self.flow, self.packets.count as u64);
        let (start, first) = (Instant::now(), acked);
        let mut sent = acked;
        loop {
            let (acked, answers, is_subscribed) = {
                let state = lock(&session.state);
                let is_full = |acked: u64| flow.qos > 0 && sent - acked >= u64::from(flow.window);
                let is_over = |state: &State| state.is_closed || state.connections != number;
                let waits = |state: &mut State| {
                    !is_over(state) && state.answers.is_empty() && (!state.is_subscribed || is_full(state.acked))
                };
                let mut state = session.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
                if is_over(&state) {
                    return Ok(());
                }
                (state.acked, std::mem::take(&mut state.answers), state.is_subscribed)
            };
            stream.write_all(&answers)?;
            if !is_subscribed {
                continue;
            }
            let mut room = CHUNK.min(count - sent % count);
            if flow.qos > 0 {
                room = room.min(u64::from(flow.window) - (sent - acked));
            }
            if flow.rate > 0 {
                let due = start.elapsed().as_micros() * u128::from(flow.rate) / 1_000_000;
                room = room.min(u64::try_from(due)?.saturating_sub(sent - first));
                if room == 0 {
                    // Until the next reading is due, or an answer.
                    let next = Duration::from_secs_f64((sent - first + 1) as f64 / f64::from(flow.rate));
                    let wait = next.saturating_sub(start.elapsed()).max(TICK);
                    let state = lock(&session.state);
                    if state.answers.is_empty() && !state.is_closed && state.connections == number {
                        drop(session.changed.wait_timeout(state, wait));
                    }
                    continue;
                }
            }
            if room == 0 {
                continue;
            }
            let at = usize::try_from(sent % count)?;
            sent += room;
            if flow.qos > 0 {
                lock(written).push_back((sent, Instant::now()));
            }
            stream.write_all(self.packets.bytes(is_v5, at, usize::try_from(room)?))?;
            if flow.qos == 0 {
                let mut state = lock(&session.state);
                if state.connections == number {
                    state.acked = sent;
                }
            }
        }
    }

    /// Takes what the client says, until it has gone.
    fn listen(
        &self,
        mut stream: TcpStream,
        mut input: Vec<u8>,
        mut acks: Acks,
        session: &Session,
        number: u64,
        written: &Written,
    ) -> anyhow::Result<()> {
        let mut received = acks.complete;
        loop {
            let heard = acks.take(&input)?;
            input.drain(..heard.taken);
            if heard.received > 0 {
                self.time(received, received + heard.received, written);
                received += heard.received;
            }
            if heard.taken > 0 {
                let mut state = lock(&session.state);
                if state.connections != number {
                    return Ok(());
                }
                if self.flow.qos > 0 {
                    state.acked = acks.complete;
                }
                state.reads += u64::from(heard.received > 0);
                state.answers.extend(heard.answers);
                state.is_subscribed |= heard.has_subscribed;
                session.changed.notify_all();
            }
            // A client that is killed resets the connection.
            if heard.has_left || !read(&mut stream, &mut input) {
                return Ok(());
            }
        }
    }

    /// Notes how long the readings from `before` up to `received` took.
    fn time(&self, mut before: u64, received: u64, written: &Written) {
        let (mut written, mut latency, now) = (lock(written), lock(&self.latency), Instant::now());
        while before < received
            && let Some((upto, at)) = written.front().copied()
        {
            let micros = u64::try_from((now - at).as_micros()).unwrap_or(u64::MAX);
            latency.saturating_record_n(micros.max(1), upto.min(received) - before);
            before = upto.min(received);
            if upto <= received {
                written.pop_front();
            }
        }
    }
}

/// More of what the client says; false: it has gone.
fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    let before = input.len();
    input.resize(before + 64 * 1024, 0);
    let count = stream.read(&mut input[before..]).unwrap_or(0);
    input.truncate(before + count);
    count > 0
}

/// The client id in CONNECT's variable header and payload [MQTT-3.1.3-3], and whether it speaks MQTT 5.
fn client(connect: &[u8]) -> Option<(String, bool)> {
    // Protocol name, version, flags, keep-alive; in MQTT 5 then the properties, whose length is below 128.
    let is_v5 = *connect.get(6)? == 5;
    let at = if is_v5 { 11 + usize::from(*connect.get(10)?) } else { 10 };
    let length = usize::from(u16::from_be_bytes(*connect.get(at..)?.first_chunk()?));
    let client_id = connect.get(at + 2..at + 2 + length)?;
    Some((String::from_utf8(client_id.to_vec()).ok()?, is_v5))
}
