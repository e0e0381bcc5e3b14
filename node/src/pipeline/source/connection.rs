//! Network connections to MQTT brokers: TCP and TLS behind one stream type.
//!
//! Whatever can be wrong with a CA file is found when the connector is made, not at the first connection. Reading borrows
//! the caller's buffer only while bytes are taken over, so that idle shards of a lane share one.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, BytesMut};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{
        CertificateDer, InvalidDnsNameError, ServerName,
        pem::{self, PemObject},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::server::Server;

/// Most bytes taken over in one turn: large reads make the cost of a system call vanish beside that of its readings, and more
/// would let one shard keep the others of its lane waiting.
pub const READ_BYTES_MAX: usize = 256 * 1024;

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    servers: Vec<Server>,
    tls: Option<TlsConnector>,
    within: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("servers", &self.servers)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// A connector that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// No server.
    #[error("no server is given: name at least one MQTT broker")]
    NoServer,
    /// The CA file cannot be read.
    #[error("the CA file {} cannot be read: {source}; give a readable PEM file", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The CA file holds nothing usable.
    #[error("the CA file {} holds no usable certificate: give a PEM file with the CA that signed the broker's", path.display())]
    CaFileEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The system has no roots.
    #[error("the system has no CA certificates: install them (ca-certificates) or give a CA file")]
    NoSystemRoots,
    /// The TLS library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A connection that could not be made. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP.
    #[error("cannot reach the MQTT broker {server}: {source}")]
    Tcp {
        /// The broker.
        server: Server,
        /// Why.
        source: io::Error,
    },
    /// TLS; mostly a certificate.
    #[error(
        "cannot agree on TLS with the MQTT broker {server}: {source}; check the CA file and the names in the broker's certificate"
    )]
    Tls {
        /// The broker.
        server: Server,
        /// Why.
        source: io::Error,
    },
    /// The host cannot stand in a certificate.
    #[error("the host of {server} cannot stand in a certificate: {source}")]
    Name {
        /// The broker.
        server: Server,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// It took too long.
    #[error("the MQTT broker {server} did not answer within {within:?}")]
    Timeout {
        /// The broker.
        server: Server,
        /// How long.
        within: Duration,
    },
}

impl Connector {
    /// A connector for `servers`. `ca_file`: PEM file of the CAs to trust instead of the system's. `within`: for one connection, TLS included.
    pub fn new(servers: Vec<Server>, ca_file: Option<&Path>, within: Duration) -> Result<Self, ConnectorError> {
        if servers.is_empty() {
            return Err(ConnectorError::NoServer);
        }
        // A CA file that is given is looked at even if no server needs it: a wrong one is a mistake to hear of now.
        let tls = match ca_file {
            Some(path) => Some(tls(Some(path))?),
            None if servers.iter().any(|server| server.is_tls) => Some(tls(None)?),
            None => None,
        };
        Ok(Self { servers, tls: tls.map(TlsConnector::from), within })
    }

    /// The server of an attempt: all in turn.
    #[must_use]
    pub fn server(&self, attempt: usize) -> &Server {
        &self.servers[attempt % self.servers.len()]
    }

    /// Connects to [`Connector::server`]`(attempt)`.
    pub async fn connect(&self, attempt: usize) -> Result<Connection, ConnectError> {
        let server = self.server(attempt);
        match timeout(self.within, self.connect_to(server)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Timeout { server: server.clone(), within: self.within }),
        }
    }

    async fn connect_to(&self, server: &Server) -> Result<Connection, ConnectError> {
        let tcp_error = |source| ConnectError::Tcp { server: server.clone(), source };
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(tcp_error)?;
        // Acks are small and must not wait for more.
        tcp.set_nodelay(true).map_err(tcp_error)?;
        let Some(tls) = self.tls.as_ref().filter(|_| server.is_tls) else {
            return Ok(Connection(Stream::Tcp(tcp)));
        };
        let name = ServerName::try_from(server.host.clone())
            .map_err(|source| ConnectError::Name { server: server.clone(), source })?;
        let stream =
            tls.connect(name, tcp).await.map_err(|source| ConnectError::Tls { server: server.clone(), source })?;
        Ok(Connection(Stream::Tls(Box::new(stream))))
    }
}

