//! `loadtest bench`: how much a node carries. A firehose sends as fast as the node acknowledges, a real Kafka takes what it carries, and
//! the node's CPU time is set against the records that Kafka has.

mod batches;
mod bed;
mod case;
mod descriptors;
mod instructions;
mod plot;
mod report;

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use self::{
    bed::Bed,
    case::{CASES, Case},
    report::Report,
};
use crate::{
    cli::{Output, duration, property},
    lab::{
        firehose::{Firehose, Flow},
        process,
    },
};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Show the cases, and run nothing
    #[arg(long)]
    list: bool,
    /// Cases to run [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    case: Vec<String>,
    /// Runs of each case; the median is told, and how far the others lie
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long a run is measured
    #[arg(long, default_value = "10s", value_parser = measured)]
    pub(crate) duration: Duration,
    /// Partitions of the Kafka topic. librdkafka sends a request for each, and Kafka answers those of a connection one after the other
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    pub(crate) partitions: i32,
    /// A property of librdkafka for every case, such as linger.ms=0; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = property)]
    pub(crate) kafka: Vec<(String, String)>,
    /// The program `sluice` [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) sluice: Option<PathBuf>,
    /// Draw the figures, too, as an SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Form of the report: a table, or an object a case and line; progress goes to stderr
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn measured(text: &str) -> anyhow::Result<Duration> {
    let long = duration(text)?;
    anyhow::ensure!(long >= Duration::from_secs(1), "a run shorter than 1s tells nothing");
    Ok(long)
}

/// What the firehose in a process of its own is told.
#[derive(Debug, Args)]
pub(crate) struct FirehoseArgs {
    #[arg(long)]
    qos: u8,
    #[arg(long)]
    window: u16,
    #[arg(long)]
    payload_bytes: usize,
    #[arg(long)]
    rate: u32,
}

/// Runs the cases.
///
/// # Errors
/// A run could not be made, or something acknowledged is not in Kafka.
pub(crate) fn main(args: &BenchArgs) -> anyhow::Result<(String, bool)> {
    let cases: Vec<Case> = match &args.case[..] {
        [] => CASES.to_vec(),
        names => names.iter().map(|name| case::named(name)).collect::<anyhow::Result<_>>()?,
    };
    if args.list {
        return Ok((list(&cases, args.output)?, true));
    }
    if let Some(sluice) = &args.sluice {
        anyhow::ensure!(sluice.is_file(), "--sluice {}: is no file", sluice.display());
    }
    process::be_quiet();
    descriptors::check(cases.iter().map(|case| case.sessions).max().unwrap_or(0))?;
    let bed = Bed::set()?;
    let (mut out, mut reports) = (io::stdout(), Vec::new());
    if args.output == Output::Text {
        out.write_all(report::head().as_bytes())?;
    }
    for case in &cases {
        let mut runs = Vec::new();
        for number in 1..=args.runs {
            eprint!("{}, run {number} of {}: ", case.name, args.runs);
            let run = bed.run(case, args)?;
            eprintln!(
                "{:.0} readings per CPU-second, {:.0} a second",
                run.readings_per_cpu_second, run.readings_per_second
            );
            runs.push(run);
        }
        let Some(report) = Report::of(case, args, runs) else { continue };
        // Each at once: a run that fails later takes nothing with it.
        match args.output {
            Output::Text => out.write_all(report::line(&report).as_bytes())?,
            Output::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        }
        out.flush()?;
        reports.push(report);
    }
    if let Some(file) = &args.svg {
        fs::write(file, plot::svg(&reports)).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok((String::new(), true))
}

fn list(cases: &[Case], output: Output) -> anyhow::Result<String> {
    let mut text = String::new();
    for case in cases {
        let line = match output {
            Output::Text => format!("{:<24} {}", case.name, case.about),
            Output::Json => json!({"case": case.name, "about": case.about, "settings": case}).to_string(),
        };
        writeln!(text, "{line}")?;
    }
    Ok(text)
}

/// A firehose, until somebody ends the process: says its port, and its counts to whoever asks there.
///
/// # Errors
/// It cannot listen.
pub(crate) fn firehose(args: &FirehoseArgs) -> anyhow::Result<(String, bool)> {
    let flow = Flow { qos: args.qos, window: args.window, payload_bytes: args.payload_bytes, rate: args.rate };
    let firehose = Firehose::start(flow)?;
    let mut out = io::stdout();
    writeln!(out, "{}", firehose.port())?;
    out.flush()?;
    loop {
        thread::park();
    }
}
