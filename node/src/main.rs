//! The `sluice` program.

use std::process::ExitCode;

/// For all of the process, librdkafka and other C code too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Memory in pieces of 2 MiB that the kernel must zero first costs more than it saves here: what is in flight comes and goes, and an idle
    // node would hold 30 MB more. mimalloc's feature `no_thp` only stops it from asking for them, which is not enough where the system gives
    // them to everybody. Processes that this one starts have the same; where the kernel refuses, it is slower and not wrong.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    sluice_node::cli::run()
}
