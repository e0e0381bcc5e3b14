//! One node of the demo's cluster: a child process, `sluice serve`, that can be killed, stopped and started again.
//!
//! It cannot outlive the demo, however that ends: it stops when its standard input ends, and only the demo holds the other end.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use crate::config;

/// How often a stopping process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A node and its process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    program: PathBuf,
    /// Of `sluice`.
    arguments: Vec<OsString>,
    log: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Child),
    /// Told to stop, to be started again.
    Stopping(Child),
    Dead,
}

/// How a process is, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Running,
    Stopping,
    Dead,
}

/// What has happened to a process by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    /// It has ended, and nobody had told it to.
    Ended(ExitStatus),
    /// It had stopped in order, and was started again.
    StartedAgain,
}

impl Process {
    /// Starts it; what it says goes to `log`.
    pub(super) fn start(name: String, arguments: Vec<OsString>, log: PathBuf) -> anyhow::Result<Self> {
        let program = env::current_exe().context("this program cannot be found, to start nodes of it")?;
        let mut process = Self { name, program, arguments, log, state: State::Dead };
        process.spawn()?;
        Ok(process)
    }

    /// How it is.
    pub(super) fn condition(&self) -> Condition {
        match self.state {
            State::Running(_) => Condition::Running,
            State::Stopping(_) => Condition::Stopping,
            State::Dead => Condition::Dead,
        }
    }

    /// kill -9, and waits for its end. False: there was nothing to kill.
    pub(super) fn kill(&mut self) -> anyhow::Result<bool> {
        let (State::Running(child) | State::Stopping(child)) = &mut self.state else { return Ok(false) };
        child.kill().and_then(|()| child.wait()).with_context(|| format!("{} cannot be killed", self.name))?;
        self.state = State::Dead;
        Ok(true)
    }

    /// Starts it if it is dead; true: it was. One that runs is told to stop in order, and starts again when it has.
    pub(super) fn start_again(&mut self) -> anyhow::Result<bool> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Running(child) | State::Stopping(child) => self.state = told_to_stop(child),
            State::Dead => {
                self.spawn()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks at it: what has happened since the last time.
    pub(super) fn look(&mut self) -> anyhow::Result<Option<Happening>> {
        let (State::Running(child) | State::Stopping(child)) = &mut self.state else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        let was_told = self.condition() == Condition::Stopping;
        self.state = State::Dead;
        if !was_told {
            return Ok(Some(Happening::Ended(status)));
        }
        self.spawn()?;
        Ok(Some(Happening::StartedAgain))
    }

    /// Tells it to stop in order.
    pub(super) fn tell_to_stop(&mut self) {
        if let State::Running(child) | State::Stopping(child) = std::mem::replace(&mut self.state, State::Dead) {
            self.state = told_to_stop(child);
        }
    }

    /// Waits until it has stopped by itself; at `deadline` it is killed. One that is dead has stopped.
    pub(super) async fn stopped(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let (State::Running(child) | State::Stopping(child)) = &mut self.state else { return Ok(()) };
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                tracing::debug!(node = self.name, "node did not stop in time");
                self.kill()?;
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        };
        self.state = State::Dead;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, last_words(&self.log));
        Ok(())
    }

    /// The last line of its log.
    pub(super) fn last_words(&self) -> String {
        last_words(&self.log)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--stop-with-stdin"]).args(&self.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // A group of its own: Ctrl-C is for the demo, which then stops its nodes.
        command.process_group(0);
        // What the user has set for a node of their own is not meant for these.
        for (variable, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(config::is_setting)) {
            command.env_remove(variable);
        }
        command.env_remove("SLUICE_CONFIG");
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        self.state = State::Running(child);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it cannot be killed it has ended, or sees the end of its standard input.
        let _ = self.kill();
    }
}

fn told_to_stop(mut child: Child) -> State {
    drop(child.stdin.take());
    State::Stopping(child)
}

fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it has said nothing").to_owned()
}
