//! The `sluice` program.

use std::process::ExitCode;

/// For Rust's side: buffers, batches, routes. What librdkafka allocates goes to the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice_node::cli::run()
}
