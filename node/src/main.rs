//! The `sluice` program.

use std::process::ExitCode;

/// For all of the process, librdkafka and other C code too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Memory in pieces of 2 MiB that the kernel must zero first costs more than it saves here: what is in flight comes and goes, and an idle
    // node would hold 30 MB more. Where the kernel cannot do without, it is slower and not wrong.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    sluice_node::cli::run()
}
