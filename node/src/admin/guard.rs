//! Who may call what on the admin listener, where tokens are configured.
//!
//! A caller shows `authorization: Bearer <token>`. One table says which calls change nothing; what is not in it, a call of a later
//! version too, takes the token that may do everything.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
    middleware::Next,
    response::Response,
};
use tonic::Status;

use crate::config::{Secret, Tokens};

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Whoever reaches the listener: health, which probes ask without a token, tells only that somebody answers.
    Nothing,
    /// Changes nothing.
    Read,
    /// May change everything.
    Operate,
}

/// Path, or its beginning where it ends in `/`.
const TABLE: [(&str, Needs); 10] = [
    ("/grpc.health.v1.Health/", Needs::Nothing),
    ("/grpc.reflection.v1.ServerReflection/", Needs::Read),
    ("/sluice.admin.v1.ClusterService/GetStatus", Needs::Read),
    ("/sluice.admin.v1.NodeService/ListNodes", Needs::Read),
    ("/sluice.admin.v1.PipelineService/ListPipelines", Needs::Read),
    ("/sluice.admin.v1.PipelineService/GetPipeline", Needs::Read),
    ("/sluice.admin.v1.AssignmentService/ListAssignments", Needs::Read),
    ("/sluice.admin.v1.AssignmentService/WatchAssignments", Needs::Read),
    ("/sluice.admin.v1.CheckpointService/ListCheckpoints", Needs::Read),
    ("/sluice.admin.v1.", Needs::Operate),
];

/// Lets a request through whose token is good for what it calls.
pub(super) async fn check(State(tokens): State<Arc<Tokens>>, request: Request, next: Next) -> Response {
    match allow(&tokens, needs(request.uri().path()), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(status) => status.into_http(),
    }
}

fn needs(path: &str) -> Needs {
    let is_it = |entry: &str| path == entry || (entry.ends_with(['/', '.']) && path.starts_with(entry));
    TABLE.iter().find(|(entry, _)| is_it(entry)).map_or(Needs::Operate, |(_, needs)| *needs)
}

fn allow(tokens: &Tokens, needs: Needs, headers: &HeaderMap) -> Result<(), Status> {
    if needs == Needs::Nothing {
        return Ok(());
    }
    let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let Some(shown) = shown.and_then(|shown| shown.strip_prefix(b"Bearer ")) else {
        return Err(Status::unauthenticated("this node asks for a token, and none was shown"));
    };
    let may_read = tokens.read.as_ref().is_some_and(|token| is_same(token, shown));
    match (is_same(&tokens.operate, shown), may_read, needs) {
        (true, _, _) | (false, true, Needs::Read) => Ok(()),
        (false, true, _) => Err(Status::permission_denied("the token shown may look, and change nothing")),
        (false, false, _) => Err(Status::unauthenticated("the token shown is none of this node's")),
    }
}

/// Takes equally long wherever they differ, so that a token cannot be guessed one character after the other.
fn is_same(token: &Secret, shown: &[u8]) -> bool {
    let token = token.expose();
    let difference = token.iter().zip(shown).fold(0, |difference, (a, b)| difference | (a ^ b));
    token.len() == shown.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use tonic::Code;

    use super::*;

    fn code(token: Option<&str>, path: &str) -> Option<Code> {
        let tokens = Tokens { read: Some(Secret::new("reader")), operate: Secret::new("operator") };
        let mut headers = HeaderMap::new();
        if let Some(value) = token.and_then(|token| HeaderValue::from_str(token).ok()) {
            headers.insert(AUTHORIZATION, value);
        }
        allow(&tokens, needs(path), &headers).err().map(|status| status.code())
    }

    #[test]
    fn a_token_is_good_for_its_role() {
        let (look, act) = ("/sluice.admin.v1.NodeService/ListNodes", "/sluice.admin.v1.NodeService/DrainNode");
        for (token, may_look, may_act) in [
            (None, Some(Code::Unauthenticated), Some(Code::Unauthenticated)),
            (Some("Bearer "), Some(Code::Unauthenticated), Some(Code::Unauthenticated)),
            (Some("Bearer operato"), Some(Code::Unauthenticated), Some(Code::Unauthenticated)),
            (Some("operator"), Some(Code::Unauthenticated), Some(Code::Unauthenticated)),
            (Some("Bearer reader"), None, Some(Code::PermissionDenied)),
            (Some("Bearer operator"), None, None),
        ] {
            assert_eq!((code(token, look), code(token, act)), (may_look, may_act), "{token:?}");
        }
        assert_eq!(code(None, "/grpc.health.v1.Health/Check"), None);
        assert_eq!(code(Some("Bearer reader"), "/what.comes.later/Do"), Some(Code::PermissionDenied));
    }

    /// Every call there is, against what its name says.
    #[test]
    fn what_lists_gets_or_watches_reads_and_all_else_operates() -> anyhow::Result<()> {
        let pool = DescriptorPool::decode(sluice_proto::FILE_DESCRIPTOR_SET)?;
        let services: Vec<_> = pool.services().filter(|service| service.package_name() == "sluice.admin.v1").collect();
        assert!(services.len() >= 5);
        for method in services.iter().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let looks = ["List", "Get", "Watch"].iter().any(|verb| method.name().starts_with(verb));
            assert_eq!(needs(&path), if looks { Needs::Read } else { Needs::Operate }, "{path}");
        }
        Ok(())
    }
}
