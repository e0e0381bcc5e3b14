//! A real `sluice serve`, that can be stopped, killed, hung, and started again on the same ports and disk.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use super::{admin::Admin, disk::Disk, environment, network::Host, ports, process::Process};

/// A clean stop takes at most its drain deadline (10 s unless told otherwise) and some.
const STOP: Duration = Duration::from_secs(30);

/// A page that is not there after this is not there.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where and as whom a node runs.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Its name; none: `node-0`.
    pub name: Option<String>,
    /// The program; none: the one that was built beside this one.
    pub program: Option<PathBuf>,
    /// Its place in a network of one's own; none: 127.0.0.1.
    pub host: Option<Host>,
    /// Its data lies on a small disk that can be filled.
    pub has_small_disk: bool,
}

/// A node with its disk.
#[derive(Debug)]
pub struct Node {
    /// Ends before its disk and directory go, with its log in it.
    process: Option<Process>,
    small_disk: Option<Disk>,
    dir: TempDir,
    site: Site,
    admin: SocketAddr,
    http: SocketAddr,
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
        Self::prepare_at(&Site::default(), pipelines, config)
    }

    /// The same at a place and under a name of one's own.
    ///
    /// # Errors
    /// The files cannot be written, or the small disk cannot be mounted.
    pub fn prepare_at(site: &Site, pipelines: &[String], config: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-node-").tempdir()?;
        let small_disk = site.has_small_disk.then(|| Disk::mount(&dir.path().join("data"))).transpose()?;
        let address = site.address();
        let (admin, http) = (SocketAddr::new(address, ports::free()?), SocketAddr::new(address, ports::free()?));
        fs::create_dir(dir.path().join("pipelines"))?;
        for (index, pipeline) in pipelines.iter().enumerate() {
            fs::write(dir.path().join("pipelines").join(format!("{index:02}.yaml")), pipeline)?;
        }
        let text = format!(
            "name: {name}\n\
             cluster: test\n\
             data_dir: {data}\n\
             admin_listen: {admin}\n\
             {remote}\
             http_listen: {http}\n\
             pipelines_dir: {pipelines}\n\
             {config}",
            name = site.name.as_deref().unwrap_or("node-0"),
            data = dir.path().join("data").display(),
            // Another address than loopback, and still nobody else's network.
            remote = if address.is_loopback() { "" } else { "admin_allow_remote: true\n" },
            pipelines = dir.path().join("pipelines").display(),
        );
        fs::write(dir.path().join("node.yaml"), text)?;
        Ok(Self { process: None, small_disk, dir, site: site.clone(), admin, http })
    }

    /// Starts it again on the same ports and disk, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.start_process()?;
        self.wait_ready()
    }

    /// Starts it again and waits for nothing: a node of a cluster is ready only when others are there.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_process(&mut self) -> anyhow::Result<()> {
        self.process = Some(Process::start(self.name(), self.command()?, &self.path("log"))?);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready, or ends.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let http = self.http;
        self.process()?.wait_for("the node is ready", || {
            let why_not = readiness(http)?;
            ensure!(why_not.is_empty(), "/readyz says: {why_not}");
            Ok(())
        })
    }

    /// Why it says that it is not ready; empty: it says that it is.
    ///
    /// # Errors
    /// It does not answer.
    pub fn why_not_ready(&self) -> anyhow::Result<String> {
        readiness(self.http)
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
        let program = self.site.program.clone().map_or_else(|| environment::built("sluice"), Ok)?;
        let mut command = match &self.site.host {
            Some(host) => host.command(&program)?,
            None => Command::new(program),
        };
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

    /// Whether it was started, and nobody has stopped or killed it since.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Its exit status, if it ended by itself. It counts as stopped from then on.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.process.as_mut().map(Process::exit_status).transpose()?.flatten();
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// A client of its admin services.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn admin(&self) -> anyhow::Result<Admin> {
        Admin::connect(self.admin)
    }

    /// Where its admin services listen.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The port of that.
    pub fn admin_port(&self) -> u16 {
        self.admin.port()
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        self.site.name.as_deref().unwrap_or("node-0")
    }

    /// What it has said since it was first started.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.path("log"))?).into_owned())
    }

    /// The small disk that its data lies on.
    ///
    /// # Errors
    /// It has none.
    pub fn small_disk(&self) -> anyhow::Result<&Disk> {
        self.small_disk.as_ref().context("the node has no small disk")
    }

    /// Its metrics page.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = get(self.http, "/metrics")?;
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

impl Site {
    /// Where its services listen.
    pub fn address(&self) -> IpAddr {
        self.host.as_ref().map_or(Ipv4Addr::LOCALHOST, |host| host.address).into()
    }
}

fn readiness(http: SocketAddr) -> anyhow::Result<String> {
    let (status, body) = get(http, "/readyz")?;
    match status {
        200 => Ok(String::new()),
        503 => Ok(body),
        _ => bail!("/readyz says {status}: {body}"),
    }
}

/// Status and body of a GET.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, HTTP_TIMEOUT)?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    // HTTP/1.0: the end of the connection is the end of the body.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP header")?;
    let status = head.split_ascii_whitespace().nth(1).context("no HTTP status")?.parse()?;
    Ok((status, body.to_owned()))
}
