//! All simulated sensors, spread over a few gateways.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    gateway::{self, Gateway},
    reading::Device,
    tally::Tally,
};

/// Connections at most: enough that the broker reads them side by side, few enough that each write carries several
/// readings.
const GATEWAYS_MAX: u32 = 8;
/// Longer than a gateway waits for its last acknowledgements.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// How many sensors publish how much.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) broker: SocketAddr,
    pub(super) devices: u32,
    /// Readings a second, of all sensors together.
    pub(super) rate: u32,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) start: Instant,
}

/// Sensors that publish.
#[derive(Debug)]
pub(super) struct Sensors {
    stop: watch::Sender<bool>,
    gateways: JoinSet<anyhow::Result<()>>,
}

impl Sensors {
    /// Connects all and starts publishing.
    pub(super) async fn start(config: Config) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let count = config.devices.clamp(1, GATEWAYS_MAX);
        let mut connected = Vec::new();
        for index in 0..count {
            let devices: Vec<_> = (0..config.devices).filter(|device| device % count == index).map(Device).collect();
            #[expect(clippy::cast_precision_loss, reason = "a number of devices")]
            let share = devices.len() as f64 / f64::from(config.devices);
            let gateway = gateway::Config {
                client_id: format!("gateway-{index}"),
                broker: config.broker,
                devices,
                rate: f64::from(config.rate) * share,
                tally: Arc::clone(&config.tally),
                start: config.start,
                stop: stopped.clone(),
            };
            connected
                .push(Gateway::connect(gateway).await.context("a sensor cannot connect to the demo's MQTT broker")?);
        }
        let mut gateways = JoinSet::new();
        for gateway in connected {
            gateways.spawn(gateway.run());
        }
        Ok(Self { stop, gateways })
    }

    /// Waits for a sensor that fails; for ever, if all is well.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.gateways.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) | None => std::future::pending().await,
        }
    }

    /// Sends no more readings and waits until the broker has acknowledged all that were sent.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = self.gateways.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        timeout(STOP_DEADLINE, all).await.context("the sensors did not stop")?
    }
}
