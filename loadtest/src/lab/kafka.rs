//! A real Apache Kafka: one KRaft broker, shared by the tests of a process or one's own for faults.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use tempfile::TempDir;

use super::{certificates::Certificate, environment, ports, process::Process};

/// Kafka's heap. With it a broker stays below 1 GiB, and carries what a test machine can publish.
const HEAP: &str = "-Xmx512m";

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    /// Ends before its directory goes, with its log in it.
    process: Option<Process>,
    dir: TempDir,
    host: IpAddr,
    port: u16,
    /// Where it listens for TLS, if it does.
    tls_port: Option<u16>,
}

impl Kafka {
    /// The servers of a broker that all tests of this process share. Never do it harm.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn shared() -> anyhow::Result<String> {
        // Never dropped: the watchdog ends it with the test process.
        static SHARED: Mutex<Option<Kafka>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(kafka) => Ok(kafka.servers()),
            None => Ok(shared.insert(Self::start()?).servers()),
        }
    }

    /// Starts a broker and waits until it serves.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// The same at another address of this machine.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_at(host: IpAddr) -> anyhow::Result<Self> {
        Self::start_on(host, None)
    }

    /// The same on loopback, with a second listener for TLS that shows `certificate`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with_tls(certificate: &Certificate) -> anyhow::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), Some(certificate))
    }

    fn start_on(host: IpAddr, certificate: Option<&Certificate>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-kafka-").tempdir()?;
        let (port, controller) = (ports::free()?, ports::free()?);
        let mut tls = None;
        if let Some(certificate) = certificate {
            tls = Some(Tls {
                port: ports::free()?,
                certificate: fs::read_to_string(&certificate.certificate)?,
                key: fs::read_to_string(&certificate.key)?,
            });
        }
        fs::write(dir.path().join("server.properties"), properties(&dir, host, port, controller, tls.as_ref()))?;
        let output = java("kafka.tools.StorageTool")?
            .args(["format", "--cluster-id", "c2x1aWNlLXRlc3RzLTAwMQ", "--config"])
            .arg(dir.path().join("server.properties"))
            .output()?;
        ensure!(output.status.success(), "formatting Kafka's storage: {}", String::from_utf8_lossy(&output.stderr));
        let mut kafka = Self { dir, host, port, tls_port: tls.map(|tls| tls.port), process: None };
        kafka.start_again()?;
        Ok(kafka)
    }

    /// Starts it again on the same port and data, and waits until it serves.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = java("kafka.Kafka")?;
        command.arg(self.dir.path().join("server.properties"));
        let mut process = Process::start("kafka", command, &self.dir.path().join("log"))?;
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.servers())
            .set("log_level", "0")
            .set("reconnect.backoff.max.ms", "500")
            .create()?;
        process.wait_for("Kafka serves", || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(2))?;
            ensure!(!metadata.brokers().is_empty(), "no broker is registered");
            Ok(())
        })?;
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
        self.process.as_mut().context("Kafka is down")
    }

    /// Where it keeps its logs.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What goes into `bootstrap.servers`.
    pub fn servers(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The same with `security.protocol: ssl`. By name: librdkafka checks a certificate against names alone.
    ///
    /// # Errors
    /// It was started without TLS.
    pub fn tls_servers(&self) -> anyhow::Result<String> {
        Ok(format!("localhost:{}", self.tls_port.context("this Kafka has no TLS")?))
    }
}

/// Of a second listener.
struct Tls {
    port: u16,
    certificate: String,
    key: String,
}

fn java(class: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(environment::java()?);
    command.args(["-Xms128m", HEAP, "-XX:+UseG1GC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(environment::kafka_class_path()?).arg(class);
    // Only warnings: the log is shown when a test fails.
    command.env("JAVA_TOOL_OPTIONS", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    Ok(command)
}

fn properties(dir: &TempDir, host: IpAddr, port: u16, controller: u16, tls: Option<&Tls>) -> String {
    let mut listeners = format!("PLAINTEXT://{host}:{port}");
    let mut more = String::new();
    if let Some(Tls { port, certificate, key }) = tls {
        listeners = format!("{listeners},SSL://localhost:{port}");
        // In a properties file a line ends a value.
        let (certificate, key) = (certificate.replace('\n', "\\n"), key.replace('\n', "\\n"));
        more = format!("ssl.keystore.type=PEM\nssl.keystore.certificate.chain={certificate}\nssl.keystore.key={key}\n");
    }
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={listeners}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.segment.bytes=134217728\n\
         log.retention.hours=24\n\
         {more}",
        dir.path().join("data").display()
    )
}
