//! One run from start to verdict: consumer first, then publishers, then the wait until everything has arrived.

use std::{
    fs,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{runtime, task::JoinSet, time};

use crate::{
    cli::RunArgs,
    consumer::Consumer,
    cpu,
    oracle::{Counts, Oracle},
    plan::Plan,
    progress::Progress,
    publisher::{Publisher, Shared},
    reading::{Format, ZONES},
    report::Report,
    wire::Identity,
};

/// After the last missing reading has arrived, look so much longer for copies.
const LINGER: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Makes the run; gives the report, and whether nothing acknowledged is missing.
///
/// # Errors
/// It could not be made: a broker cannot be reached, a topic does not exist, the MQTT broker refuses the publisher.
pub(crate) fn main(args: &RunArgs) -> anyhow::Result<(String, bool)> {
    let report = judge(args, || Ok(()))?.report;
    Ok((report.render(args.output)?, report.is_complete()))
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) report: Report,
    /// When the last reading arrived that had not arrived before; none did: when the run began.
    pub(crate) last_delivery_at: Instant,
}

/// Makes a run; calls `on_published` when the last reading is published.
///
/// # Errors
/// As of [`main`], and of `on_published`.
pub(crate) fn judge(args: &RunArgs, on_published: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Judged> {
    let run_id = format!("{:08x}", rand::random::<u32>());
    let format = Format::new(run_id.clone(), args.topic_template.clone(), args.payload_bytes as usize, ZONES);
    let consumer = Consumer::open(&args.kafka, &args.kafka_topic)?;
    // Opening took its time; the run's clock starts now.
    let progress = Arc::new(Progress::new(Oracle::new(args.devices)?, None));
    let cpu_before = args.node_pid.map(cpu::used_by).transpose()?;

    let reader = {
        let (format, progress) = (format.clone(), Arc::clone(&progress));
        thread::Builder::new().name("consumer".to_owned()).spawn(move || consumer.run(&format, &progress))?
    };
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let ticker = tokio::spawn(tick(Arc::clone(&progress)));
        let published = publish(args, &run_id, format, &progress).await;
        let publish_time = progress.clock.elapsed();
        let published = published.and_then(|()| on_published());
        if published.is_ok() {
            settle(&progress, args.settle).await;
        }
        ticker.abort();
        published.map(|()| publish_time)
    });
    progress.is_over.store(true, Relaxed);
    // A consumer that panicked has lost readings, and the report would blame the pipeline.
    reader.join().map_err(|_| anyhow::anyhow!("the consumer thread panicked"))?;
    let publish_time = outcome?;
    let cpu_after = args.node_pid.map(cpu::used_by).transpose()?;
    let node_cpu = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
    let report = report(run_id, args, &progress, publish_time, node_cpu);
    Ok(Judged { report, last_delivery_at: progress.last_delivery_at() })
}

async fn publish(args: &RunArgs, run_id: &str, format: Format, progress: &Arc<Progress>) -> anyhow::Result<()> {
    let connections = args.connections.min(args.devices);
    let plan = Plan { devices: args.devices, rate: args.rate, duration: args.duration, connections };
    let password = args
        .password_file
        .as_ref()
        .map(|path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display())))
        .transpose()?
        .unwrap_or_default();
    let login = args.username.clone().map(|user| (user, password.trim_end_matches(['\r', '\n']).to_owned()));
    let shared = Arc::new(Shared {
        address: args.mqtt.clone(),
        format,
        qos: args.qos,
        settle: args.settle,
        progress: Arc::clone(progress),
    });
    let mut publishers = JoinSet::new();
    for connection in 0..connections {
        let identity = Identity { client_id: format!("sluice-loadtest-{run_id}-{connection}"), login: login.clone() };
        let publisher = Publisher::new(Arc::clone(&shared), identity, plan.turns(connection), args.window);
        publishers.spawn(publisher.run());
    }
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            _ = &mut interrupted, if !progress.is_stopped.load(Relaxed) => {
                eprintln!("loadtest: interrupted: publishing no more, waiting for what is under way");
                progress.is_stopped.store(true, Relaxed);
            }
            joined = publishers.join_next() => match joined {
                Some(joined) => joined??,
                None => return Ok(()),
            }
        }
    }
}

/// Waits until everything acknowledged has arrived, or nothing new came for `patience`.
async fn settle(progress: &Progress, patience: Duration) {
    let mut last = (0, 0);
    let mut changed_at = Instant::now();
    loop {
        let counts = progress.oracle().counts();
        if last != (counts.delivered, counts.duplicated) {
            last = (counts.delivered, counts.duplicated);
            changed_at = Instant::now();
        }
        let wait = if is_complete(&counts, progress) { LINGER.min(patience) } else { patience };
        if changed_at.elapsed() >= wait {
            return;
        }
        time::sleep(LOOK).await;
    }
}

/// Nothing is outstanding: neither what was acknowledged nor (QoS 0, or acknowledgements that got lost) what was not.
fn is_complete(counts: &Counts, progress: &Progress) -> bool {
    let refused = progress.refused.load(Relaxed);
    counts.lost() == 0 && counts.delivered + refused >= progress.published.load(Relaxed)
}

/// A line a second on stderr.
async fn tick(progress: Arc<Progress>) {
    let mut interval = time::interval(Duration::from_secs(1));
    interval.tick().await;
    let mut before = 0;
    loop {
        interval.tick().await;
        let counts = progress.oracle().counts();
        eprintln!(
            "{:>5}s  published {:>10}  acknowledged {:>10}  delivered {:>10} (+{})  missing {:>8}  duplicated {}",
            progress.clock.elapsed().as_secs(),
            progress.published.load(Relaxed),
            counts.acknowledged,
            counts.delivered,
            counts.delivered - before,
            counts.lost(),
            counts.duplicated,
        );
        before = counts.delivered;
    }
}

fn report(
    run: String,
    args: &RunArgs,
    progress: &Progress,
    publish_time: Duration,
    node_cpu: Option<Duration>,
) -> Report {
    let oracle = progress.oracle();
    let counts = oracle.counts();
    let published = progress.published.load(Relaxed);
    let quantile_ms = |quantile| micros_to_ms(oracle.latency_us().value_at_quantile(quantile));
    let delivering = progress.delivering();
    Report {
        run,
        qos: args.qos as u8,
        published,
        acknowledged: counts.acknowledged,
        delivered: counts.delivered,
        lost: counts.lost(),
        undelivered: published.saturating_sub(counts.delivered),
        duplicated: counts.duplicated,
        reordered: counts.reordered,
        refused: progress.refused.load(Relaxed),
        for_nobody: progress.for_nobody.load(Relaxed),
        resent: progress.resent.load(Relaxed),
        reconnects: progress.reconnects.load(Relaxed),
        mqtt_sessions_lost: progress.sessions_lost.load(Relaxed),
        publish_seconds: publish_time.as_secs_f64(),
        publish_rate: rate(published, publish_time),
        delivery_seconds: delivering.as_secs_f64(),
        delivery_rate: rate(counts.delivered, delivering),
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        p999_ms: quantile_ms(0.999),
        max_ms: micros_to_ms(oracle.latency_us().max()),
        node_cpu_seconds: node_cpu.map(|used| used.as_secs_f64()),
        readings_per_cpu_second: node_cpu.map(|used| rate(counts.delivered, used)),
        lost_examples: oracle.examples_of_lost().iter().map(ToString::to_string).collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[expect(clippy::cast_precision_loss, reason = "at most a day of microseconds")]
fn micros_to_ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
