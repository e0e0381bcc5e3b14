//! A Kafka by script that forgets itself: its answers about metadata list one broker, itself, or none.
//!
//! A real one does so for a moment while it comes back; which answers a producer gets in that moment is chance. Apache Kafka's protocol
//! guide has the layouts; the versions announced are the oldest that have what is needed.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use bytes::{Buf, BufMut};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

/// APIs that are announced.
const APIS: u8 = 4;

const LEADER_NOT_AVAILABLE: i16 = 5;

/// It serves until the process ends.
pub(super) struct Forgetful {
    port: u16,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    forgets: AtomicBool,
    connections: AtomicUsize,
}

impl Forgetful {
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (port, script) = (listener.local_addr()?.port(), Arc::<Script>::default());
        let kept = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                kept.connections.fetch_add(1, SeqCst);
                let script = Arc::clone(&kept);
                // An error is a client that has gone.
                thread::spawn(move || drop(serve(&stream, port, &script)));
            }
        });
        Ok(Self { port, script })
    }

    pub(super) fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it lists no broker, or itself again.
    pub(super) fn forgets(&self, forgets: bool) {
        self.script.forgets.store(forgets, SeqCst);
    }

    /// Connections that it has taken.
    pub(super) fn connections(&self) -> usize {
        self.script.connections.load(SeqCst)
    }
}

fn serve(mut stream: &TcpStream, port: u16, script: &Script) -> anyhow::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        stream.read_exact(&mut request)?;
        let mut request = &request[..];
        let (api, version, correlation) = (request.get_i16(), request.get_i16(), request.get_i32());
        let mut answer = Vec::new();
        answer.put_i32(correlation);
        match api {
            API_VERSIONS => api_versions(&mut answer, version),
            METADATA => metadata(&mut answer, port, !script.forgets.load(SeqCst))?,
            INIT_PRODUCER_ID => {
                answer.put_i32(0); // throttled for so long
                answer.put_i16(0); // no error
                answer.put_i64(1); // producer id
                answer.put_i16(0); // its epoch
            }
            _ => anyhow::bail!("API {api} was not announced"),
        }
        stream.write_all(&i32::try_from(answer.len())?.to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

fn api_versions(answer: &mut Vec<u8>, version: i16) {
    let apis: [_; APIS as usize] = [(0, 3, 3), (METADATA, 1, 1), (API_VERSIONS, 0, 3), (INIT_PRODUCER_ID, 0, 0)];
    // From version 3 on lengths are one more than they say, and whatever may be extended ends in a count of extensions.
    let is_flexible = version >= 3;
    answer.put_i16(0);
    if is_flexible {
        answer.put_u8(APIS + 1);
    } else {
        answer.put_i32(APIS.into());
    }
    for (api, oldest, newest) in apis {
        [api, oldest, newest].into_iter().for_each(|number| answer.put_i16(number));
        if is_flexible {
            answer.put_u8(0);
        }
    }
    if is_flexible {
        answer.put_i32(0); // throttled for so long
        answer.put_u8(0);
    }
}

/// Version 1: brokers, controller, topics; of the topics only `t`, with one partition.
fn metadata(answer: &mut Vec<u8>, port: u16, knows_itself: bool) -> anyhow::Result<()> {
    answer.put_i32(i32::from(knows_itself));
    if knows_itself {
        answer.put_i32(1);
        put_text(answer, "127.0.0.1")?;
        answer.put_i32(port.into());
        answer.put_i16(-1); // no rack
    }
    answer.put_i32(if knows_itself { 1 } else { -1 });
    let (error, leader) = if knows_itself { (0, 1) } else { (LEADER_NOT_AVAILABLE, -1) };
    answer.put_i32(1);
    answer.put_i16(0);
    put_text(answer, "t")?;
    answer.put_u8(0); // not internal
    answer.put_i32(1);
    answer.put_i16(error);
    answer.put_i32(0); // the partition's number
    answer.put_i32(leader);
    for _ in ["replicas", "in sync"] {
        answer.put_i32(1);
        answer.put_i32(1);
    }
    Ok(())
}

fn put_text(answer: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    answer.put_i16(text.len().try_into()?);
    answer.put_slice(text.as_bytes());
    Ok(())
}
