//! An MQTT broker that sends readings as fast as they are acked, for measurements that a real broker would limit.
//!
//! Every session gets readings of its own, whatever it subscribes to, QoS 1, with one window of them unacknowledged at most. They are
//! encoded beforehand, so that a reading costs a copy to a socket. It relies on acks in the order of the readings [MQTT-4.6.0-2],
//! and fails where they come otherwise.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context as _, ensure};

use crate::scripted::{Broker, CONNECT, DISCONNECT, Link, PINGREQ, PUBACK};

/// Readings written at once: about 64 KiB.
const CHUNK: usize = 400;
/// MQTT topics, of which each reading has one: they decide on partitions.
const TOPICS: usize = 1_000;
/// Failures kept: the first ones say what is wrong.
const FAILURES_MAX: usize = 16;

/// A broker that sends.
#[derive(Debug)]
pub struct Firehose {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The packets of ids 1 to the window's size, one after the other, all of one length.
    packets: Vec<u8>,
    window: usize,
    /// By client id.
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    failures: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Session {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    acked: u64,
    /// A ping waits for its answer.
    is_pinged: bool,
    is_closed: bool,
}

impl Firehose {
    /// Listens; every session may have `window` readings unacknowledged, and must have asked for that many.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(window: u16) -> anyhow::Result<Self> {
        ensure!(window > 0, "a window of none");
        let broker = Broker::listen()?;
        let port = broker.port;
        let shared = Arc::new(Shared {
            packets: (1..=window).map(packet).collect::<anyhow::Result<Vec<_>>>()?.concat(),
            window: usize::from(window),
            sessions: Mutex::default(),
            failures: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("firehose".to_owned()).spawn(move || {
            while !accepting.is_over.load(Relaxed) {
                // Nobody connects for long stretches.
                let Ok(link) = broker.accept() else { continue };
                let serving = Arc::clone(&accepting);
                thread::spawn(move || {
                    if let Err(error) = serving.serve(link) {
                        serving.fail(format!("{error:#}"));
                    }
                });
            }
        })?;
        Ok(Self { port, shared })
    }

    /// `mqtt://host:port`.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Readings acked so far, by client id.
    ///
    /// # Errors
    /// A client has not kept to the rules.
    pub fn acked(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let failures = lock(&self.shared.failures);
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        let sessions = lock(&self.shared.sessions);
        Ok(sessions.iter().map(|(client, session)| (client.clone(), lock(&session.state).acked)).collect())
    }
}

impl Drop for Firehose {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        for session in lock(&self.shared.sessions).values() {
            session.close();
        }
    }
}

impl Shared {
    /// One connection, up to its end.
    fn serve(self: &Arc<Self>, mut link: Link) -> anyhow::Result<()> {
        let connect = link.expect(CONNECT)?;
        let client = client_id(&connect.body).context("CONNECT without a client id")?;
        let (session, is_present) = {
            let mut sessions = lock(&self.sessions);
            let is_present = sessions.contains_key(&client);
            (Arc::clone(sessions.entry(client).or_default()), is_present)
        };
        // CONNACK: flags, success, no properties: the defaults grant everything.
        link.send(&[0x20, 3, u8::from(is_present), 0, 0])?;
        link.grant_subscription(1, 1)?;
        let (stream, input) = link.into_parts();
        stream.set_read_timeout(None)?;
        let acked = {
            let mut state = lock(&session.state);
            *state = State { acked: state.acked, ..State::default() };
            state.acked
        };
        let (reading, reader) = (stream.try_clone()?, Arc::clone(&session));
        let shared = Arc::clone(self);
        let reader = thread::spawn(move || {
            let read = shared.take_acks(reading, input, &reader);
            reader.close();
            read
        });
        // Ends when the client has gone.
        let _ = self.send(&stream, &session, acked);
        let _ = stream.shutdown(Shutdown::Both);
        reader.join().map_err(|_| anyhow::anyhow!("a reader of acks panicked"))?
    }

