//! `sluice serve` and `sluice config check`: a node's configuration from file, environment and flags; the node's life from start to stop.

use std::{
    collections::BTreeMap,
    env, fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    thread,
};

use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{Failure, die_of_panics, write_line};
use crate::{
    app,
    config::{self, ConfigErrors, Host, LogFormat, Manifest, Overrides, manifests},
    telemetry::logs,
};

/// Variables of commands, which are no settings of a node.
const OF_THE_COMMAND_LINE: [&str; 4] = ["SLUICE_CONFIG", "SLUICE_ADMIN", "SLUICE_ADMIN_CA", "SLUICE_ADMIN_TOKEN"];

/// Runs a node.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice serve --data-dir /var/lib/sluice
  sluice serve --config /etc/sluice/node.yaml
  sluice serve --data-dir ./data --pipelines-dir ./pipelines    apply what is found there, and what changes

Every setting can stand in the file (in_flight.lane_readings), in the environment (SLUICE_IN_FLIGHT_LANE_READINGS) or in a \
flag (--in-flight-lane-readings); a flag goes before the environment, the environment before the file. \
`sluice config check` shows what is in effect.

SIGTERM or Ctrl-C stops gracefully: readings in flight are delivered and acknowledged, checkpoints written, MQTT
sessions kept for the next start.")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    node: Args,
    /// Stop gracefully when standard input ends too, for a parent process that must not leave a node behind
    #[arg(long)]
    stop_with_stdin: bool,
}

/// The settings of a node.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Args {
    /// Configuration file (YAML); every setting has a default without one
    #[arg(long, env = "SLUICE_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// The node's name, stable across restarts [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Name of the cluster, part of every MQTT client id [default: sluice]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Directory of what the node must remember: identity and replicated log [default: /var/lib/sluice]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where gRPC for operators listens; whoever reaches it can change pipelines [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR:PORT")]
    admin_listen: Option<String>,
    /// Allow `admin_listen` on another address than loopback without certificate and tokens [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    admin_allow_remote: Option<String>,
    /// Certificate (PEM) that the gRPC listener shows [default: none, no TLS]
    #[arg(long, value_name = "PATH")]
    admin_tls_cert_file: Option<String>,
    /// Its key (PEM)
    #[arg(long, value_name = "PATH")]
    admin_tls_key_file: Option<String>,
    /// Token of callers that may look and change nothing; give ${file:…}, since others see this process's arguments
    #[arg(long, value_name = "TOKEN")]
    admin_tokens_read: Option<String>,
    /// Token of callers that may do everything [default: none, no token is asked for]
    #[arg(long, value_name = "TOKEN")]
    admin_tokens_operate: Option<String>,
    /// Where other nodes reach this one [default: none, a cluster of one]
    #[arg(long, value_name = "ADDR:PORT")]
    cluster_listen: Option<String>,
    /// What they call to reach it [default: `cluster_listen`]
    #[arg(long, value_name = "HOST:PORT")]
    cluster_advertise: Option<String>,
    /// Nodes to ask first, separated by ','; a name stands for all its addresses
    #[arg(long, value_name = "HOST:PORT,…")]
    seeds: Option<String>,
    /// Nodes, this one included, that must have been seen before a cluster is founded [default: 1 without seeds, else 3]
    #[arg(long, value_name = "COUNT")]
    bootstrap_expect: Option<String>,
    /// Whether this node may found the cluster [default: it has no seeds, or its name ends in -0]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    bootstrap: Option<String>,
    /// Most nodes that vote: 3 or 5 [default: 5]
    #[arg(long, value_name = "COUNT")]
    voters_max: Option<String>,
    /// How long after the leader's last answer a node may start tasks; what a dead node's shards wait [default: 2s]
    #[arg(long, value_name = "DURATION")]
    lease: Option<String>,
    /// Time between two calls that renew the lease [default: 300ms]
    #[arg(long, value_name = "DURATION")]
    keep_alive: Option<String>,
    /// Time between two heartbeats of the Raft leader [default: 100ms]
    #[arg(long, value_name = "DURATION")]
    heartbeat: Option<String>,
    /// A voter that hears nothing for a time drawn from this range stands for election [default: 500ms-1s]
    #[arg(long, value_name = "FROM-TO")]
    election_timeout: Option<String>,
    /// What is spread evenly over the nodes: count (of shards) or rate (of readings) [default: count]
    #[arg(long, value_name = "WORD")]
    balance: Option<String>,
    /// Who signs the nodes' certificates (PEM)
    #[arg(long, value_name = "PATH")]
    cluster_tls_ca_file: Option<String>,
    /// This node's certificate (PEM), good for servers and clients
    #[arg(long, value_name = "PATH")]
    cluster_tls_cert_file: Option<String>,
    /// Its key (PEM)
    #[arg(long, value_name = "PATH")]
    cluster_tls_key_file: Option<String>,
    /// The name that every node's certificate bears [default: the host in the node's address]
    #[arg(long, value_name = "NAME")]
    cluster_tls_server_name: Option<String>,
    /// Take whoever reaches `cluster_listen` for a node [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    cluster_insecure: Option<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` listen [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDR:PORT")]
    http_listen: Option<String>,
    /// In a pod: the StatefulSet that it is of. A node beyond its replicas leaves the cluster
    /// for good when it stops; one within, whose disk was removed from the cluster, empties `data_dir` and joins anew
    #[arg(long, value_name = "NAME")]
    kubernetes_statefulset: Option<String>,
    /// Directory whose *.yaml and *.yml manifests are applied at the start and when they change
    #[arg(long, value_name = "DIR")]
    pipelines_dir: Option<String>,
    /// Threads that carry readings [default: one per core, at most 8]
    #[arg(long, value_name = "COUNT")]
    lanes: Option<String>,
    /// Most readings in flight in a lane [default: 200000]
    #[arg(long, value_name = "COUNT")]
    in_flight_lane_readings: Option<String>,
    /// Most bytes in flight in a lane [default: 128MiB]
    #[arg(long, value_name = "SIZE")]
    in_flight_lane_bytes: Option<String>,
    /// Most readings in flight in a shard [default: half a lane's]
    #[arg(long, value_name = "COUNT")]
    in_flight_shard_readings: Option<String>,
    /// Most bytes in flight in a shard [default: half a lane's]
    #[arg(long, value_name = "SIZE")]
    in_flight_shard_bytes: Option<String>,
    /// Directories beneath which ${file:…} may read, separated by ':' [default: /run/secrets]
    #[arg(long, value_name = "DIRS")]
    secret_roots: Option<String>,
    /// How long a stopping node delivers what is in flight [default: 10s]
    #[arg(long, value_name = "DURATION")]
    drain_deadline: Option<String>,
    /// Time between two checkpoints [default: 1s]
    #[arg(long, value_name = "DURATION")]
    checkpoint_interval: Option<String>,
    /// How log lines on standard error are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What is logged, for example `info` or `info,sluice_node=debug` [default: info,openraft=error]
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

