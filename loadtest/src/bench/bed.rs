//! The test bed: a firehose in a process of its own, a node, and a real Kafka that all runs share.

use std::{
    env, fs,
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{
    BenchArgs, batches,
    case::{Case, Mapping},
    instructions::Instructions,
    report::Run,
};
use crate::lab::{
    certificates::{Authority, Certificate},
    eventually,
    firehose::{self, Counts},
    kafka::Kafka,
    node::{Node, Site},
    pipeline::Pipeline,
    process::Process,
    tls_front::TlsFront,
    topic::Topic,
};

/// Before it is measured: connections, caches, the kernel's windows, and Java's compiler.
const WARM_UP: Duration = Duration::from_secs(5);

/// What all runs share.
#[derive(Debug)]
pub(crate) struct Bed {
    kafka: Kafka,
    authority: Authority,
    /// Of both servers.
    certificate: Certificate,
}

impl Bed {
    /// Starts Kafka.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn set() -> anyhow::Result<Self> {
        let authority = Authority::make()?;
        let certificate = authority.sign("localhost", Ipv4Addr::LOCALHOST.into())?;
        Ok(Self { kafka: Kafka::start_with_tls(&certificate)?, authority, certificate })
    }

    /// One run of a case.
    ///
    /// # Errors
    /// It could not be made, or something that was acknowledged is not in Kafka.
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^53")]
    pub(crate) fn run(&self, case: &Case, args: &BenchArgs) -> anyhow::Result<Run> {
        let topic = Topic::create(&self.kafka.servers(), "bench", args.partitions, &[])?;
        let mut firehose = Hose::start(case)?;
        let site = Site { program: args.sluice.clone(), ..Site::default() };
        let config = format!("lanes: {}\nlog: {{filter: warn}}\n", case.lanes);
        let front = case.mqtt_tls.then(|| TlsFront::start(&self.certificate, firehose.port)).transpose()?;
        let mqtt = front.as_ref().map_or_else(|| firehose.url(), |front| format!("mqtts://127.0.0.1:{}", front.port()));
        let kafka = if case.kafka_tls { self.kafka.tls_servers()? } else { self.kafka.servers() };
        let mut pipeline = pipeline(case, &mqtt, &kafka, &topic.name);
        let ca_file = self.authority.file().display().to_string();
        if case.mqtt_tls {
            pipeline.source.push(format!("ca_file: {ca_file}"));
        }
        if case.kafka_tls {
            pipeline.kafka_properties.push(("security.protocol".to_owned(), "ssl".to_owned()));
            pipeline.kafka_properties.push(("ssl.ca.location".to_owned(), ca_file));
            // The name may stand for an address of IPv6 too, where nobody listens.
            pipeline.kafka_properties.push(("broker.address.family".to_owned(), "v4".to_owned()));
        }
        pipeline.kafka_properties.retain(|(known, _)| args.kafka.iter().all(|(key, _)| key != known));
        pipeline.kafka_properties.extend(args.kafka.iter().cloned());
        let mut node = Node::prepare_at(&site, &[pipeline.yaml()], &config)?;
        node.start_again()?;
        eventually("readings flow on every session", || {
            let counts = firehose.counts()?;
            let flowing = counts.acked.values().filter(|acked| **acked > 0).count();
            ensure!(flowing == case.sessions as usize, "on {flowing} of {}", case.sessions);
            Ok(())
        })?;
        thread::sleep(WARM_UP);
        let before = Look::take(&firehose, &mut node, &topic)?;
        let instructions = Instructions::count(node.process()?.pid(), args.duration);
        thread::sleep(args.duration);
        let after = Look::take(&firehose, &mut node, &topic)?;
        let resident_bytes = node.process()?.resident_bytes()?;
        let instructions = instructions.finish();
        if case.qos > 0 {
            // Asked afterwards, so Kafka has at least as much.
            let (acked, held) = (after.acked(), u64::try_from(topic.count()?)?);
            ensure!(held >= acked, "{acked} readings were acknowledged, Kafka has {held}");
            let connections = after.counts.connections;
            ensure!(connections == u64::from(case.sessions), "sessions connected anew, {connections} times in all");
        }
        firehose.process.check_running()?;
        drop(node);
        let records_per_batch = batches::records_per_batch(&self.kafka.data_dir(), &topic.name)?;
        topic.delete()?;
        let instructions_per_second = instructions.map(|count| count as f64 / args.duration.as_secs_f64());
        Ok(Run::of(&before, &after, resident_bytes, records_per_batch, instructions_per_second))
    }
}

/// Everything that a rate needs, at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) cpu_time: Duration,
    /// Records in Kafka.
    pub(crate) held: u64,
    pub(crate) counts: Counts,
}

impl Look {
    fn take(firehose: &Hose, node: &mut Node, topic: &Topic) -> anyhow::Result<Self> {
        // CPU time and Kafka's count side by side: they make the figure.
        let held = u64::try_from(topic.count()?)?;
        let cpu_time = node.process()?.cpu_time()?;
        Ok(Self { at: Instant::now(), cpu_time, held, counts: firehose.counts()? })
    }

    fn acked(&self) -> u64 {
        self.counts.acked.values().sum()
    }
}

/// A firehose in a process of its own.
#[derive(Debug)]
struct Hose {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Hose {
    fn start(case: &Case) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-firehose-").tempdir()?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["firehose", "--qos", &case.qos.to_string(), "--window", &case.window.to_string()]);
        command.args(["--payload-bytes", &case.payload_bytes.to_string()]);
        command.args(["--rate", &case.rate.div_ceil(case.sessions).to_string()]);
        let (out, log) = (dir.path().join("port"), dir.path().join("log"));
        let mut process = Process::start_with_output("firehose", command, &out, &log)?;
        let port = process
            .wait_for("the firehose listens", || fs::read_to_string(&out)?.trim().parse().context("no port yet"))?;
        Ok(Self { process, port, _dir: dir })
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    fn counts(&self) -> anyhow::Result<Counts> {
        firehose::counts_of(self.port)
    }
}

fn pipeline(case: &Case, mqtt: &str, kafka: &str, topic: &str) -> Pipeline {
    let mut pipeline = Pipeline::new("bench", mqtt, kafka, topic);
    pipeline.qos = case.qos;
    pipeline.shards = case.sessions;
    pipeline.receive_maximum = case.window;
    pipeline.source.push(format!("version: \"{}\"", case.version));
    pipeline.kafka_properties.push(("compression.type".to_owned(), case.compression.to_owned()));
    if case.headers > 0 {
        let names = ["topic", "qos", "retain", "duplicate", "received-at"];
        pipeline.more.push(format!("metadata_headers: [{}]", names[..usize::from(case.headers)].join(", ")));
    }
    let key = "key: \"{zone}/{device}\"";
    match case.mapping {
        Mapping::Literal => {}
        Mapping::Captures => {
            pipeline.mapping.push(format!("{{match: \"factory/{{zone}}/{{device}}/reading\", topic: {topic}, {key}}}"));
        }
        Mapping::Regex => pipeline
            .mapping
            .push(format!("{{regex: \"factory/(?P<zone>[^/]+)/(?P<device>[^/]+)/reading\", topic: {topic}, {key}}}")),
    }
    pipeline
}
