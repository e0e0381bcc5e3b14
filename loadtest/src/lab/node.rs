//! A real `sluice serve`, that can be stopped, killed, hung, and started again on the same ports and disk.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use super::{admin::Admin, environment, ports, process::Process};

/// A clean stop takes at most its drain deadline (10 s unless told otherwise) and some.
const STOP: Duration = Duration::from_secs(30);

/// A node with its disk.
#[derive(Debug)]
pub struct Node {
    /// Ends before its directory goes, with its log in it.
    process: Option<Process>,
    dir: TempDir,
    admin_port: u16,
    http_port: u16,
}

impl Node {
    /// Starts a node on an empty disk, with these pipeline documents in its pipelines directory, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start(pipelines: &[String]) -> anyhow::Result<Self> {
        Self::start_with(pipelines, "")
    }

    /// The same, with more lines in the node's configuration.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_with(pipelines: &[String], config: &str) -> anyhow::Result<Self> {
        let mut node = Self::prepare(pipelines, config)?;
        node.start_again()?;
        Ok(node)
    }

    /// Writes configuration and pipelines, and starts nothing.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn prepare(pipelines: &[String], config: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-node-").tempdir()?;
        let (admin_port, http_port) = (ports::free()?, ports::free()?);
        fs::create_dir(dir.path().join("pipelines"))?;
        for (index, pipeline) in pipelines.iter().enumerate() {
            fs::write(dir.path().join("pipelines").join(format!("{index:02}.yaml")), pipeline)?;
        }
        let text = format!(
            "name: node-0\n\
             cluster: test\n\
             data_dir: {data}\n\
             admin_listen: 127.0.0.1:{admin_port}\n\
             http_listen: 127.0.0.1:{http_port}\n\
             pipelines_dir: {pipelines}\n\
             {config}",
            data = dir.path().join("data").display(),
            pipelines = dir.path().join("pipelines").display(),
        );
        fs::write(dir.path().join("node.yaml"), text)?;
        Ok(Self { dir, admin_port, http_port, process: None })
    }

    /// Starts it again on the same ports and disk, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let mut process = Process::start("sluice", self.command()?, &self.dir.path().join("log"))?;
        let port = self.http_port;
        let ready = process.wait_for("the node is ready", || {
            let (status, body) = get(port, "/readyz")?;
            ensure!(status == 200, "/readyz says {status}: {body}");
            Ok(())
        });
        self.process = Some(process);
        ready
    }

    /// Runs it to its end: for configurations that must be refused.
    ///
    /// # Errors
    /// It cannot be started, or goes on running for ten seconds.
    pub fn run_refused(&self) -> anyhow::Result<Output> {
        let (out, log) = (self.path("stdout"), self.path("log"));
        let mut process = Process::start_with_output("sluice", self.command()?, &out, &log)?;
        let status = process.wait(Duration::from_secs(10)).context("a bad configuration must be refused at once")?;
        Ok(Output { status, stdout: fs::read(out)?, stderr: fs::read(log)? })
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(environment::built("sluice")?);
        command.args(["serve", "--config"]).arg(self.path("node.yaml"));
        // Panics show where they come from.
        command.env("RUST_BACKTRACE", "1");
        Ok(command)
    }

    /// SIGTERM: it delivers what is in flight, checkpoints, disconnects and ends.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let status = self.process()?.terminate(STOP)?;
        self.process = None;
        Ok(status)
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

    /// The process, for faults and measurements.
    ///
    /// # Errors
    /// It is down.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the node is down")
    }

    /// A client of its admin services.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn admin(&self) -> anyhow::Result<Admin> {
        Admin::connect(self.admin_port)
    }

    /// Where its admin services listen on 127.0.0.1.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Its metrics page.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = get(self.http_port, "/metrics")?;
        ensure!(status == 200, "/metrics says {status}");
        Ok(body)
    }

    /// The sum over all series of a metric.
    ///
    /// # Errors
    /// There is no such metric.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.metrics()?;
        let mut values = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            // The value follows the labels; a label's value holds no `} `.
            let value = rest.rsplit_once("} ").map_or(rest, |(_, value)| value);
            value.split_ascii_whitespace().next()?.parse::<f64>().ok()
        });
        let Some(first) = values.next() else { bail!("no metric {name} in:\n{metrics}") };
        Ok(values.fold(first, |sum, value| sum + value))
    }

    /// A path on its disk.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Status and body of a GET.
fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // HTTP/1.0: the end of the connection is the end of the body.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP header")?;
    let status = head.split_ascii_whitespace().nth(1).context("no HTTP status")?.parse()?;
    Ok((status, body.to_owned()))
}
