//! A child process with a log, that faults can be done to, and that never outlives the test.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use super::{
    eventually::{PATIENCE, within},
    watchdog,
};
use crate::cpu;

/// Lines of a log that a failed test shows.
const TAIL_LINES: usize = 60;

static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// From now on a child that ends shows no end of its log: for programs whose stderr people read.
pub fn be_quiet() {
    IS_QUIET.store(true, Relaxed);
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    is_over: bool,
}

impl Process {
    /// Starts `command`; what it says is appended to `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?);
        command.stdout(out);
        Self::spawn(name, command, log)
    }

    /// Starts `command` with its stdout going to `stdout` alone; what it says on stderr is appended to `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_with_output(name: &str, mut command: Command, stdout: &Path, log: &Path) -> anyhow::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stderr(out).stdout(File::create(stdout)?);
        Self::spawn(name, command, log)
    }

    fn spawn(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        // A group of its own: Ctrl-C ends the test, and the end of the test ends the child.
        let child = command.process_group(0).spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let process = Self { name: name.to_owned(), child, log: log.to_owned(), is_over: false };
        watchdog::watch(process.pid())?;
        Ok(process)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// It had ended before: the fault would not have bitten.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(self.exit_status()?.is_none(), "{} had ended before it was killed", self.name);
        self.end()
    }

    /// SIGTERM, and waits until it has ended by itself.
    ///
    /// # Errors
    /// It has not ended in time, or had ended before.
    pub fn terminate(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(patience)
    }

    /// SIGSTOP: it hangs, its connections stay open.
    ///
    /// # Errors
    /// It has ended.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It has ended.
    pub fn unpause(&mut self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It has not in time.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        within(patience, &what, || self.exit_status()?.context("it runs"))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() && !self.is_over {
            self.is_over = true;
            watchdog::forget(self.pid())?;
        }
        Ok(status)
    }

    /// Waits until `check` succeeds; fails at once when the process ends.
    ///
    /// # Errors
    /// It has ended, or `check` did not succeed in time.
    pub fn wait_for<T>(&mut self, what: &str, mut check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        // What cannot change any more is no reason to wait: the inner result ends the waiting either way.
        within(PATIENCE, what, || match self.check_running() {
            Ok(()) => check().map(Ok),
            Err(ended) => Ok(Err(ended)),
        })?
    }

    /// Fails, with the end of the log, if it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_tail()),
        }
    }

    /// What it has said so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS: it has ended")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// User and system time that it has used so far, all threads.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu::used_by(self.pid())
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        ensure!(self.exit_status()?.is_none(), "{} had ended before SIG{signal}", self.name);
        // The shell's own kill: the workspace denies unsafe code, and a signal needs no crate.
        let status = Command::new("/bin/sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &self.pid().to_string()])
            .status()?;
        ensure!(status.success(), "SIG{signal} to {} failed", self.name);
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        if !self.is_over {
            self.is_over = true;
            watchdog::forget(self.pid())?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The test runner keeps this to itself unless the test fails.
        if !IS_QUIET.load(Relaxed) {
            eprintln!("--- end of the log of {} (process {}) ---\n{}", self.name, self.pid(), self.log_tail());
        }
        if let Err(error) = self.end() {
            eprintln!("{} could not be ended: {error:#}", self.name);
        }
    }
}
