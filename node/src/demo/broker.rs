//! The demo's MQTT broker: `mqtt5` in this process, on a free loopback port, its sessions in memory only.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mqtt5::broker::{
    BrokerConfig, BrokerShutdownHandle, MqttBroker,
    config::{StorageBackend, StorageConfig},
    events::{BrokerEventHandler, ClientConnectEvent, ClientSubscribeEvent, MessageDeliveredEvent},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::flows::Flows;

/// Readings queued for one shard. Twice what sensors let pile up in all, so nothing is ever dropped.
const QUEUED_READINGS_MAX: usize = 80_000;
/// The same in bytes, at 1 KiB each.
const QUEUED_BYTES_MAX: usize = QUEUED_READINGS_MAX * 1024;
/// Readings sent to a shard and not yet acknowledged: at 10 ms to Kafka and back, 100,000 a second for each shard.
const IN_FLIGHT_MAX: u16 = 1_000;
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// What the client ids of shards begin with: cluster and pipeline, both called `demo`.
const SHARD_CLIENT: &str = "demo-demo-";

/// A running broker.
#[derive(Debug)]
pub(super) struct Broker {
    address: SocketAddr,
    subscribers: watch::Receiver<BTreeSet<String>>,
    stop: Stop,
    task: JoinHandle<mqtt5::Result<()>>,
}

impl Broker {
    /// Starts one and waits until it accepts connections. It tells `flows` what it sees of the shards.
    pub(super) async fn start(flows: Arc<Mutex<Flows>>) -> anyhow::Result<Self> {
        let (subscribed, subscribers) = watch::channel(BTreeSet::new());
        let storage = StorageConfig::new()
            .with_backend(StorageBackend::Memory)
            .with_max_queued_messages_per_client(QUEUED_READINGS_MAX)
            .with_max_queued_bytes_per_client(QUEUED_BYTES_MAX);
        let mut config = BrokerConfig::new()
            .with_storage(storage)
            .with_max_outbound_inflight(IN_FLIGHT_MAX)
            .with_sys_topics_enabled(false)
            .with_event_handler(Arc::new(Listener { subscribed, flows }));
        config.bind_addresses = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let mut broker = MqttBroker::with_config(config).await.context("the demo's MQTT broker does not start")?;
        let address = broker.local_addr().context("the demo's MQTT broker has no port")?;
        let (stop, mut ready) = (Stop(broker.shutdown_handle()), broker.ready_receiver());
        let task = tokio::spawn(async move { broker.run().await });
        ready.wait_for(|is_ready| *is_ready).await.context("the demo's MQTT broker does not start")?;
        Ok(Self { address, subscribers, stop, task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until `count` clients hold a shared subscription: only from then on does every reading find its way.
    pub(super) async fn subscribed(&self, count: usize) -> anyhow::Result<()> {
        self.subscribers.clone().wait_for(|clients| clients.len() >= count).await?;
        Ok(())
    }

    /// How many clients hold a shared subscription.
    pub(super) fn subscribers(&self) -> usize {
        self.subscribers.borrow().len()
    }

    /// Closes all connections. Returns when the port is free.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.0.shutdown();
        let abort = self.task.abort_handle();
        let ended = timeout(STOP_DEADLINE, self.task).await;
        abort.abort();
        ended.context("the demo's MQTT broker does not stop")???;
        Ok(())
    }
}

/// The library's handle has no `Debug`.
struct Stop(BrokerShutdownHandle);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

/// Notes who subscribed, and how the shards' readings flow.
struct Listener {
    subscribed: watch::Sender<BTreeSet<String>>,
    flows: Arc<Mutex<Flows>>,
}

impl Listener {
    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shard_of(client_id: &str) -> Option<usize> {
    client_id.strip_prefix(SHARD_CLIENT)?.parse().ok()
}

impl BrokerEventHandler for Listener {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        if let Some(shard) = shard_of(&event.client_id) {
            self.flows().connected(shard);
        }
        Box::pin(async {})
    }

    fn on_message_delivered<'a>(
        &'a self,
        event: MessageDeliveredEvent,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        if let Some(shard) = shard_of(&event.client_id) {
            self.flows().acked(shard, Instant::now());
        }
        Box::pin(async {})
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        if event.subscriptions.iter().any(|subscription| subscription.topic_filter.starts_with("$share/")) {
            self.subscribed.send_modify(|clients| {
                clients.insert(event.client_id.to_string());
            });
        }
        Box::pin(async {})
    }
}