    /// Sends from the first reading that is not acked, as far as the window allows, until the session is closed.
    fn send(&self, mut stream: &TcpStream, session: &Session, acked: u64) -> anyhow::Result<()> {
        let length = self.packets.len() / self.window;
        let (mut sent, window) = (acked, self.window as u64);
        loop {
            let (acked, is_pinged) = {
                let state = lock(&session.state);
                let is_idle = |state: &mut State| !state.is_closed && !state.is_pinged && sent - state.acked >= window;
                let mut state = session.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
                if state.is_closed {
                    return Ok(());
                }
                (state.acked, std::mem::take(&mut state.is_pinged))
            };
            if is_pinged {
                stream.write_all(&[0xd0, 0])?;
            }
            let room = usize::try_from(window - (sent - acked))?;
            let at = usize::try_from(sent % window)?;
            let count = room.min(self.window - at).min(CHUNK);
            stream.write_all(&self.packets[at * length..(at + count) * length])?;
            sent += count as u64;
        }
    }

    /// Counts acks, until the client has gone.
    fn take_acks(&self, mut stream: TcpStream, mut input: Vec<u8>, session: &Session) -> anyhow::Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        let mut expected = usize::try_from(lock(&session.state).acked % self.window as u64)?;
        loop {
            let (mut at, mut acks, mut is_pinged) = (0, 0, false);
            // Every packet that is to come here is shorter than 128 bytes, and so has one byte of length.
            while let Some((kind, body)) = input.get(at + 1).and_then(|length| {
                let body = input.get(at + 2..at + 2 + usize::from(*length))?;
                Some((input[at] >> 4, body))
            }) {
                match kind {
                    PUBACK => {
                        let id = body.first().zip(body.get(1)).map(|(high, low)| u16::from_be_bytes([*high, *low]));
                        ensure!(id.map(usize::from) == Some(expected + 1), "ack of {id:?}, not {}", expected + 1);
                        expected = (expected + 1) % self.window;
                        acks += 1;
                    }
                    PINGREQ => is_pinged = true,
                    DISCONNECT => return Ok(()),
                    kind => anyhow::bail!("a packet of kind {kind} from a client that only acks"),
                }
                at += 2 + body.len();
            }
            input.drain(..at);
            if acks > 0 || is_pinged {
                let mut state = lock(&session.state);
                state.acked += acks;
                state.is_pinged |= is_pinged;
                session.changed.notify_all();
            }
            match stream.read(&mut chunk) {
                // A client that is killed resets the connection.
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn fail(&self, why: String) {
        let mut failures = lock(&self.failures);
        if failures.len() < FAILURES_MAX {
            failures.push(why);
        }
    }
}

impl Session {
    fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}

/// PUBLISH, QoS 1, no properties: about what a sensor sends.
fn packet(id: u16) -> anyhow::Result<Vec<u8>> {
    let device = usize::from(id) % TOPICS;
    let topic = format!("factory/zone{}/sensor-{device:05}/reading", device % 4);
    let payload = format!(
        r#"{{"device":"sensor-{device:05}","zone":"zone{}","seq":{id:08},"ts":1763829000{:03},"temperature":{}.{:02},"unit":"C"}}"#,
        device % 4,
        id % 1_000,
        15 + id % 10,
        id % 97,
    );
    let remaining = 2 + topic.len() + 2 + 1 + payload.len();
    let mut packet = vec![0x32];
    // Two bytes of length: 128 to 16,383.
    packet.extend([u8::try_from(remaining % 128)? | 0x80, u8::try_from(remaining / 128)?]);
    packet.extend(u16::try_from(topic.len())?.to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend(id.to_be_bytes());
    packet.push(0);
    packet.extend(payload.as_bytes());
    Ok(packet)
}

/// The client id in CONNECT's variable header and payload [MQTT-3.1.3-3].
fn client_id(connect: &[u8]) -> Option<String> {
    // Protocol name, version, flags, keep-alive; then the properties, whose length is below 128.
    let properties = usize::from(*connect.get(10)?);
    let at = 11 + properties;
    let length = usize::from(u16::from_be_bytes([*connect.get(at)?, *connect.get(at + 1)?]));
    String::from_utf8(connect.get(at + 2..at + 2 + length)?.to_vec()).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
