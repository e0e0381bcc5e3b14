//! Names and numbers that identify things, each with a type of its own so that none can stand in for another.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest name of a pipeline or node, in bytes: a DNS label, so that it can stand in a pod name and an MQTT client id.
pub const NAME_BYTES_MAX: usize = 63;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name {name:?} is not usable: give 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and '-', starting and ending with a letter or digit"
)]
pub struct InvalidName {
    what: &'static str,
    name: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                if is_dns_label(name) { Ok(Self(name.into())) } else { Err(InvalidName { what: $what, name: name.to_owned() }) }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// A pipeline's name, unique in the cluster.
    PipelineName,
    "pipeline"
);
name!(
    /// A node's name, stable across restarts and lost disks.
    NodeName,
    "node"
);
name!(
    /// A cluster's id: random, drawn once at bootstrap.
    ClusterId,
    "cluster"
);

impl NodeName {
    /// The digits after the last `-`, as a stateful set numbers its pods.
    pub fn ordinal(&self) -> Option<u32> {
        let digits = self.as_str().rsplit_once('-')?.1;
        // No sign or space can be here: a name has none.
        digits.parse().ok()
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u64);

        impl $type {
            /// The number that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Number of an assignment of one shard: grows each time its owner or its owner's generation changes.
    Epoch
);
number!(
    /// A node's incarnation: grows each time the node starts.
    Generation
);
number!(
    /// A node's id in the Raft group: random per disk, so that a lost disk is a new member.
    RaftId
);
number!(
    /// Version of a pipeline's spec: grows with each apply that changed something.
    Revision
);

/// A unit of placement: one member session of a pipeline's share group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The pipeline it belongs to.
    pub pipeline: PipelineName,
    /// 0 up to the pipeline's shard count.
    pub index: u32,
}

impl ShardId {
    /// The shard `index` of `pipeline`.
    pub fn new(pipeline: &PipelineName, index: u32) -> Self {
        Self { pipeline: pipeline.clone(), index }
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.index)
    }
}

fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "factory-readings", "0", "sluice-0", &"x".repeat(63)] {
            assert!(good.parse::<PipelineName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "a b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<PipelineName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ordinal_is_what_follows_the_last_dash() {
        for (name, ordinal) in [
            ("sluice-0", Some(0)),
            ("a-b-12", Some(12)),
            ("sluice", None),
            ("7", None),
            ("a-9999999999", None),
            ("a-1b", None),
        ] {
            assert_eq!(name.parse::<NodeName>().map(|name| name.ordinal()), Ok(ordinal), "{name}");
        }
    }
}
