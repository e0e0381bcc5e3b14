//! The `sluice` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_node::cli::run()
}