/// What can be checked without starting anything.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a node's configuration and pipeline manifests, and print what is in effect
    #[command(after_help = "\
Secrets are read to see whether they can be, and never printed.

Examples:
  sluice config check --config /etc/sluice/node.yaml
  sluice config check --pipelines-dir ./pipelines
  sluice config check --config node.yaml -f readings.yaml -f alarms.yaml")]
    Check {
        #[command(flatten)]
        node: Box<Args>,
        /// A pipeline manifest to check as well, - for standard input; may be given again
        #[arg(short = 'f', long = "file", value_name = "PATH")]
        files: Vec<PathBuf>,
    },
}

/// Runs a node until it is told to stop.
pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = load(&args.node)?;
    let format = match config.log.format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    logs::init(format, &config.log.filter).map_err(|error| Failure::usage(error.to_string()))?;
    die_of_panics();
    // Coordinator, gRPC and HTTP: readings travel on lanes, which have threads of their own.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        // Before anything starts, so that a stop during the start is not lost.
        let stopped = stop_signal()?;
        let abandoned = if args.stop_with_stdin { Some(end_of_stdin()?) } else { None };
        let failure = |error: app::Error| {
            if error.is_config() { Failure::usage(error.to_string()) } else { Failure::failed(error.to_string()) }
        };
        let told = async {
            tokio::select! {
                () = stopped => {}
                () = told(abandoned) => {}
            }
        };
        let mut told = pin!(told);
        loop {
            let mut node = app::Node::start(config.clone()).await.map_err(failure)?;
            let failed = tokio::select! {
                () = &mut told => None,
                error = node.failed() => Some(error),
            };
            let Some(error) = failed else {
                node.stop().await;
                return Ok(());
            };
            if !node.is_wanted_anew(&error).await {
                node.stop().await;
                return Err(failure(error));
            }
            tokio::select! {
                () = &mut told => {
                    node.stop().await;
                    return Ok(());
                }
                () = node.let_go() => {}
            }
            // With a new disk it is another node under the same name: all begins anew.
            node.stop_and_discard().await.map_err(failure)?;
        }
    })
}

