//! `loadtest`: judges an MQTT to Kafka pipeline from outside. It publishes numbered readings to the MQTT broker, reads
//! Kafka on its own, and says what was lost, repeated, reordered and how long it took.
//!
//! Exit code: 0 nothing that the MQTT broker acknowledged is missing, 1 something is, 2 the run could not be made.

pub mod lab;

mod cli;
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
    let cli::Cli { command: cli::Command::Run(args) } = cli::Cli::parse();
    let output = args.output;
    match run::run(&args).and_then(|report| {
        io::stdout().write_all(report.render(output)?.as_bytes())?;
        Ok(report.is_complete())
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}
