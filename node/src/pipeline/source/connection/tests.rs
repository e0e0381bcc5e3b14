//! Connections over loopback: TCP, TLS with a CA of our own, and every way in which they fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::io::Write;

use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pipeline/source/connection/testdata/ca.pem");
const WITHIN: Duration = Duration::from_secs(5);
const MESSAGE_BYTES: usize = 700_000;

fn servers(urls: &[String]) -> Vec<Server> {
    urls.iter().map(|url| url.parse().unwrap()).collect()
}

/// Answers with what it reads, until the end.
async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.ok();
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("testdata/server.pem")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/server.key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Sends more than any buffer holds and reads it back, then sees the end.
async fn goes_there_and_back(connection: Connection) {
    let mut out: BytesMut = (0..MESSAGE_BYTES).map(|i| i.to_le_bytes()[0]).collect();
    let sent = out.clone();
    let (mut received, mut input) = (BytesMut::new(), BytesMut::new());
    let mut connection = connection;
    while received.len() < MESSAGE_BYTES {
        // As a lane does: write what can be written, read what is there.
        std::future::poll_fn(|cx| {
            let _ = connection.poll_write_from(cx, &mut out)?;
            let read = ready!(connection.poll_read_into(cx, &mut input))?;
            assert!((1..=READ_BYTES_MAX).contains(&read), "{read}");
            Poll::Ready(io::Result::Ok(()))
        })
        .await
        .unwrap();
        received.extend_from_slice(&input.split());
    }
    assert!(received == sent);
    connection.shutdown().await.unwrap();
    assert_eq!(connection.read_into(&mut input).await.unwrap(), 0);
}

#[tokio::test]
async fn tcp_carries_bytes_both_ways() {
    let (listener, port) = listen().await;
    let server = async { echo(listener.accept().await.unwrap().0).await };
    let connector = Connector::new(servers(&[format!("mqtt://127.0.0.1:{port}")]), None, WITHIN).unwrap();
    let client = async { goes_there_and_back(connector.connect(0).await.unwrap()).await };
    tokio::join!(server, client);
}

#[tokio::test]
async fn tls_carries_bytes_both_ways() {
    for host in ["localhost", "127.0.0.1"] {
        let (listener, port) = listen().await;
        let server = async {
            let stream = acceptor().accept(listener.accept().await.unwrap().0).await.unwrap();
            echo(stream).await;
        };
        let servers = servers(&[format!("mqtts://{host}:{port}")]);
        let connector = Connector::new(servers, Some(Path::new(CA)), WITHIN).unwrap();
        let client = async { goes_there_and_back(connector.connect(0).await.unwrap()).await };
        tokio::join!(server, client);
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (listener, port) = listen().await;
    let server = async { acceptor().accept(listener.accept().await.unwrap().0).await.err() };
    // A certificate, but not of a CA that signed anything.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pipeline/source/connection/testdata/server.pem");
    let servers = servers(&[format!("mqtts://localhost:{port}")]);
    let connector = Connector::new(servers, Some(Path::new(other)), WITHIN).unwrap();
    let (refusal, connected) = tokio::join!(server, connector.connect(0));
    assert!(refusal.is_some());
    assert!(matches!(connected, Err(ConnectError::Tls { .. })), "{connected:?}");
}

#[tokio::test]
async fn who_does_not_answer_is_given_up() {
    // TLS against a server that accepts and says nothing.
    let (listener, port) = listen().await;
    let servers = servers(&[format!("mqtts://127.0.0.1:{port}"), format!("mqtt://127.0.0.1:{port}")]);
    let connector = Connector::new(servers, Some(Path::new(CA)), Duration::from_millis(50)).unwrap();
    assert!(matches!(connector.connect(0).await, Err(ConnectError::Timeout { .. })));
    assert!(connector.connect(1).await.is_ok());
    assert_eq!(connector.server(2), connector.server(0));
    drop(listener);
    assert!(matches!(connector.connect(1).await, Err(ConnectError::Tcp { .. })));
}

#[test]
fn a_wrong_ca_file_is_found_at_once() {
    let servers = || servers(&["mqtts://broker".to_owned()]);
    let missing = Connector::new(servers(), Some(Path::new("/nonexistent/ca.pem")), WITHIN);
    assert!(matches!(missing, Err(ConnectorError::CaFile { .. })));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let empty = Connector::new(servers(), Some(file.path()), WITHIN);
    assert!(matches!(empty, Err(ConnectorError::CaFileEmpty { .. })));
    file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let broken = Connector::new(servers(), Some(file.path()), WITHIN);
    assert!(matches!(broken, Err(ConnectorError::CaFileEmpty { .. })));
    assert!(matches!(Connector::new(Vec::new(), None, WITHIN), Err(ConnectorError::NoServer)));
}

#[test]
fn connectors_share_their_roots_until_the_file_changes() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&fs::read(CA).unwrap()).unwrap();
    let config = || tls(Some(file.path())).unwrap();
    let first = config();
    assert!(Arc::ptr_eq(&first, &config()));
    file.as_file().write_all(b"\n").unwrap();
    assert!(!Arc::ptr_eq(&first, &config()), "a renewed file is read anew");
}
