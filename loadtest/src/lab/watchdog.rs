//! Kills what this process leaves behind, however it ends.
//!
//! A small shell in its own process group reads process ids, and commands that undo something, from a pipe that only this process
//! holds open (Rust opens pipes close-on-exec). When this process is gone, `kill -9` included, the pipe ends, and the shell kills what
//! is still on its list and runs what is still to be undone, the latest first. Between starting a process and writing its id lie some
//! microseconds; `tests/run` looks for what would slip through there.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::{Context as _, ensure};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=''
undo=''
newline='
'
while read -r what rest; do
    case $what in
    +) pids="$pids $rest" ;;
    -) left=''; for p in $pids; do [ "$p" = "$rest" ] || left="$left $p"; done; pids=$left ;;
    !) undo="$rest$newline$undo" ;;
    =) undo="$(printf '%s' "$undo" | grep -vxF -e "$rest")$newline" ;;
    esac
done
for p in $pids; do kill -9 "$p" 2>/dev/null; done
[ -z "$undo" ] || sleep 0.3
printf '%s' "$undo" | while read -r command; do [ -z "$command" ] || sh -c "$command" 2>/dev/null; done
"#;

static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Puts a process on the list.
pub(super) fn watch(pid: u32) -> anyhow::Result<()> {
    tell('+', &pid.to_string())
}

/// Takes a process that has been waited for off the list: its id may soon mean another one.
pub(super) fn forget(pid: u32) -> anyhow::Result<()> {
    tell('-', &pid.to_string())
}

/// Something in the system that must not stay, and the command that ends it. Dropping it runs the command.
#[derive(Debug)]
pub(super) struct Undo {
    command: String,
}

impl Undo {
    /// To be said before the thing is made.
    pub(super) fn later(command: &str) -> anyhow::Result<Self> {
        ensure!(!command.contains(['\n', '\r']), "one line");
        tell('!', command)?;
        Ok(Self { command: command.to_owned() })
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let status = Command::new("/bin/sh").args(["-c", &self.command]).stderr(Stdio::null()).status();
        let told = tell('=', &self.command);
        if !status.is_ok_and(|status| status.success()) || told.is_err() {
            eprintln!("could not be undone: {}", self.command);
        }
    }
}

fn tell(what: char, rest: &str) -> anyhow::Result<()> {
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
    pipe.write_all(format!("{what} {rest}\n").as_bytes()).context("telling the watchdog")
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
