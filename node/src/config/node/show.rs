//! The effective configuration of a node, defaults included, as the file that would give it.

use serde::Serialize;

use super::{Balance, LogFormat, Node, Security};
use crate::config::units;

#[derive(Serialize)]
struct Document<'n> {
    name: &'n str,
    cluster: &'n str,
    data_dir: String,
    admin_listen: String,
    admin_allow_remote: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_tls: Option<AdminTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_tokens: Option<AdminTokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_advertise: Option<&'n str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_tls: Option<ClusterTls<'n>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_insecure: Option<bool>,
    seeds: &'n [String],
    bootstrap_expect: u64,
    bootstrap: bool,
    voters_max: u64,
    lease: String,
    keep_alive: String,
    heartbeat: String,
    election_timeout: String,
    balance: &'static str,
    http_listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes_statefulset: Option<&'n str>,
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
struct AdminTls {
    cert_file: String,
    key_file: String,
}

#[derive(Serialize)]
struct AdminTokens {
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    operate: String,
}

#[derive(Serialize)]
struct ClusterTls<'n> {
    ca_file: String,
    cert_file: String,
    key_file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<&'n str>,
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
        let cluster = &self.clustering;
        let (from, to) = cluster.election_timeout;
        serde_saphyr::to_string(&Document {
            name: self.name.as_str(),
            cluster: self.cluster.as_str(),
            data_dir: self.data_dir.display().to_string(),
            admin_listen: self.admin_listen.to_string(),
            admin_allow_remote: self.admin_allow_remote,
            admin_tls: self.admin_tls.as_ref().map(|tls| AdminTls {
                cert_file: tls.cert_file.display().to_string(),
                key_file: tls.key_file.display().to_string(),
            }),
            admin_tokens: self.admin_tokens.as_ref().map(|tokens| AdminTokens {
                read: tokens.read.as_ref().map(|token| token.show(true)),
                operate: tokens.operate.show(true),
            }),
            cluster_listen: cluster.listen.map(|listen| listen.to_string()),
            cluster_advertise: cluster.advertise.as_deref(),
            cluster_tls: match &cluster.security {
                Security::None => None,
                Security::Tls(tls) => Some(ClusterTls {
                    ca_file: tls.ca_file.display().to_string(),
                    cert_file: tls.cert_file.display().to_string(),
                    key_file: tls.key_file.display().to_string(),
                    server_name: tls.server_name.as_deref(),
                }),
            },
            cluster_insecure: (cluster.listen.is_some() && cluster.security == Security::None).then_some(true),
            seeds: &cluster.seeds,
            bootstrap_expect: cluster.bootstrap_expect,
            bootstrap: cluster.may_found,
            voters_max: cluster.voters_max,
            lease: units::show_duration(cluster.lease),
            keep_alive: units::show_duration(cluster.keep_alive),
            heartbeat: units::show_duration(cluster.heartbeat),
            election_timeout: format!("{}-{}", units::show_duration(from), units::show_duration(to)),
            balance: match cluster.balance {
                Balance::Count => "count",
                Balance::Rate => "rate",
            },
            http_listen: self.http_listen.to_string(),
            kubernetes_statefulset: self.kubernetes_statefulset.as_deref(),
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
