//! TLS in front of a server that speaks none: everything goes on to its port, and back.

use std::{
    fs::File,
    io::BufReader,
    net::{Ipv4Addr, TcpListener as StdListener},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificate;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    _running: oneshot::Sender<()>,
}

impl TlsFront {
    /// Shows `certificate` to whoever comes, and connects them to `port` of loopback.
    ///
    /// # Errors
    /// The certificate cannot be used, or there is no free port.
    pub fn start(certificate: &Certificate, port: u16) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_reader_iter(BufReader::new(File::open(&certificate.certificate)?));
        let key = PrivateKeyDer::from_pem_file(&certificate.key).context("the key")?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>()?, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let own = listener.local_addr()?.port();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (running, dropped) = oneshot::channel::<()>();
        thread::Builder::new().name("tls-front".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    ended = accept(listener, acceptor, port) => {
                        if let Err(error) = ended {
                            eprintln!("TLS front: {error}");
                        }
                    }
                    // Never sent: it ends with its sender.
                    _ = dropped => {}
                }
            });
        })?;
        Ok(Self { port: own, _running: running })
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn accept(listener: StdListener, acceptor: TlsAcceptor, port: u16) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Who does not finish the handshake, or goes, is the client's own to tell.
            let carried = async {
                client.set_nodelay(true)?;
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await
            };
            drop(carried.await);
        });
    }
}
