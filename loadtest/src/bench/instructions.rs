//! Instructions that another process executes, user space and kernel, counted by perf where the machine lets it.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A count under way; none where perf is missing. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Instructions(Option<Child>);

impl Instructions {
    /// Counts for so long from now on, all threads.
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

    /// How many there were; none where the machine has no counter, or lets only user space be counted.
    pub(crate) fn finish(mut self) -> Option<u64> {
        let output = self.0.take()?.wait_with_output().ok()?;
        count(&String::from_utf8_lossy(&output.stderr))
    }
}

/// Of lines like `1234,,instructions,…`: `<not supported>` may stand in place of the number, and `instructions:u` in place of the name.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut fields = line.split(',');
        let number = fields.next()?;
        (fields.nth(1)? == "instructions").then(|| number.parse().ok())?
    })
}

impl Drop for Instructions {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_count_of_user_space_and_kernel_counts() {
        assert_eq!(count("\n1234,,instructions,1000,100.00,,\n"), Some(1234));
        assert_eq!(count("1234,,instructions:u,1000,100.00,,"), None);
        assert_eq!(count("<not supported>,,instructions,0,100.00,,"), None);
    }
}
