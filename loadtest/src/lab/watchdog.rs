//! Kills what the test process leaves behind, however it ends.
//!
//! A small shell in its own process group reads process ids from a pipe that only the test process holds open (Rust opens pipes
//! close-on-exec). When the test process is gone, `kill -9` included, the pipe ends, and the shell kills what is still on
//! its list. Between starting a process and writing its id lie some microseconds; `tests/run` looks for what would slip through there.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::Context as _;

const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=''
while read -r what pid; do
    case $what in
    +) pids="$pids $pid" ;;
    -) rest=''; for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done; pids=$rest ;;
    esac
done
for p in $pids; do kill -9 "$p" 2>/dev/null; done
"#;

static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Puts a process on the list.
pub(crate) fn watch(pid: u32) -> anyhow::Result<()> {
    tell('+', pid)
}

/// Takes a process that has been waited for off the list: its id may soon mean another one.
pub(crate) fn forget(pid: u32) -> anyhow::Result<()> {
    tell('-', pid)
}

fn tell(what: char, pid: u32) -> anyhow::Result<()> {
    let pipe = match PIPE.get() {
        Some(pipe) => pipe,
        None => {
            let started = start()?;
            // Two threads may start one each; the loser's pipe closes here and its shell ends with an empty list.
            PIPE.get_or_init(|| Mutex::new(started))
        }
    };
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    // One write a line: a pipe takes short writes whole.
    pipe.write_all(format!("{what} {pid}\n").as_bytes()).context("telling the watchdog")
}

fn start() -> anyhow::Result<ChildStdin> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the watchdog")?;
    shell.stdin.take().context("the watchdog has no stdin")
}
