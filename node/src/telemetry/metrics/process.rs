//! Metrics of the process, from Linux's `/proc/self`; elsewhere none. Names as every Prometheus client gives them.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, 100 on every architecture that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// `/proc/self/status` gives sizes in KiB, whatever the page size.
const KIB: f64 = 1024.0;

/// The process that runs this code.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Default for Process {
    fn default() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the process started, since the Unix epoch.";
        encoder
            .encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&started)?;
        if let Some(cpu_seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
            let help = "Processor time used, by user and kernel.";
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&cpu_seconds, None)?;
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(kib) = field(&status, "VmRSS:") {
                encoder
                    .encode_descriptor(
                        "process_resident_memory",
                        "Resident memory.",
                        Some(&Unit::Bytes),
                        MetricType::Gauge,
                    )?
                    .encode_gauge(&(kib * KIB))?;
            }
            if let Some(threads) = field(&status, "Threads:") {
                encoder
                    .encode_descriptor("process_threads", "Operating system threads.", None, MetricType::Gauge)?
                    .encode_gauge(&threads)?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let count = i64::try_from(open.count()).unwrap_or(i64::MAX);
            encoder
                .encode_descriptor("process_open_fds", "Open file descriptors.", None, MetricType::Gauge)?
                .encode_gauge(&count)?;
        }
        Ok(())
    }
}

/// utime + stime of `/proc/self/stat`, fields 14 and 15 of proc(5), counted from after the command's name, which may
/// hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_an_odd_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }

    #[test]
    fn a_status_field_is_its_first_number() {
        assert_eq!(field("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(field("Name:\tx\n", "VmRSS:"), None);
    }
}
