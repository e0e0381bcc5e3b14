//! Runs the `loadtest` program and reads its verdict.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{environment, eventually::within, process::Process};

/// What to run; the defaults suit a test of delivery under load.
#[derive(Debug, Clone)]
pub struct Load<'a> {
    /// `mqtt://host:port`.
    pub mqtt: &'a str,
    /// Kafka's bootstrap servers.
    pub kafka: &'a str,
    /// Where the readings must arrive.
    pub kafka_topic: &'a str,
    /// The first level of the devices' topics: `<prefix>/{zone}/{device}/reading`.
    pub prefix: &'a str,
    /// Simulated devices.
    pub devices: u32,
    /// Readings per second; 0: flat out.
    pub rate: u32,
    /// How long to publish.
    pub duration: Duration,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Payloads are padded to this size; 0: not.
    pub payload_bytes: u32,
    /// Give up on missing readings after so much silence.
    pub settle: Duration,
    /// Process whose CPU time to count.
    pub node_pid: Option<u32>,
}

impl<'a> Load<'a> {
    /// 5,000 readings a second from 100 devices for 5 s, QoS 1.
    pub fn new(mqtt: &'a str, kafka: &'a str, kafka_topic: &'a str) -> Self {
        Self {
            mqtt,
            kafka,
            kafka_topic,
            prefix: "factory",
            devices: 100,
            rate: 5_000,
            duration: Duration::from_secs(5),
            qos: 1,
            payload_bytes: 0,
            settle: Duration::from_secs(60),
            node_pid: None,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// The program has not been built.
    pub fn start(&self) -> anyhow::Result<Running> {
        let dir = tempfile::Builder::new().prefix("sluice-loadtest-").tempdir()?;
        let mut command = Command::new(environment::built("loadtest")?);
        command.args(["run", "--mqtt", self.mqtt, "--kafka", self.kafka, "--kafka-topic", self.kafka_topic]);
        command.args(["--topic-template", &format!("{}/{{zone}}/{{device}}/reading", self.prefix)]);
        command.args(["--devices", &self.devices.to_string(), "--rate", &self.rate.to_string()]);
        command.args(["--duration", &format!("{}ms", self.duration.as_millis()), "--qos", &self.qos.to_string()]);
        command.args(["--settle", &format!("{}ms", self.settle.as_millis()), "--output", "json"]);
        command.args(["--payload-bytes", &self.payload_bytes.to_string()]);
        if let Some(pid) = self.node_pid {
            command.args(["--node-pid", &pid.to_string()]);
        }
        let process =
            Process::start_with_output("loadtest", command, &dir.path().join("report"), &dir.path().join("log"))?;
        Ok(Running { process, dir, bound: self.duration * 20 + self.settle * 2 + Duration::from_secs(120) })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It could not run.
    pub fn run(&self) -> anyhow::Result<Report> {
        self.start()?.finish()
    }
}

/// A loadtest under way.
#[derive(Debug)]
pub struct Running {
    process: Process,
    dir: TempDir,
    bound: Duration,
}

impl Running {
    /// Waits until it has published at least so many readings: a fault before that would not bite.
    ///
    /// # Errors
    /// It ended or got stuck before.
    pub fn wait_published(&mut self, count: u64) -> anyhow::Result<()> {
        within(Duration::from_secs(60), "loadtest publishes", || {
            self.process.check_running()?;
            let log = self.process.log()?;
            let line = log.lines().rfind(|line| line.contains("published")).context("no progress yet")?;
            let published = line.split_once("published").and_then(|(_, rest)| rest.split_ascii_whitespace().next());
            let published: u64 = published.context("no number")?.parse()?;
            ensure!(published >= count, "{published} published");
            Ok(())
        })
    }

    /// Waits for the verdict. That readings were lost is in the verdict, and no error here.
    ///
    /// # Errors
    /// It could not run, or does not end.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        let status = self.process.wait(self.bound)?;
        ensure!(matches!(status.code(), Some(0 | 1)), "loadtest could not run ({status}):\n{}", self.process.log()?);
        let report = fs::read(self.dir.path().join("report"))?;
        let report: Report = serde_json::from_slice(&report).context("loadtest's report")?;
        eprintln!("{report:?}");
        ensure!(status.success() == (report.lost == 0), "exit code {status} does not fit {report:?}");
        Ok(report)
    }
}

/// loadtest's verdict; see `loadtest run --help` for the words.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    pub published: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    pub lost: u64,
    pub undelivered: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub refused: u64,
    pub for_nobody: u64,
    pub resent: u64,
    pub reconnects: u64,
    pub mqtt_sessions_lost: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub readings_per_cpu_second: Option<f64>,
}

impl Report {
    /// Fails unless everything published was acknowledged and arrived, and the load did what it was asked.
    ///
    /// # Errors
    /// Something is missing.
    pub fn check_complete(&self) -> anyhow::Result<()> {
        ensure!(self.published > 0 && self.refused == 0 && self.for_nobody == 0, "no proper load: {self:?}");
        ensure!(self.lost == 0 && self.undelivered == 0, "readings are missing: {self:?}");
        Ok(())
    }

    /// Fails unless everything arrived once.
    ///
    /// # Errors
    /// Something is missing or repeated.
    pub fn check_exact(&self) -> anyhow::Result<()> {
        self.check_complete()?;
        ensure!(self.duplicated == 0, "readings are repeated: {self:?}");
        Ok(())
    }
}
