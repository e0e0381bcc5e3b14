//! `sluice demo`: runs it and prints what came of it.

use super::{
    Failure, Output, die_of_panics,
    output::{self, write_line},
};
use crate::{
    demo::{self, Args},
    telemetry::logs,
};

/// What the demo logs unless told otherwise: its own lines say how it goes. openraft warns of every peer that is killed on purpose.
const LOG: &str = "warn,openraft=error";

/// Runs the demo.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.check().map_err(Failure::usage)?;
    if !args.is_live() {
        let filter = std::env::var("SLUICE_LOG_FILTER").unwrap_or_else(|_| LOG.to_owned());
        logs::init(logs::Format::Text, &filter).map_err(|error| Failure::usage(error.to_string()))?;
    }
    die_of_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let report =
        runtime.block_on(demo::run(args)).map_err(|error| Failure::failed(format!("the demo failed: {error:#}")))?;
    match args.output() {
        Output::Table => write_line(&output::table(&["RESULT", "VALUE"], report.rows()))?,
        Output::Json => write_line(&output::json(&report)?)?,
        Output::Yaml => write_line(&output::yaml(&report)?)?,
    }
    if report.is_good() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{} readings were lost, {} arrived", report.lost, report.delivered)))
    }
}
