//! The cluster's name, which is part of every MQTT client id: two clusters on one broker must not share it.

use std::{fmt, str::FromStr};

use sluice_coordinator::model::NodeName;

/// A cluster's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterName(Box<str>);

impl ClusterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("sluice".into())
    }
}

impl FromStr for ClusterName {
    type Err = String;

    /// The same alphabet as nodes and pipelines have: it stands in client ids and host names.
    fn from_str(name: &str) -> Result<Self, String> {
        match name.parse::<NodeName>() {
            Ok(_) => Ok(Self(name.into())),
            Err(error) => Err(error.to_string().replacen("node name", "cluster name", 1)),
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
