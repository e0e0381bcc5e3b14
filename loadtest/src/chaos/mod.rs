//! `loadtest chaos`: a cluster of real nodes between a real MQTT broker and a real Kafka, readings all the time, and a fault a
//! round. A round has two phases: the fault, then healing and proof that everything acknowledged so far is in Kafka.
//!
//! Nothing in here knows the inside of a node: it looks at ports, metrics, logs, Kafka and the kernel.

mod args;
mod bites;
mod faults;
mod kind;
mod load;
mod mqtt;
mod report;
mod round;
mod schedule;
mod stage;
mod timeline;

use std::time::Duration;

use anyhow::{Context as _, ensure};

pub(crate) use self::args::ChaosArgs;
use self::{
    kind::Kind,
    report::{Report, Verdict},
    schedule::Schedule,
    stage::Stage,
    timeline::Timeline,
};
use crate::{cli::Output, lab::process};

/// Rounds whose fault did not bite are played again with other chances, up to as many as were asked for, and some.
const RETRIES_MIN: usize = 3;

/// Plays the rounds. True: nothing that was acknowledged is missing.
///
/// # Errors
/// The run could not be made, or too few faults bit.
pub(crate) fn run(args: &ChaosArgs) -> anyhow::Result<Verdict> {
    let kinds = args.kinds()?;
    process::be_quiet();
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let timeline = Timeline::start();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    timeline.say(&format!("{} nodes, {} rounds, seed {seed}, faults: {}", args.nodes, args.rounds, names.join(",")));
    let mut stage = Stage::set(args, &kinds, timeline)?;
    let mut report = Report::new(args, seed);
    let played = play(args, seed, kinds, &mut stage, &mut report);
    let settled = stage.load.finish(args.settle);
    match &settled {
        Ok(end) => report.end(end),
        Err(error) => stage.timeline.say(&format!("the load ended badly: {error:#}")),
    }
    let is_good = played.is_ok() && settled.is_ok() && report.lost == 0;
    if !is_good || args.logs.is_some() {
        let dir = args.logs.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("loadtest-chaos-{seed}")));
        stage.keep_logs(&dir).with_context(|| format!("keeping the logs in {}", dir.display()))?;
        stage.timeline.say(&format!("logs and configurations are in {}", dir.display()));
    }
    Ok(Verdict { report, error: played.and(settled.map(|_| ())).err() })
}

fn play(args: &ChaosArgs, seed: u64, kinds: Vec<Kind>, stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let wanted = args.rounds as usize;
    let attempts = wanted * 2 + RETRIES_MIN;
    let mut schedule = Schedule::new(seed, kinds);
    let mut again = None;
    for number in 0..attempts {
        if report.rounds >= wanted {
            break;
        }
        let kind = again.take().unwrap_or_else(|| schedule.next_kind());
        let fault = round::play(args, stage, kind, schedule.seed_of(number), number)?;
        if !fault.bit {
            again = Some(kind);
        }
        let lost = fault.lost;
        report.note(fault);
        // What happens after a loss only covers its traces.
        if lost > 0 {
            return Ok(());
        }
    }
    ensure!(
        report.rounds >= wanted,
        "only {} of {wanted} faults bit in {attempts} rounds: a fault that does not bite proves nothing",
        report.rounds
    );
    Ok(())
}

/// Prints the report, and says whether all is well: the exit code is the caller's.
///
/// # Errors
/// The run could not be made.
pub(crate) fn main(args: &ChaosArgs) -> anyhow::Result<(String, bool)> {
    let Verdict { report, error } = run(args)?;
    let text = match args.output {
        Output::Json => serde_json::to_string(&report)? + "\n",
        Output::Text => report.text(),
    };
    match error {
        // What was lost matters more than that the run broke off.
        Some(error) if report.lost == 0 => {
            eprint!("{text}");
            Err(error)
        }
        Some(error) => {
            eprintln!("loadtest: {error:#}");
            Ok((text, false))
        }
        None => Ok((text, report.lost == 0)),
    }
}

/// Half a second of silence is a pause, for people who read timelines.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
