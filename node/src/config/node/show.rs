//! The effective configuration of a node, defaults included, as the file that would give it.

use serde::Serialize;

use super::{LogFormat, Node};
use crate::config::units;

#[derive(Serialize)]
struct Document<'n> {
    name: &'n str,
    cluster: &'n str,
    data_dir: String,
    admin_listen: String,
    admin_allow_remote: bool,
    http_listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipelines_dir: Option<String>,
    lanes: usize,
    in_flight: InFlight,
    secret_roots: Vec<String>,
    drain_deadline: String,
    checkpoint_interval: String,
    log: Log<'n>,
}

#[derive(Serialize)]
struct InFlight {
    lane_readings: u64,
    lane_bytes: String,
    shard_readings: u64,
    shard_bytes: String,
}

#[derive(Serialize)]
struct Log<'n> {
    format: &'static str,
    filter: &'n str,
}

impl Node {
    /// The effective configuration as YAML.
    ///
    /// # Errors
    /// The YAML writer's, of which none is known.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        serde_saphyr::to_string(&Document {
            name: self.name.as_str(),
            cluster: self.cluster.as_str(),
            data_dir: self.data_dir.display().to_string(),
            admin_listen: self.admin_listen.to_string(),
            admin_allow_remote: self.admin_allow_remote,
            http_listen: self.http_listen.to_string(),
            pipelines_dir: self.pipelines_dir.as_ref().map(|path| path.display().to_string()),
            lanes: self.lanes.get(),
            in_flight: InFlight {
                lane_readings: self.in_flight.lane_readings.get(),
                lane_bytes: units::show_size(self.in_flight.lane_bytes.get()),
                shard_readings: self.in_flight.shard_readings.get(),
                shard_bytes: units::show_size(self.in_flight.shard_bytes.get()),
            },
            secret_roots: self.secret_roots.paths().iter().map(|path| path.display().to_string()).collect(),
            drain_deadline: units::show_duration(self.drain_deadline),
            checkpoint_interval: units::show_duration(self.checkpoint_interval),
            log: Log {
                format: match self.log.format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                },
                filter: &self.log.filter,
            },
        })
    }
}
