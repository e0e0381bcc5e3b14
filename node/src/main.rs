//! The `sluice` program.

use std::process::ExitCode;

/// A reading's cost is mostly small allocations inside librdkafka's caller and the codec; mimalloc was 1.3 to 1.6 times as fast there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice_node::cli::run()
}
