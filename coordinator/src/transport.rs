//! The way between nodes: kept HTTP/2 connections, plain or with mutual TLS.
//!
//! One connection per address and [`Traffic`], made when it is first used and made again when it broke. Who is not signed by the
//! cluster's CA gets no connection in either direction. Deadlines of calls are the callers'.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

/// A voter that takes longer to accept is as good as away; below the second after which a lost SYN is sent again.
const CONNECT_WITHIN: Duration = Duration::from_millis(900);
/// A connection into a partition is noticed after these two together, and not when TCP sends again, which by then may be many
/// seconds apart.
const PING_EVERY: Duration = Duration::from_millis(500);
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// The other side of it, for connections whose client is gone without a word.
const SERVER_PING_EVERY: Duration = Duration::from_secs(10);
const SERVER_PING_ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Connections kept. Far more addresses than a cluster has: then they are names that came and went, and all are let go.
const KEPT_MAX: usize = 4_096;

/// What a connection is for. A snapshot fills a connection's window; heartbeats must not wait behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    /// What nodes ask each other outside Raft, and their stays. Pinged only while something is under way: a node may have asked very
    /// many others, and a stay is always under way.
    Node,
    /// Raft's, small and urgent. Pinged always: what a partition has broken is to be known before the next election needs it.
    Control,
    /// Snapshots.
    Bulk,
}

/// How nodes connect to each other. Clones share the connections.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    tls: Option<(ClientTlsConfig, ServerTlsConfig)>,
    kept: Mutex<BTreeMap<(String, Traffic), Channel>>,
}

/// What is wrong with certificates or an address.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A certificate, a key or the CA cannot be used.
    #[error("the cluster's certificates cannot be used: {0}")]
    Tls(String),
    /// Not a `host:port`.
    #[error("{address:?} is no address, want host:port: {why}")]
    Address {
        /// As given.
        address: String,
        /// What the parser said.
        why: String,
    },
}

impl Transport {
    /// Without encryption: everybody who can reach the listener is believed. For networks that nobody else is on, and tests.
    pub fn plain() -> Self {
        Self::new(None)
    }

    /// Mutual TLS: both sides show a certificate signed by a CA of `ca_pem`. A node's name is checked against its certificate;
    /// with `server_name` that one name is expected of all of them, instead of the host that was connected to.
    pub fn tls(
        ca_pem: &[u8],
        cert_pem: &[u8],
        key_pem: &[u8],
        server_name: Option<String>,
    ) -> Result<Self, TransportError> {
        let (ca, identity) = (Certificate::from_pem(ca_pem), Identity::from_pem(cert_pem, key_pem));
        let mut client = ClientTlsConfig::new().ca_certificate(ca.clone()).identity(identity.clone());
        if let Some(name) = server_name {
            client = client.domain_name(name);
        }
        let server = ServerTlsConfig::new().identity(identity).client_ca_root(ca).timeout(CONNECT_WITHIN * 2);
        // Both are only parsed when they are used; a mistake must be told at start.
        let wrong = |error: tonic::transport::Error| TransportError::Tls(chain(&error));
        Endpoint::from_static("https://localhost:1").tls_config(client.clone()).map_err(wrong)?;
        Server::builder().tls_config(server.clone()).map_err(wrong)?;
        Ok(Self::new(Some((client, server))))
    }

    fn new(tls: Option<(ClientTlsConfig, ServerTlsConfig)>) -> Self {
        Self { inner: Arc::new(Inner { tls, kept: Mutex::default() }) }
    }

    /// The kept connection to `address`, which is `host:port`. Connects when it is used.
    pub fn channel(&self, address: &str) -> Result<Channel, TransportError> {
        self.channel_for(address, Traffic::Node)
    }

    /// As [`channel`](Self::channel), on a connection of its own.
    pub(crate) fn channel_for(&self, address: &str, traffic: Traffic) -> Result<Channel, TransportError> {
        let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), traffic);
        if let Some(channel) = kept.get(&key) {
            return Ok(channel.clone());
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let channel = self.endpoint(address)?.keep_alive_while_idle(traffic != Traffic::Node).connect_lazy();
        kept.insert(key, channel.clone());
        Ok(channel)
    }

    /// A connection to `address` that lasts only as long as whoever asked for it has it.
    pub(crate) fn passing(&self, address: &str) -> Result<Channel, TransportError> {
        Ok(self.endpoint(address)?.connect_lazy())
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, TransportError> {
        let wrong = |why: String| TransportError::Address { address: address.to_owned(), why };
        let scheme = if self.inner.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|error| wrong(chain(&error)))?;
        if endpoint.uri().port_u16().is_none() {
            return Err(wrong("there is no port".to_owned()));
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWERED_WITHIN);
        match &self.inner.tls {
            Some((client, _)) => {
                endpoint.tls_config(client.clone()).map_err(|error| TransportError::Tls(chain(&error)))
            }
            None => Ok(endpoint),
        }
    }

    /// A server for the cluster listener. With TLS it refuses whoever shows no certificate of the CA.
    pub fn server(&self) -> Result<Server, TransportError> {
        let server = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(SERVER_PING_EVERY))
            .http2_keepalive_timeout(Some(SERVER_PING_ANSWERED_WITHIN));
        match &self.inner.tls {
            Some((_, tls)) => server.tls_config(tls.clone()).map_err(|error| TransportError::Tls(chain(&error))),
            None => Ok(server),
        }
    }

    /// Whether connections are encrypted and both sides known.
    pub fn is_tls(&self) -> bool {
        self.inner.tls.is_some()
    }
}

impl fmt::Debug for Transport {
    // Keys do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("is_tls", &self.is_tls()).finish_non_exhaustive()
    }
}

/// Why a call failed, with the causes. A status shows itself as to a debugger.
pub(crate) fn why(status: &tonic::Status) -> String {
    let said = if status.message().is_empty() { status.code().description() } else { status.message() };
    match std::error::Error::source(status) {
        Some(cause) => format!("{said}: {}", chain(cause)),
        None => said.to_owned(),
    }
}

/// An error with its causes: tonic's own words are only "transport error".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
