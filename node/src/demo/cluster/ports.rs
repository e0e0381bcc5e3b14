//! Free loopback ports that stay free.
//!
//! A node that is killed and started again must find its ports as it left them, so they lie below the range from which the system gives
//! ports to outgoing connections.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Hands out addresses on 127.0.0.1, each once.
#[derive(Debug)]
pub(super) struct Ports {
    tried: u16,
    offset: u16,
}

impl Ports {
    /// Demos that run side by side begin at different places.
    pub(super) fn new() -> Self {
        let offset = std::process::id().wrapping_mul(131) % u32::from(COUNT);
        Self { tried: 0, offset: u16::try_from(offset).unwrap_or_default() }
    }

    /// An address on which nobody listens.
    pub(super) fn free(&mut self) -> anyhow::Result<SocketAddr> {
        while self.tried < COUNT {
            let port = FIRST + (self.offset + self.tried) % COUNT;
            self.tried += 1;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        bail!("no free port on 127.0.0.1 from {FIRST} to {}", FIRST + COUNT - 1)
    }
}
