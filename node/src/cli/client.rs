//! A connection to one node's admin interface.

use std::time::Duration;

use tonic::{
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{Failure, Remote};

/// What calls go through: a channel, and the token that each of them shows.
pub(super) type Connection = InterceptedService<Channel, Token>;

/// A node on the same network accepts in milliseconds; after this it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A proposal waits for a quorum; without one the operator should hear so before losing patience.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to the node that the arguments name.
pub(super) async fn connect(remote: &Remote) -> Result<Connection, Failure> {
    let admin = &remote.admin;
    let mut endpoint = Endpoint::from_shared(admin.clone()).map_err(|error| {
        Failure::usage(format!("--admin {admin:?} is not a URL ({error}); give for example http://127.0.0.1:7070"))
    })?;
    if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) {
        return Err(Failure::usage(format!(
            "--admin {admin:?} is no http:// or https:// URL; give for example http://127.0.0.1:7070"
        )));
    }
    if endpoint.uri().scheme_str() == Some("https") {
        endpoint = endpoint.tls_config(tls(remote)?).map_err(|error| {
            Failure::usage(format!(
                "--admin-ca: no connection can be made with it: {error}; give a PEM file of certificates"
            ))
        })?;
    } else if remote.admin_ca.is_some() {
        return Err(Failure::usage(format!("--admin-ca is given and {admin} has no TLS; give an https:// URL")));
    }
    let token = Token::of(remote)?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .connect()
        .await
        .map_err(|error| Failure::failed(unreachable(admin, &root_cause(&error))))?;
    Ok(InterceptedService::new(channel, token))
}

/// What is said of a node that no connection came about with. What went wrong in TLS is known by its words only: it comes through several libraries.
fn unreachable(admin: &str, why: &str) -> String {
    if why.contains("InvalidContentType") {
        return format!("what answers at {admin} does not talk TLS ({why}); give an http:// URL");
    }
    if why.contains("UnknownIssuer") || why.contains("BadSignature") || why.contains("CaUsedAsEndEntity") {
        return format!(
            "the certificate at {admin} is not trusted ({why}); give the CA that signed it with --admin-ca or SLUICE_ADMIN_CA"
        );
    }
    if why.contains("certificate") {
        return format!(
            "the certificate at {admin} does not serve for this URL ({why}); look at its names and its dates"
        );
    }
    format!(
        "no node answers at {admin} ({why}); is one running there? Start one with `sluice serve`, or name another with --admin or SLUICE_ADMIN"
    )
}

fn tls(remote: &Remote) -> Result<ClientTlsConfig, Failure> {
    let Some(path) = &remote.admin_ca else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let pem = std::fs::read(path)
        .map_err(|error| Failure::usage(format!("--admin-ca {}: cannot be read: {error}", path.display())))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// Says with every call who calls.
#[derive(Debug, Clone)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    fn of(remote: &Remote) -> Result<Self, Failure> {
        let Some(token) = remote.admin_token.as_deref().map(str::trim).filter(|token| !token.is_empty()) else {
            return Ok(Self(None));
        };
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Failure::usage("--admin-token holds what a token cannot: give visible ASCII characters"))?;
        // Not shown by whatever logs requests.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A request that gives up after [`CALL_TIMEOUT`].
pub(super) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Output;

    #[test]
    fn what_went_wrong_in_tls_is_told_as_such() {
        let said = |why| unreachable("https://127.0.0.1:7070", why);
        assert!(said("received corrupt message of type InvalidContentType").contains("http://"));
        assert!(said("invalid peer certificate: BadSignature").contains("--admin-ca"));
        assert!(said("invalid peer certificate: Expired").contains("dates"));
        assert!(said("Connection refused (os error 111)").contains("sluice serve"));
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named_with_what_to_do() -> anyhow::Result<()> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let remote =
            Remote { admin: format!("http://{free}"), admin_ca: None, admin_token: None, output: Output::Json };
        let failure = connect(&remote).await.map(drop).map_err(|failure| failure.to_string());
        assert!(failure.is_err_and(|said| said.contains(&remote.admin) && said.contains("sluice serve")));
        let ca = Remote { admin_ca: Some("/nowhere".into()), ..remote.clone() };
        let failure = connect(&ca).await.map(drop);
        assert!(failure.is_err_and(|failure| failure.to_string().contains("https://")));
        for wrong in ["not a url", "127.0.0.1:7070", "localhost:7070", "grpc://localhost:7070"] {
            let remote = Remote { admin: wrong.to_owned(), ..remote.clone() };
            let failure = connect(&remote).await.map(drop).map_err(|failure| failure.to_string());
            assert!(
                failure.is_err_and(|said| said.contains(wrong) && said.contains("http://127.0.0.1:7070")),
                "{wrong}"
            );
        }
        Ok(())
    }
}
