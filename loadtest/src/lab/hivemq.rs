//! A real HiveMQ CE of a test's own, embedded in a Java process, that can be killed and started again on the same port and data.

use std::{
    fs,
    net::{IpAddr, TcpStream},
    process::Command,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{environment, ports, process::Process};

const MAIN: &str = include_str!("HiveMq.java");
/// Readings that a session may have waiting. HiveMQ has no "no limit", and drops what is above it.
const QUEUE_MAX: u32 = 10_000_000;

/// A running broker. What it acknowledged it has on its disk: a kill -9 forgets nothing.
#[derive(Debug)]
pub struct HiveMq {
    /// Ends before its directory goes, with its log in it.
    process: Option<Process>,
    dir: TempDir,
    host: IpAddr,
    is_mended: bool,
    /// Where it listens.
    pub port: u16,
}

impl HiveMq {
    /// Fails with a sentence where it cannot run.
    ///
    /// # Errors
    /// Its jars are not in the cache, or there is no Java that compiles its main class.
    pub fn check_possible() -> anyhow::Result<()> {
        environment::hivemq_class_path()?;
        let output = Command::new(environment::java()?).arg("--list-modules").output()?;
        ensure!(
            String::from_utf8_lossy(&output.stdout).contains("jdk.compiler@"),
            "HiveMQ needs a Java that can compile (on Debian: default-jdk-headless), and this one is only a runtime"
        );
        Ok(())
    }

    /// Starts a broker at that address of this machine and waits until it takes connections. `is_mended`: with an extension that goes past
    /// the numbers of payloads that a kill -9 may have left unwritten; `HiveMq.java` says why.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(host: IpAddr, is_mended: bool) -> anyhow::Result<Self> {
        Self::check_possible()?;
        let dir = tempfile::Builder::new().prefix("sluice-hivemq-").tempdir()?;
        let port = ports::free()?;
        for name in ["conf", "data", "extensions"] {
            fs::create_dir(dir.path().join(name))?;
        }
        fs::write(dir.path().join("conf/config.xml"), config(host, port))?;
        fs::write(dir.path().join("HiveMq.java"), MAIN)?;
        let mut broker = Self { process: None, dir, host, is_mended, port };
        broker.start_again()?;
        Ok(broker)
    }

    /// Starts it again on the same port and data, and waits until it takes connections.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(environment::java()?);
        command.args(["-Xms128m", "-Xmx768m", "-cp"]).arg(environment::hivemq_class_path()?);
        command.arg(self.dir.path().join("HiveMq.java")).arg(self.dir.path()).current_dir(self.dir.path());
        if self.is_mended {
            command.arg("mended");
        }
        let mut process = Process::start("hivemq", command, &self.dir.path().join("log"))?;
        let address = (self.host, self.port);
        process.wait_for("HiveMQ takes connections", || TcpStream::connect(address).context("connecting"))?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It was down.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// The process, for faults.
    ///
    /// # Errors
    /// It is down.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("HiveMQ is down")
    }

    /// `mqtt://host:port`.
    pub fn url(&self) -> String {
        format!("mqtt://{}:{}", self.host, self.port)
    }
}

fn config(host: IpAddr, port: u16) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n\
         <hivemq>\n\
           <listeners><tcp-listener><port>{port}</port><bind-address>{host}</bind-address></tcp-listener></listeners>\n\
           <mqtt>\n\
             <queued-messages><max-queue-size>{QUEUE_MAX}</max-queue-size></queued-messages>\n\
             <session-expiry><max-interval>4294967295</max-interval></session-expiry>\n\
           </mqtt>\n\
           <persistence><mode>file</mode></persistence>\n\
           <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>\n\
         </hivemq>\n"
    )
}