/// A network connection to an MQTT broker.
#[derive(Debug)]
pub struct Connection(Stream);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Takes over what has arrived, at most [`READ_BYTES_MAX`], at the end of `input`, which is borrowed for this call only. 0: the broker closed.
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
        // A quarter left is worth filling before the buffer is renewed or moved together.
        if input.capacity() - input.len() < READ_BYTES_MAX / 4 {
            input.reserve(READ_BYTES_MAX);
        }
        let most = (input.capacity() - input.len()).min(READ_BYTES_MAX);
        let mut taken = 0;
        // TLS hands out a record at a time: go on while there are more. After a short read of TCP this costs no system call.
        while taken < most {
            let mut limited = (&mut *input).limit(most - taken);
            let polled = pin!(self.read_buf(&mut limited)).poll(cx);
            match polled {
                Poll::Ready(Ok(bytes)) if bytes > 0 => taken += bytes,
                // What came before an end or an error comes first; they stay to be seen at the next call.
                _ if taken > 0 => break,
                ended => return ended,
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// [`Connection::poll_read_into`] as a future; dropping it loses nothing.
    pub async fn read_into(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read_into(cx, input)).await
    }

    /// Writes from the front of `out` until it is empty and flushed; what is written is taken off, so that it may be called again later.
    pub fn poll_write_from(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            match ready!(Pin::new(&mut *self).poll_write(cx, out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => out.advance(bytes),
            }
        }
        Pin::new(self).poll_flush(cx)
    }

    /// [`Connection::poll_write_from`] as a future; dropping it leaves the rest in `out`.
    pub async fn write_from(&mut self, out: &mut BytesMut) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_write_from(cx, out)).await
    }

    /// Closes in order: the broker sees everything written before, then the end. What it still sends is read and thrown away until it
    /// closes, too: a socket closed with bytes unread is reset, and the reset overtakes acks that the broker has not read yet.
    pub async fn close(mut self) -> io::Result<()> {
        self.shutdown().await?;
        // Small: a node that stops closes the connections of all its shards at once.
        let mut ignored = BytesMut::with_capacity(2_048);
        while self.read_buf(&mut ignored).await? > 0 {
            ignored.clear();
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The TLS configurations that are in use, by the PEM text of their roots; none: the system's. Thousands of shards share one, so that
/// roots are parsed and kept once; a file that has changed makes another.
static IN_USE: Mutex<BTreeMap<Option<Vec<u8>>, Weak<ClientConfig>>> = Mutex::new(BTreeMap::new());

/// A client's TLS without a certificate of its own, which trusts the CAs in this PEM file; none: the system's.
pub(crate) fn tls(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, ConnectorError> {
    let fault = |path: &Path, source| ConnectorError::CaFile { path: path.to_owned(), source };
    let read = |path| fs::read(path).map_err(|error| fault(path, pem::Error::Io(error)));
    let text = ca_file.map(read).transpose()?;
    // Nothing panics while it is held half changed.
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    in_use.retain(|_, config| config.strong_count() > 0);
    if let Some(config) = in_use.get(&text).and_then(Weak::upgrade) {
        return Ok(config);
    }
    let roots = match (ca_file, &text) {
        (Some(path), Some(text)) => roots_of(text, path)?,
        _ => system_roots()?,
    };
    // Named, because another crate of the process may install a default of its own.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    in_use.insert(text, Arc::downgrade(&config));
    Ok(config)
}

fn roots_of(text: &[u8], path: &Path) -> Result<RootCertStore, ConnectorError> {
    let fault = |source| ConnectorError::CaFile { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(fault)?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 { Err(ConnectorError::CaFileEmpty { path: path.to_owned() }) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, ConnectorError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if usable == 0 { Err(ConnectorError::NoSystemRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
