//! Why a command failed, in words that say what to do, and the exit code that goes with it.

use std::{fmt, process::ExitCode};

use tonic::{Code, Status};

use crate::admin::MANIFEST;

/// A command that did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    is_usage: bool,
}

impl Failure {
    /// The work failed: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_usage: false }
    }

    /// The command, configuration or manifest is wrong: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_usage: true }
    }

    /// What the process leaves with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }

    /// A node does not know what file a manifest came from: its lines begin with [`MANIFEST`].
    pub(super) fn in_manifest(mut self, file: &str) -> Self {
        let line = |line: &str| match line.strip_prefix(MANIFEST) {
            Some(rest) if rest.starts_with(':') => format!("{file}{rest}"),
            _ => line.to_owned(),
        };
        self.message = self.message.split('\n').map(line).collect::<Vec<_>>().join("\n");
        self
    }

    /// The answer of the node at `admin` was `status`.
    pub(super) fn from_status(status: &Status, admin: &str) -> Self {
        let said = status.message();
        match status.code() {
            Code::InvalidArgument => Self::usage(said),
            Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists => Self::failed(said),
            Code::Unauthenticated | Code::PermissionDenied => Self::failed(format!(
                "the node at {admin} does not let you do this ({said}); give the token for it with --admin-token or SLUICE_ADMIN_TOKEN"
            )),
            Code::Unavailable | Code::DeadlineExceeded => {
                Self::failed(format!("the node at {admin} cannot answer now ({said}); ask again in a moment"))
            }
            Code::Unimplemented => {
                Self::failed(format!("the node at {admin} does not know this call ({said}); is it of this version?"))
            }
            // The connection broke, or what answers does not talk as a node does.
            Code::Unknown => {
                let tls = if admin.starts_with("http://") { "; if it has TLS, give an https:// URL" } else { "" };
                Self::failed(format!(
                    "the connection to {admin} failed ({said}); is that the admin listener of a node that runs{tls}?"
                ))
            }
            code => Self::failed(format!("the node at {admin} answered {code:?}: {said}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_manifest_is_a_usage_error_and_a_missing_pipeline_is_not() {
        let wrong = Failure::from_status(&Status::invalid_argument("line 3: unknown key"), "http://x");
        assert_eq!(wrong, Failure::usage("line 3: unknown key"));
        let missing = Failure::from_status(&Status::not_found("no pipeline x"), "http://x");
        assert_eq!(missing, Failure::failed("no pipeline x"));
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_told_of_its_file() {
        let told = Failure::usage("manifest:3: shards: is 0\nmanifest:4: name: is missing").in_manifest("a.yaml");
        assert_eq!(told, Failure::usage("a.yaml:3: shards: is 0\na.yaml:4: name: is missing"));
        assert_eq!(Failure::failed("manifests are many").in_manifest("a.yaml"), Failure::failed("manifests are many"));
    }
}
