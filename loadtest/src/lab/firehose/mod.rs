//! An MQTT broker that sends readings as fast as they are acknowledged, for measurements that a real broker would limit.
//!
//! Every session gets readings of its own, whatever it subscribes to, at most one window of them unacknowledged. They are encoded
//! beforehand, so that a reading costs a copy to a socket. It relies on acks in the order of the readings [MQTT-4.6.0-2], checks it,
//! and fails where they come otherwise. What was not acknowledged when a connection ended is sent again as if it were new, without DUP.

mod acks;
mod connection;
mod packets;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use self::packets::Packets;

/// Failures kept: the first ones say what is wrong.
const FAILURES_MAX: usize = 16;
/// Latencies in microseconds, up to a minute, to three digits.
const LATENCY_MAX_US: u64 = 60_000_000;

/// What every session gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub qos: u8,
    /// Readings that may be unacknowledged; the client must have asked for that many.
    pub window: u16,
    pub payload_bytes: usize,
    /// Readings a second of each session; 0: as fast as they are acknowledged.
    pub rate: u32,
}

/// What has come of the sessions so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Readings whose last ack has come, by client id; with `QoS` 0: readings written.
    pub acked: BTreeMap<String, u64>,
    /// Reads from sockets that brought first acks: about as many as the client's writes of them.
    pub reads: u64,
    /// Connections that have ever subscribed or were about to.
    pub connections: u64,
    /// From the writing of a reading to its first ack, in microseconds.
    pub latency_us: Latency,
}

/// Of all readings since the last question.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// A broker that sends.
#[derive(Debug)]
pub struct Firehose {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    flow: Flow,
    packets: Packets,
    /// By client id.
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    latency: Mutex<Histogram<u64>>,
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
    /// Connections so far. Only the last one may change anything; those before end when they see it.
    connections: u64,
    acked: u64,
    reads: u64,
    /// What is to be written before more readings: answers to what the client asked.
    answers: Vec<u8>,
    /// Before that nothing is sent.
    is_subscribed: bool,
    is_closed: bool,
}

impl Firehose {
    /// Listens.
    ///
    /// # Errors
    /// There is no free port, or the flow cannot be expressed.
    pub fn start(flow: Flow) -> anyhow::Result<Self> {
        ensure!(flow.window > 0 && flow.qos <= 2, "{flow:?}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            flow,
            packets: Packets::encode(flow)?,
            sessions: Mutex::default(),
            latency: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).context("a histogram")?),
            failures: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("firehose".to_owned()).spawn(move || {
            loop {
                let accepted = listener.accept();
                if accepting.is_over.load(Relaxed) {
                    break;
                }
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        accepting.fail(format!("accepting a connection: {error}"));
                        break;
                    }
                };
                let serving = Arc::clone(&accepting);
                thread::spawn(move || {
                    if let Err(error) = serving.serve(stream) {
                        serving.fail(format!("{error:#}"));
                    }
                });
            }
        })?;
        Ok(Self { port, shared })
    }

    /// `mqtt://host:port`.
    pub fn url(&self) -> String {
        format!("mqtt://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What has come so far; latencies since the last call.
    ///
    /// # Errors
    /// A client has not kept to the rules.
    pub fn counts(&self) -> anyhow::Result<Counts> {
        self.shared.counts()
    }
}

impl Drop for Firehose {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        // The thread that accepts looks when somebody comes.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        for session in lock(&self.shared.sessions).values() {
            lock(&session.state).is_closed = true;
            session.changed.notify_all();
        }
    }
}

impl Shared {
    fn counts(&self) -> anyhow::Result<Counts> {
        let failures = lock(&self.failures);
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        let mut counts = Counts::default();
        for (client, session) in lock(&self.sessions).iter() {
            let state = lock(&session.state);
            counts.acked.insert(client.clone(), state.acked);
            counts.reads += state.reads;
            counts.connections += state.connections;
        }
        let mut latency = lock(&self.latency);
        let at = |quantile| latency.value_at_quantile(quantile);
        counts.latency_us = Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: latency.max() };
        latency.reset();
        Ok(counts)
    }

    /// Answers whoever asks for the counts on the port of the readings: one line of JSON.
    fn tell(&self, mut stream: &TcpStream) -> anyhow::Result<()> {
        let told = match self.counts() {
            Ok(counts) => serde_json::to_string(&Told::Counts(counts))?,
            Err(error) => serde_json::to_string(&Told::Failed(format!("{error:#}")))?,
        };
        writeln!(stream, "{told}")?;
        Ok(())
    }

    fn fail(&self, why: String) {
        let mut failures = lock(&self.failures);
        if failures.len() < FAILURES_MAX {
            failures.push(why);
        }
    }
}

/// What a firehose in another process says to [`counts_of`].
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Counts(Counts),
    Failed(String),
}

/// The counts of a firehose in another process.
///
/// # Errors
/// It cannot be reached, or a client of it has not kept to the rules.
pub fn counts_of(port: u16) -> anyhow::Result<Counts> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("asking the firehose")?;
    stream.write_all(&[connection::TELL])?;
    match serde_json::from_reader(stream).context("the firehose's answer")? {
        Told::Counts(counts) => Ok(counts),
        Told::Failed(why) => anyhow::bail!("{why}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