/// Checks and prints.
pub(super) fn check(command: &ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Check { node, files } = command;
    let config = load(node)?;
    let (mut pipelines, mut wrong) = (Vec::new(), Vec::new());
    let directory = config.pipelines_dir.as_deref().map(manifests::load_dir);
    for found in directory.into_iter().chain(files.iter().map(|file| named(file))) {
        match found {
            Ok(found) => pipelines.extend(found),
            Err(errors) => wrong.push(errors.to_string()),
        }
    }
    let resolved = pipelines.iter().map(|pipeline| pipeline.resolve(&config.secret_roots));
    wrong.extend(resolved.filter_map(Result::err).map(|errors| errors.to_string()));
    wrong.extend(config.credentials().err().map(|errors| errors.to_string()));
    wrong.extend(config.check_data_dir().err().map(|errors| errors.to_string()));
    if !wrong.is_empty() {
        return Err(Failure::usage(wrong.join("\n")));
    }
    let shown = |error| Failure::failed(format!("cannot print what is in effect: {error}"));
    let mut documents = vec![config.to_yaml().map_err(shown)?];
    for pipeline in &pipelines {
        documents.push(pipeline.to_yaml().map_err(shown)?);
    }
    write_line(documents.join("---\n").trim_end())
}

/// `-` is standard input.
fn named(file: &Path) -> Result<Vec<Manifest>, ConfigErrors> {
    if file != Path::new("-") {
        return manifests::load_named(file);
    }
    let text = io::read_to_string(io::stdin());
    let text = text.map_err(|error| ConfigErrors::whole("standard input", format!("cannot be read: {error}")))?;
    Manifest::parse_all(&text, "standard input")
}

fn load(args: &Args) -> Result<config::Node, Failure> {
    let file = args.config.as_deref().map(read).transpose()?;
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let environment: BTreeMap<_, _> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !OF_THE_COMMAND_LINE.contains(&name.as_str()))
        .collect();
    let host = Host {
        name: fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()),
        cores: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    config::Node::load(file, &environment, &args.overrides(), &host)
        .map_err(|errors| Failure::usage(errors.to_string()))
}

fn read(path: &Path) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Failure::usage(format!("{name}: cannot be read: {error}; correct --config"))),
    }
}

impl Args {
    fn overrides(&self) -> Overrides {
        let args = self.clone();
        Overrides {
            name: args.name,
            cluster: args.cluster,
            data_dir: args.data_dir,
            admin_listen: args.admin_listen,
            admin_allow_remote: args.admin_allow_remote,
            admin_tls_cert_file: args.admin_tls_cert_file,
            admin_tls_key_file: args.admin_tls_key_file,
            admin_tokens_read: args.admin_tokens_read,
            admin_tokens_operate: args.admin_tokens_operate,
            cluster_listen: args.cluster_listen,
            cluster_advertise: args.cluster_advertise,
            seeds: args.seeds,
            bootstrap_expect: args.bootstrap_expect,
            bootstrap: args.bootstrap,
            voters_max: args.voters_max,
            lease: args.lease,
            keep_alive: args.keep_alive,
            heartbeat: args.heartbeat,
            election_timeout: args.election_timeout,
            balance: args.balance,
            cluster_tls_ca_file: args.cluster_tls_ca_file,
            cluster_tls_cert_file: args.cluster_tls_cert_file,
            cluster_tls_key_file: args.cluster_tls_key_file,
            cluster_tls_server_name: args.cluster_tls_server_name,
            cluster_insecure: args.cluster_insecure,
            http_listen: args.http_listen,
            kubernetes_statefulset: args.kubernetes_statefulset,
            pipelines_dir: args.pipelines_dir,
            lanes: args.lanes,
            in_flight_lane_readings: args.in_flight_lane_readings,
            in_flight_lane_bytes: args.in_flight_lane_bytes,
            in_flight_shard_readings: args.in_flight_shard_readings,
            in_flight_shard_bytes: args.in_flight_shard_bytes,
            secret_roots: args.secret_roots,
            drain_deadline: args.drain_deadline,
            checkpoint_interval: args.checkpoint_interval,
            log_format: args.log_format,
            log_filter: args.log_filter,
        }
    }
}

/// Ends with the first SIGTERM or SIGINT from now on.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends with standard input. A thread of its own reads it, since a read cannot be called off when the node stops for another reason.
fn end_of_stdin() -> Result<oneshot::Receiver<()>, Failure> {
    let (ended, end) = oneshot::channel();
    let read = move || {
        // An input that cannot be read any more has ended too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // Nobody waits: the node stops already.
        let _ = ended.send(());
    };
    let started = thread::Builder::new().name("stdin".to_owned()).spawn(read);
    started.map_err(|error| Failure::failed(format!("cannot listen to standard input: {error}")))?;
    Ok(end)
}

async fn told(end: Option<oneshot::Receiver<()>>) {
    match end {
        // The thread ends only after it has told.
        Some(end) => drop(end.await),
        None => std::future::pending().await,
    }
}
