//! A real Mosquitto of a test's own, that can be stopped, hung, and started again on the same port and data.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{environment, ports, process::Process};

/// How a broker is set up. Queues are never bounded: a bounded queue drops readings, which is the broker's doing.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Unacknowledged readings per session; 0: no bound.
    pub max_inflight: u16,
    /// Sessions and queues survive a restart (not a kill -9).
    pub is_persistent: bool,
    /// User name and password to ask for; none: anybody may connect.
    pub login: Option<(String, String)>,
    /// MQTT topics that nobody may publish to or read.
    pub denied_topics: Vec<String>,
    /// Certificate and key files of an additional TLS listener.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Address of this machine to listen on; none: 127.0.0.1.
    pub host: Option<IpAddr>,
}

impl Setup {
    fn host(&self) -> IpAddr {
        self.host.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Mosquitto {
    /// Ends before its directory goes, with its log in it.
    process: Option<Process>,
    dir: TempDir,
    host: IpAddr,
    /// Where it listens.
    pub port: u16,
    /// Where it listens for TLS, if it does.
    pub tls_port: Option<u16>,
}

impl Mosquitto {
    /// Starts a broker and waits until it takes connections.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(setup: &Setup) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-mosquitto-").tempdir()?;
        let port = ports::free()?;
        let tls_port = setup.tls.as_ref().map(|_| ports::free()).transpose()?;
        let config = config(setup, &dir, port, tls_port)?;
        fs::write(dir.path().join("mosquitto.conf"), config)?;
        let mut broker = Self { dir, host: setup.host(), port, tls_port, process: None };
        broker.start_again()?;
        Ok(broker)
    }

    /// Starts it again on the same port and data.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(environment::mosquitto()?);
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        let mut process = Process::start("mosquitto", command, &self.dir.path().join("log"))?;
        let address = (self.host, self.port);
        process.wait_for("mosquitto takes connections", || TcpStream::connect(address).context("connecting"))?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGTERM: it writes its persistence file and ends.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process()?.terminate(Duration::from_secs(60))?;
        self.process = None;
        Ok(())
    }

    /// The process, for faults.
    ///
    /// # Errors
    /// It is stopped.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("mosquitto is stopped")
    }

    /// `mqtt://host:port`.
    pub fn url(&self) -> String {
        format!("mqtt://{}:{}", self.host, self.port)
    }

    /// What it has said since it was first started.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.dir.path().join("log"))?).into_owned())
    }
}

fn config(setup: &Setup, dir: &TempDir, port: u16, tls_port: Option<u16>) -> anyhow::Result<String> {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut text = String::new();
    writeln!(text, "user root")?; // as root it would give up the right to write here; otherwise this says nothing
    writeln!(text, "log_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\nconnection_messages true")?;
    writeln!(text, "max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages {}", setup.max_inflight)?;
    writeln!(text, "persistence {}\npersistence_location {}/", setup.is_persistent, dir.path().display())?;
    if let Some((user, password)) = &setup.login {
        // Plain text becomes a password file with mosquitto_passwd, which belongs to the broker's package.
        fs::write(dir.path().join("passwords"), format!("{user}:{password}\n"))?;
        let tool = environment::mosquitto_passwd()?;
        let status = Command::new(tool).arg("-U").arg(dir.path().join("passwords")).status()?;
        anyhow::ensure!(status.success(), "mosquitto_passwd failed");
        writeln!(text, "password_file {}", path("passwords"))?;
    }
    writeln!(text, "allow_anonymous {}", setup.login.is_none())?;
    if !setup.denied_topics.is_empty() {
        let mut acl = String::from("topic readwrite #\n");
        for topic in &setup.denied_topics {
            writeln!(acl, "topic deny {topic}")?;
        }
        fs::write(dir.path().join("acl"), acl)?;
        writeln!(text, "acl_file {}", path("acl"))?;
    }
    let host = setup.host();
    writeln!(text, "listener {port} {host}")?;
    if let (Some((certificate, key)), Some(port)) = (&setup.tls, tls_port) {
        writeln!(text, "listener {port} {host}\ncertfile {}\nkeyfile {}", certificate.display(), key.display())?;
    }
    Ok(text)
}
