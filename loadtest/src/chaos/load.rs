//! The load of a chaos run: numbered readings all the time, and the reader of Kafka that judges.

use std::{
    sync::{Arc, MutexGuard, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{runtime, task::JoinSet};

use crate::{
    arrivals::Arrivals,
    cli::MqttUrl,
    consumer::Consumer,
    oracle::{Counts, Oracle},
    plan::Plan,
    progress::Progress,
    publisher::{Publisher, Shared},
    reading::{Format, ReadingId},
    wire::{Identity, Qos},
};

const CONNECTIONS: u32 = 4;
/// Readings under way per connection: at most this is told twice when the MQTT broker restarts.
const WINDOW: u16 = 1_000;
/// Nobody plays longer.
const FOREVER: Duration = Duration::from_secs(86_400);
const LOOK: Duration = Duration::from_millis(20);
/// After the last missing reading has arrived, look so much longer for copies.
const LINGER: Duration = Duration::from_secs(2);

/// What to publish where.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) mqtt: String,
    pub(crate) kafka: String,
    pub(crate) kafka_topic: String,
    pub(crate) topic_template: String,
    pub(crate) zones: u8,
    pub(crate) devices: u32,
    pub(crate) rate: u32,
}

/// Publishers and reader, running.
#[derive(Debug)]
pub(crate) struct Load {
    progress: Arc<Progress>,
    publishers: Option<JoinHandle<anyhow::Result<()>>>,
    reader: Option<JoinHandle<()>>,
}

/// What is known when all is over.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) published: u64,
    pub(crate) counts: Counts,
    pub(crate) for_nobody: u64,
    pub(crate) refused: u64,
    pub(crate) resent: u64,
    pub(crate) mqtt_sessions_lost: u64,
    pub(crate) lost_examples: Vec<ReadingId>,
}

impl Load {
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let run = format!("{:08x}", rand::random::<u32>());
        let format = Format::new(run.clone(), setup.topic_template.clone(), 0, setup.zones);
        let consumer = Consumer::open(&setup.kafka, std::slice::from_ref(&setup.kafka_topic))?;
        let arrivals = Arrivals::new(setup.zones);
        let progress = Arc::new(Progress::new(Oracle::new(setup.devices)?, Some(arrivals)));
        // Until every shard has subscribed for the first time.
        progress.excuses_for_nobody.store(true, Relaxed);
        let address: MqttUrl = setup.mqtt.parse()?;
        let shared = Arc::new(Shared {
            address,
            format: format.clone(),
            qos: Qos::AtLeastOnce,
            // A broker that is down for a while is part of the play.
            settle: Duration::from_secs(60),
            progress: Arc::clone(&progress),
        });
        let plan = Plan { devices: setup.devices, rate: setup.rate, duration: FOREVER, connections: CONNECTIONS };
        let reader = {
            let progress = Arc::clone(&progress);
            thread::Builder::new().name("consumer".to_owned()).spawn(move || consumer.run(&format, &progress))?
        };
        let publishers =
            thread::Builder::new().name("publishers".to_owned()).spawn(move || publish(&shared, plan, &run))?;
        Ok(Self { progress, publishers: Some(publishers), reader: Some(reader) })
    }

    /// Fails if a publisher has ended: none should.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        if self.publishers.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join_publishers()?;
            anyhow::bail!("the publishers ended");
        }
        Ok(())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.progress.oracle().counts()
    }

    pub(crate) fn for_nobody(&self) -> u64 {
        self.progress.for_nobody.load(Relaxed)
    }

    /// Whether what the MQTT broker says is for nobody counts as lost from now on, or is its own doing.
    pub(crate) fn excuse_for_nobody(&self, is_excused: bool) {
        self.progress.excuses_for_nobody.store(is_excused, Relaxed);
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.progress.reconnects.load(Relaxed)
    }

    /// Acknowledged and not in Kafka yet.
    pub(crate) fn missing(&self) -> Vec<ReadingId> {
        self.progress.oracle().missing().collect()
    }

    /// When what came.
    ///
    /// # Errors
    /// Never: this load always notes it.
    pub(crate) fn arrivals(&self) -> anyhow::Result<MutexGuard<'_, Arrivals>> {
        self.progress.arrivals().context("arrivals are noted")
    }

    /// Waits until Kafka has these; gives those that it does not have after `patience` without progress.
    pub(crate) fn wait_delivered(&self, mut ids: Vec<ReadingId>, patience: Duration) -> Vec<ReadingId> {
        let mut changed_at = Instant::now();
        loop {
            let before = ids.len();
            {
                let oracle = self.progress.oracle();
                ids.retain(|id| !oracle.is_delivered(*id));
            }
            if ids.len() < before {
                changed_at = Instant::now();
            }
            if ids.is_empty() || changed_at.elapsed() > patience {
                return ids;
            }
            thread::sleep(LOOK);
        }
    }

    /// Publishes no more, waits until all that was acknowledged has arrived, and says how it ended.
    pub(crate) fn finish(&mut self, patience: Duration) -> anyhow::Result<End> {
        self.progress.is_stopped.store(true, Relaxed);
        self.join_publishers()?;
        let missing = self.missing();
        self.wait_delivered(missing, patience);
        thread::sleep(LINGER);
        self.progress.is_over.store(true, Relaxed);
        if let Some(reader) = self.reader.take() {
            // A consumer that panicked has lost readings, and the report would blame the nodes.
            reader.join().map_err(|_| anyhow::anyhow!("the consumer thread panicked"))?;
        }
        let oracle = self.progress.oracle();
        ensure!(oracle.counts().strange == 0, "readings of devices that do not exist: {:?}", oracle.counts());
        Ok(End {
            published: self.progress.published.load(Relaxed),
            counts: oracle.counts(),
            for_nobody: self.for_nobody(),
            refused: self.progress.refused.load(Relaxed),
            resent: self.progress.resent.load(Relaxed),
            mqtt_sessions_lost: self.progress.sessions_lost.load(Relaxed),
            lost_examples: oracle.examples_of_lost(),
        })
    }

    fn join_publishers(&mut self) -> anyhow::Result<()> {
        let Some(publishers) = self.publishers.take() else { return Ok(()) };
        publishers.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the publishers panicked")))
    }
}

fn publish(shared: &Arc<Shared>, plan: Plan, run: &str) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut publishers = JoinSet::new();
        for connection in 0..plan.connections {
            let identity = Identity { client_id: format!("sluice-loadtest-{run}-{connection}"), login: None };
            publishers.spawn(Publisher::new(Arc::clone(shared), identity, plan.turns(connection), WINDOW).run());
        }
        while let Some(joined) = publishers.join_next().await {
            joined??;
        }
        Ok(())
    })
}
