//! One question to the apiserver, asked as Kubernetes lets a pod ask it: with the token and the certificate authority that lie in the pod,
//! at the address that its environment names (Kubernetes documentation, "Accessing the Kubernetes API from a Pod").

use std::{env, fs, io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::pipeline::source::connection::{self, ConnectorError};

/// Where Kubernetes mounts what a service account has.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// It answers in milliseconds; a node that stops waits no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Far more than an object can have in etcd.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// How the apiserver is reached from this pod.
#[derive(Debug, Clone)]
pub(super) struct Api {
    host: String,
    port: u16,
    mounted: PathBuf,
    /// The namespace that this pod is in.
    pub(super) namespace: String,
}

/// Why the apiserver did not say what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// This process runs in no pod, or in one that may not ask.
    #[error("{0}")]
    NoPod(String),
    /// A mounted file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] ConnectorError),
    /// The address cannot stand in a certificate.
    #[error("KUBERNETES_SERVICE_HOST: {0}")]
    Name(String),
    /// The connection, or the certificate that it shows.
    #[error("the apiserver at {address} cannot be reached: {source}; does a NetworkPolicy keep this pod from it?")]
    Io {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The conversation.
    #[error("the apiserver: {0}")]
    Http(String),
    /// It refused.
    #[error("the apiserver answers {status} to GET {path}: {message}{}", hint(*status))]
    Status {
        /// HTTP's.
        status: StatusCode,
        /// What was asked for.
        path: String,
        /// Its words.
        message: String,
    },
    /// Nothing came.
    #[error("the apiserver has not answered within {ANSWER_WITHIN:?}")]
    Silent,
    /// It is not what was asked for.
    #[error("the apiserver's answer is not understood: {0}")]
    Answer(String),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => {
            "; give the service account a Role that may get this StatefulSet, as k8s/base/access.yaml does"
        }
        StatusCode::NOT_FOUND => "; correct kubernetes_statefulset",
        _ => "",
    }
}

impl Api {
    /// As this pod has it.
    pub(super) fn of_pod() -> Result<Self, ApiError> {
        let variable = |name| {
            env::var(name).map_err(|_| ApiError::NoPod(format!("this process runs in no pod: {name} is not set")))
        };
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let port =
            port.parse().map_err(|_| ApiError::NoPod(format!("KUBERNETES_SERVICE_PORT: {port:?} is no port")))?;
        let mounted = PathBuf::from(MOUNTED);
        let path = mounted.join("namespace");
        let namespace = fs::read_to_string(&path).map_err(|source| {
            let why = format!("{}: {source}; give the pod a service account whose token is mounted", path.display());
            ApiError::NoPod(why)
        })?;
        Ok(Self { host, port, mounted, namespace: namespace.trim().to_owned() })
    }

    /// The object at this path, as JSON.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, ApiError> {
        timeout(ANSWER_WITHIN, self.ask(path)).await.map_err(|_| ApiError::Silent)?
    }

    async fn ask(&self, path: &str) -> Result<Bytes, ApiError> {
        let address = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        let io = |source| ApiError::Io { address: address.clone(), source };
        // Both are replaced from time to time.
        let (tls, token) = (connection::tls(Some(&self.mounted.join("ca.crt")))?, self.read("token")?);
        let name = ServerName::try_from(self.host.clone()).map_err(|error| ApiError::Name(error.to_string()))?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(io)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(io)?;
        let http = |error: hyper::Error| ApiError::Http(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = Request::get(path)
            .header(header::HOST, &address)
            .header(header::AUTHORIZATION, format!("Bearer {}", String::from_utf8_lossy(&token).trim()))
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ApiError::Http(error.to_string()))?;
        let answered = async move {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok::<_, ApiError>((status, body.map_err(|error| ApiError::Http(error.to_string()))?.to_bytes()))
        };
        // The connection carries only this, and ends with it.
        let (answered, _) = tokio::join!(answered, connection);
        let (status, body) = answered?;
        if status.is_success() {
            return Ok(body);
        }
        // A `Status` object says why.
        let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let message = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or_default().to_owned();
        Err(ApiError::Status { status, path: path.to_owned(), message })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        let path = self.mounted.join(name);
        fs::read(&path).map_err(|source| ApiError::File { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const CA: &[u8] = include_bytes!("../pipeline/source/connection/testdata/ca.pem");
    const CERT: &[u8] = include_bytes!("../pipeline/source/connection/testdata/server.pem");
    const KEY: &[u8] = include_bytes!("../pipeline/source/connection/testdata/server.key.pem");

    /// Asks a server that answers once with `answer`; what it was asked, and what came of it.
    async fn ask(answer: &str, ca: &[u8]) -> anyhow::Result<(String, Result<Bytes, ApiError>)> {
        let chain = CertificateDer::pem_slice_iter(CERT).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(KEY)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mounted = tempfile::tempdir()?;
        fs::write(mounted.path().join("ca.crt"), ca)?;
        fs::write(mounted.path().join("token"), "secret\n")?;
        let api = Api {
            host: "127.0.0.1".to_owned(),
            port,
            mounted: mounted.path().to_owned(),
            namespace: "plant".to_owned(),
        };
        let server = async {
            let Ok(mut stream) = acceptor.accept(listener.accept().await?.0).await else { return Ok(String::new()) };
            let mut asked = vec![0; 4_096];
            let bytes = stream.read(&mut asked).await?;
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&asked[..bytes]).into_owned())
        };
        let (asked, answered) = tokio::join!(server, api.get("/apis/x"));
        Ok((asked?, answered))
    }

    #[tokio::test]
    async fn an_object_is_asked_for_with_the_pods_token() -> anyhow::Result<()> {
        let (asked, answered) = ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", CA).await?;
        assert!(asked.starts_with("GET /apis/x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("\r\nauthorization: bearer secret\r\n"), "{asked}");
        assert_eq!(answered?, "{}");
        Ok(())
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do() -> anyhow::Result<()> {
        let body = r#"{"kind":"Status","message":"user cannot get it"}"#;
        let answer = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let why = ask(&answer, CA).await?.1.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("403") && why.contains("user cannot get it") && why.contains("Role"), "{why}");
        Ok(())
    }

    #[tokio::test]
    async fn another_authoritys_certificate_is_refused_and_nothing_is_said() -> anyhow::Result<()> {
        // A certificate, but not of a CA that signed anything.
        let (asked, answered) = ask("", CERT).await?;
        assert!(asked.is_empty() && matches!(answered, Err(ApiError::Io { .. })), "{answered:?}");
        Ok(())
    }
}
