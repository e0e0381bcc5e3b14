//! A connection to one node's admin interface.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::{Failure, Remote};

/// A node on the same network accepts in milliseconds; after this it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A proposal waits for a quorum; without one the operator should hear so before losing patience.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to the node that the arguments name.
pub(super) async fn connect(remote: &Remote) -> Result<Channel, Failure> {
    let admin = &remote.admin;
    let endpoint = Endpoint::from_shared(admin.clone()).map_err(|error| {
        Failure::usage(format!("--admin {admin:?} is not a URL ({error}); give for example http://127.0.0.1:7070"))
    })?;
    endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(|error| {
        Failure::failed(format!(
            "no node answers at {admin} ({}); is one running there? Start one with `sluice serve`, or name another with --admin or SLUICE_ADMIN",
            root_cause(&error)
        ))
    })
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

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named_with_what_to_do() -> anyhow::Result<()> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let remote = Remote { admin: format!("http://{free}"), output: Output::Json };
        let failure = connect(&remote).await.map(drop).map_err(|failure| failure.to_string());
        assert!(failure.is_err_and(|said| said.contains(&remote.admin) && said.contains("sluice serve")));
        let remote = Remote { admin: "not a url".to_owned(), ..remote };
        let failure = connect(&remote).await.map(drop);
        assert!(failure.is_err_and(|failure| failure.to_string().contains("http://127.0.0.1:7070")));
        Ok(())
    }
}
