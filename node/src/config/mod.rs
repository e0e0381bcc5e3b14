//! Configuration, parsed once at the door: documents that refuse unknown keys, then checked types.
//!
//! Two kinds of document: a node's own configuration ([`Node`]) and pipelines ([`Manifest`]). Both are read from a tree that
//! knows its lines, so that everything that is wrong is told at once, with file, line, key and what to do.

mod cluster_name;
mod error;
pub mod kafka;
pub mod manifest;
pub mod manifests;
mod node;
mod read;
mod secret;
mod suggest;
mod units;
mod yaml;

pub use cluster_name::ClusterName;
pub use error::{ConfigError, ConfigErrors};
pub use manifest::Manifest;
pub use node::{
    AdminTls, AdminTokens, Balance, Cluster, ClusterCredentials, ClusterTls, Credentials, Host, InFlight, Log,
    LogFormat, Node, Overrides, Pair, Security, Tokens, is_setting,
};
pub use secret::{ReferenceError, SECRET_BYTES_MAX, Secret, SecretError, SecretRoots, Value};

/// All values, or all errors.
fn collect<T>(outcomes: impl Iterator<Item = Result<T, ConfigErrors>>) -> Result<Vec<T>, ConfigErrors> {
    let mut values = Vec::new();
    let mut errors: Option<ConfigErrors> = None;
    for outcome in outcomes {
        match (outcome, &mut errors) {
            (Ok(value), _) => values.push(value),
            (Err(more), Some(errors)) => errors.append(more),
            (Err(more), None) => errors = Some(more),
        }
    }
    errors.map_or(Ok(values), Err)
}
