//! The program `loadtest`; what it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_loadtest::main()
}
