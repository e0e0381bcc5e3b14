//! `loadtest`: judges an MQTT to Kafka pipeline from outside. It publishes numbered readings to the MQTT broker, reads
//! Kafka on its own, and says what was lost, repeated, reordered and how long it took.
//!
//! Exit code: 0 nothing that the MQTT broker acknowledged is missing, 1 something is, 2 the run could not be made.

pub mod lab;

mod arrivals;
mod bench;
mod chaos;
mod cli;
mod compare;
mod consumer;
mod cpu;
mod oracle;
mod plan;
mod progress;
mod publisher;
mod reading;
mod report;
mod run;
mod window;
mod wire;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

/// The program: parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Run(args) => run::main(&args),
        cli::Command::Chaos(args) => chaos::main(&args),
        cli::Command::Bench(args) => bench::main(&args),
        cli::Command::Compare(args) => compare::main(&args),
        cli::Command::Firehose(args) => bench::firehose(&args),
    };
    let outcome = outcome.and_then(|(report, is_complete)| {
        io::stdout().write_all(report.as_bytes())?;
        Ok(is_complete)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}
