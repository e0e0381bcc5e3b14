//! Free loopback ports.
//!
//! Taken below the range from which the kernel gives ports to outgoing connections, so that a server which is down for a while finds
//! its port free when it comes back.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::bail;

const FIRST: u32 = 15_000;
const COUNT: u32 = 17_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 that nobody listens on, different at each call.
///
/// # Errors
/// All ports are in use.
pub fn free() -> anyhow::Result<u16> {
    for _ in 0..COUNT {
        // Test processes that run side by side begin at different places.
        let offset = NEXT.fetch_add(1, Relaxed).wrapping_add(process::id().wrapping_mul(97)) % COUNT;
        let port = u16::try_from(FIRST + offset)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1")
}
