//! `loadtest compare`: the same work for Sluice and for any other bridge, in turn, between the same servers.
//!
//! Work of two kinds. Drain: a backlog waits in the MQTT broker while the bridge is down; it is started and carries as fast as it
//! can. Live: readings come at a rate. Both are judged from outside, as `loadtest run` does.

mod bridge;
mod report;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use self::{
    bridge::{Bridge, Place},
    report::{Pair, Report, Round, Work},
};
use crate::{
    cli::{MqttUrl, Output, RunArgs, duration, property},
    lab::{
        kafka::Kafka,
        mosquitto::{Mosquitto, Setup},
        process,
        topic::Topic,
    },
    run::judge,
    wire::Qos,
};

/// Of the Kafka topic.
const PARTITIONS: i32 = 12;
/// The backlog is published at this rate, which Mosquitto takes.
const BACKLOG_RATE: u32 = 30_000;
/// A bridge that has not carried anything in so many short tries carries nothing.
const TRIES: usize = 30;
/// A bridge may keep readings back to make batches, but not for so long.
const SETTLE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// How the peer is started, for the shell. In its environment are MQTT and KAFKA (host:port each) and TOPIC
    #[arg(long, value_name = "COMMAND")]
    peer: String,
    /// What the peer is called in the report
    #[arg(long, default_value = "peer")]
    peer_name: String,
    /// Readings of the backlog
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    readings: u32,
    /// Readings per second of the live work
    #[arg(long, value_name = "READINGS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    live_rate: u32,
    /// How long the live work is
    #[arg(long, default_value = "15s", value_parser = duration)]
    live_duration: Duration,
    /// How often both do both; medians are told, and how far the others lie
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Readings that the MQTT broker leaves unacknowledged, for both. With Mosquitto's default of 20 its round trips are what is measured
    #[arg(long, value_name = "READINGS", default_value_t = 20_000, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// A property of librdkafka for Sluice's pipeline, such as linger.ms=50; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = property)]
    kafka: Vec<(String, String)>,
    /// The program `sluice` [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// Form of the report; progress goes to stderr
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Compares. Complete means that Sluice lost nothing; what a peer loses is told.
///
/// # Errors
/// Something could not be started, or a bridge carries nothing.
pub(crate) fn main(args: &CompareArgs) -> anyhow::Result<(String, bool)> {
    if let Some(sluice) = &args.sluice {
        ensure!(sluice.is_file(), "--sluice {}: is no file", sluice.display());
    }
    process::be_quiet();
    let kafka = Kafka::start()?;
    let mut pairs = Vec::new();
    for run in 1..=args.runs {
        let play = |who: &str, peer: Option<&str>| {
            eprintln!("run {run} of {}: {who}", args.runs);
            play(args, &kafka, peer).with_context(|| who.to_owned())
        };
        let (sluice, peer) = (|| play("sluice", None), || play(&args.peer_name, Some(&args.peer)));
        // Who comes first changes, so that what a machine does over time favours neither.
        pairs.push(if run % 2 == 1 {
            let sluice = sluice()?;
            Pair { sluice, peer: peer()? }
        } else {
            let peer = peer()?;
            Pair { sluice: sluice()?, peer }
        });
    }
    let is_complete = pairs.iter().all(|pair| pair.sluice.drain.lost == 0 && pair.sluice.live.lost == 0);
    let report = Report::of(args, pairs).context("no run was made")?;
    Ok((report.render(args.output)?, is_complete))
}

/// Both kinds of work for one bridge, on an MQTT broker and a topic of its own.
fn play(args: &CompareArgs, kafka: &Kafka, peer: Option<&str>) -> anyhow::Result<Round> {
    let mqtt = Mosquitto::start(&Setup { max_inflight: args.window, ..Setup::default() })?;
    let topic = Topic::create(&kafka.servers(), "compare", PARTITIONS, &[])?;
    let place = Place {
        mqtt: SocketAddr::from((Ipv4Addr::LOCALHOST, mqtt.port)),
        kafka: kafka.servers(),
        topic: topic.name.clone(),
        window: args.window,
    };
    let mut bridge = match peer {
        None => Bridge::sluice(args.sluice.clone(), &args.kafka, &place)?,
        Some(command) => Bridge::peer(command, &place)?,
    };
    let work = |rate, duration, settle| RunArgs {
        mqtt: MqttUrl { host: place.mqtt.ip().to_string(), port: place.mqtt.port() },
        kafka: place.kafka.clone(),
        kafka_topic: vec![place.topic.clone()],
        topic_template: "factory/{zone}/{device}/reading".to_owned(),
        devices: 1_000,
        rate,
        duration,
        qos: Qos::AtLeastOnce,
        payload_bytes: 0,
        connections: 4,
        window: 2_000,
        settle,
        username: None,
        password_file: None,
        node_pid: None,
        output: Output::Text,
    };
    // Once, so that its session is there and keeps what is published while it is down.
    bridge.start()?;
    let first = work(100, Duration::from_millis(500), Duration::from_secs(3));
    if !(0..TRIES).any(|_| judge(&first, || Ok(())).is_ok_and(|judged| judged.report.delivered > 0)) {
        bail!("it carries nothing from factory/+/+/reading to Kafka; its log:\n{}", bridge.process()?.log()?);
    }
    bridge.stop()?;

    let backlog = Duration::from_secs_f64(f64::from(args.readings) / f64::from(BACKLOG_RATE));
    let mut started_at = Instant::now();
    let judged = judge(&work(BACKLOG_RATE, backlog, SETTLE), || {
        started_at = Instant::now();
        bridge.start()
    })?;
    // With what it took to start: it is part of coming back.
    let cpu_time = bridge.process()?.cpu_time()?;
    let drain = Work::of(&judged.report, judged.last_delivery_at.saturating_duration_since(started_at), cpu_time);

    let before = bridge.process()?.cpu_time()?;
    let judged = judge(&work(args.live_rate, args.live_duration, SETTLE), || Ok(()))?;
    let cpu_time = bridge.process()?.cpu_time()?.saturating_sub(before);
    let live = Work::of(&judged.report, args.live_duration, cpu_time);
    bridge.stop()?;
    topic.delete()?;
    Ok(Round { drain, live })
}
