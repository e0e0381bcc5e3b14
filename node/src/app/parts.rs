//! From a node's configuration to what its parts are started with.

use std::net::SocketAddr;

use sluice_coordinator::{Config as CoordinatorConfig, Coordinator, Timings, Transport, TransportError, plan};
use tokio::net::TcpListener;

use super::{DATA_DIR_WITHIN, Error, HANDOVER_MARGIN};
use crate::{
    config::{self, Balance, Credentials},
    task,
};

pub(super) fn transport(credentials: &Credentials) -> Result<Transport, TransportError> {
    let Some(cluster) = &credentials.cluster else { return Ok(Transport::plain()) };
    Transport::tls(&cluster.ca, &cluster.own.cert, cluster.own.key.expose(), cluster.server_name.clone())
}

pub(super) async fn start_coordinator(
    config: &config::Node,
    listener: Option<TcpListener>,
    admin: SocketAddr,
    transport: Transport,
) -> Result<Coordinator, Error> {
    let path = config.data_dir.clone();
    let cluster = &config.clustering;
    let mut coordinator = CoordinatorConfig::new(&path, config.name.clone());
    coordinator.data_dir_within = DATA_DIR_WITHIN;
    coordinator.cluster_name = config.cluster.to_string();
    coordinator.address = match (&cluster.advertise, &listener) {
        (Some(advertise), _) => advertise.clone(),
        (None, Some(listener)) => listener.local_addr()?.to_string(),
        (None, None) => String::new(),
    };
    coordinator.admin_address = admin_address(admin, cluster.advertise.as_deref());
    coordinator.cluster_listener = listener.map(TcpListener::into_std).transpose()?;
    coordinator.transport = transport;
    coordinator.seeds.clone_from(&cluster.seeds);
    coordinator.bootstrap_expect = usize::try_from(cluster.bootstrap_expect).unwrap_or(usize::MAX);
    coordinator.may_found = cluster.may_found;
    coordinator.voters_max = usize::try_from(cluster.voters_max).unwrap_or(usize::MAX);
    coordinator.lease = cluster.lease;
    coordinator.keep_alive = cluster.keep_alive;
    let (election_min, election_max) = cluster.election_timeout;
    coordinator.timings = Timings { heartbeat: cluster.heartbeat, election_min, election_max };
    coordinator.plan.balance = match cluster.balance {
        Balance::Count => plan::Balance::Count,
        Balance::Rate => plan::Balance::Rate,
    };
    coordinator.plan.handover_deadline = config.drain_deadline + HANDOVER_MARGIN;
    Coordinator::start(coordinator).await.map_err(|source| Error::Coordinator { path, source: Box::new(source) })
}

/// What others call to reach the admin listener: one that listens everywhere is reached where the cluster's is.
fn admin_address(listens: SocketAddr, advertise: Option<&str>) -> String {
    match advertise.and_then(|advertise| advertise.rsplit_once(':')) {
        Some((host, _)) if listens.ip().is_unspecified() => format!("{host}:{}", listens.port()),
        _ => listens.to_string(),
    }
}

pub(super) fn supervision(config: &config::Node) -> task::Config {
    task::Config {
        lanes: config.lanes.get(),
        in_flight: config.in_flight,
        secret_roots: config.secret_roots.clone(),
        drain_deadline: config.drain_deadline,
    }
}
