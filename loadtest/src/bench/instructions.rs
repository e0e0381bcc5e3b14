//! Instructions that another process executes, counted by perf where the machine lets it.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A count under way; none where perf is missing or the machine has no counter.
#[derive(Debug)]
pub(crate) struct Instructions(Option<Child>);

impl Instructions {
    /// Counts for so long from now on, all threads, user space and kernel.
    pub(crate) fn count(pid: u32, time: Duration) -> Self {
        let seconds = format!("{:.3}", time.as_secs_f64());
        let child = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "instructions", "-p", &pid.to_string(), "--", "sleep", &seconds])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.ok())
    }

    /// How many there were.
    pub(crate) fn finish(self) -> Option<u64> {
        let output = self.0?.wait_with_output().ok()?;
        // "1234,,instructions,..."; "<not supported>" or "<not counted>" stand in place of the number.
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|line| line.contains("instructions"))?.split(',').next()?.parse().ok()
    }
}
