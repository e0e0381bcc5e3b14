//! A bridge from MQTT to Kafka as a process that is started and stopped: Sluice, or somebody else's.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::lab::{
    node::{Node, Site},
    pipeline::Pipeline,
    process::Process,
};

/// For a bridge that is told to stop to do so.
const STOP: Duration = Duration::from_secs(30);

/// Between what it stands.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) mqtt: SocketAddr,
    pub(super) kafka: String,
    pub(super) topic: String,
    /// Readings that the MQTT broker leaves unacknowledged.
    pub(super) window: u16,
}

/// Somebody who carries `factory/+/+/reading` to the topic, on a disk of its own.
#[derive(Debug)]
pub(super) enum Bridge {
    Sluice(Box<Node>),
    Peer(Box<Peer>),
}

/// Somebody else's.
#[derive(Debug)]
pub(super) struct Peer {
    command: String,
    environment: [(&'static str, String); 3],
    /// Ends before its directory goes.
    process: Option<Process>,
    dir: TempDir,
}

impl Bridge {
    pub(super) fn sluice(program: Option<PathBuf>, kafka: &[(String, String)], place: &Place) -> anyhow::Result<Self> {
        let mut pipeline = Pipeline::new("compare", &format!("mqtt://{}", place.mqtt), &place.kafka, &place.topic);
        pipeline.filters = vec!["factory/+/+/reading".to_owned()];
        pipeline.receive_maximum = place.window;
        pipeline.kafka_properties.extend_from_slice(kafka);
        let site = Site { program, ..Site::default() };
        let node = Node::prepare_at(&site, &[pipeline.yaml()], "lanes: 1\nlog: {filter: warn}\n")?;
        Ok(Self::Sluice(Box::new(node)))
    }

    pub(super) fn peer(command: &str, place: &Place) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-peer-").tempdir()?;
        fs::create_dir(dir.path().join("work"))?;
        let environment =
            [("MQTT", place.mqtt.to_string()), ("KAFKA", place.kafka.clone()), ("TOPIC", place.topic.clone())];
        Ok(Self::Peer(Box::new(Peer { command: command.to_owned(), environment, process: None, dir })))
    }

    /// Starts it, for the first time or again.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Sluice(node) => node.start_process(),
            Self::Peer(peer) => {
                let mut shell = Command::new("/bin/sh");
                // The shell becomes the command, so that its CPU time is the process's.
                shell.arg("-c").arg(format!("exec {}", peer.command));
                shell.envs(peer.environment.iter().map(|(name, value)| (name, value)));
                shell.current_dir(peer.dir.path().join("work"));
                peer.process = Some(Process::start("peer", shell, &peer.dir.path().join("log"))?);
                Ok(())
            }
        }
    }

    /// SIGTERM, and waits until it has ended.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Sluice(node) => node.stop().map(drop),
            Self::Peer(peer) => {
                let mut running = peer.process.take().context("it does not run")?;
                running.terminate(STOP).map(drop)
            }
        }
    }

    /// Its process. What that has started besides is not measured.
    pub(super) fn process(&mut self) -> anyhow::Result<&mut Process> {
        match self {
            Self::Sluice(node) => node.process(),
            Self::Peer(peer) => peer.process.as_mut().context("it does not run"),
        }
    }
}
