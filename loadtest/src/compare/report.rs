//! The comparison, for people and for programs. The field names are the JSON's; they are stable.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::CompareArgs;
use crate::{cli::Output, report as judgement};

/// What one bridge did of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Work {
    pub(super) readings_per_cpu_second: f64,
    /// Drain: from the start of the process to the last reading's arrival.
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Work {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn of(report: &judgement::Report, time: Duration, cpu_time: Duration) -> Self {
        let cpu_seconds = cpu_time.as_secs_f64();
        Self {
            readings_per_cpu_second: report.delivered as f64 / cpu_seconds.max(0.01),
            seconds: time.as_secs_f64(),
            cpu_seconds,
            lost: report.lost,
            duplicated: report.duplicated,
            p50_ms: report.p50_ms,
            p99_ms: report.p99_ms,
        }
    }
}

/// What one bridge did in one run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    pub(super) drain: Work,
    pub(super) live: Work,
}

/// Both in one run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Pair {
    pub(super) sluice: Round,
    pub(super) peer: Round,
}

/// The middle of several, and how far the others lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// None of nothing. Of an even number the lower of the two in the middle.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len().checked_sub(1)? / 2)?;
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}

/// One kind of work, over all runs. Ratios are of the two in the same run.
#[derive(Debug, Serialize)]
struct Compared {
    sluice_readings_per_cpu_second: Spread,
    peer_readings_per_cpu_second: Spread,
    /// Sluice's readings per CPU-second over the peer's.
    ratio: Spread,
    sluice_seconds: Spread,
    peer_seconds: Spread,
}

impl Compared {
    fn of(pairs: &[Pair], work: fn(&Round) -> &Work) -> Option<Self> {
        let of = |figure: fn(&Work) -> f64| {
            let ours = Spread::of(pairs.iter().map(|pair| figure(work(&pair.sluice))));
            ours.zip(Spread::of(pairs.iter().map(|pair| figure(work(&pair.peer)))))
        };
        let figure = |work: &Work| work.readings_per_cpu_second;
        let (sluice, peer) = of(figure)?;
        let (sluice_seconds, peer_seconds) = of(|work| work.seconds)?;
        let ratios = pairs.iter().map(|pair| figure(work(&pair.sluice)) / figure(work(&pair.peer)).max(1.0));
        Some(Self {
            sluice_readings_per_cpu_second: sluice,
            peer_readings_per_cpu_second: peer,
            ratio: Spread::of(ratios)?,
            sluice_seconds,
            peer_seconds,
        })
    }
}

/// The comparison.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    peer: String,
    /// Of the backlog.
    readings: u32,
    /// Readings per second of the live work.
    live_rate: u32,
    /// Readings that the MQTT broker left unacknowledged.
    window: u16,
    /// librdkafka's properties that were given to Sluice besides.
    kafka: BTreeMap<String, String>,
    drain: Compared,
    live: Compared,
    runs: Vec<Pair>,
}

impl Report {
    /// None of no run.
    pub(super) fn of(args: &CompareArgs, runs: Vec<Pair>) -> Option<Self> {
        let (drain, live) = (Compared::of(&runs, |round| &round.drain)?, Compared::of(&runs, |round| &round.live)?);
        Some(Self {
            peer: args.peer_name.clone(),
            readings: args.readings,
            live_rate: args.live_rate,
            window: args.window,
            kafka: args.kafka.iter().cloned().collect(),
            drain,
            live,
            runs,
        })
    }

    pub(super) fn render(&self, output: Output) -> anyhow::Result<String> {
        match output {
            Output::Json => Ok(serde_json::to_string(self)? + "\n"),
            Output::Text => self.text(),
        }
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for (title, compared) in [
            (format!("drain of {} readings, window {}", self.readings, self.window), &self.drain),
            (format!("live, {} readings a second", self.live_rate), &self.live),
        ] {
            writeln!(text, "{title}, {} runs: median (least - most)", self.runs.len())?;
            let mut row = |name: &str, spread: Spread, digits: usize| {
                let Spread { median, least, most } = spread;
                writeln!(text, "  {name:<38} {median:>12.digits$} ({least:.digits$} - {most:.digits$})")
            };
            row("sluice, readings per CPU-second", compared.sluice_readings_per_cpu_second, 0)?;
            row(&format!("{}, readings per CPU-second", self.peer), compared.peer_readings_per_cpu_second, 0)?;
            row("ratio", compared.ratio, 1)?;
            row("sluice, seconds", compared.sluice_seconds, 2)?;
            row(&format!("{}, seconds", self.peer), compared.peer_seconds, 2)?;
        }
        let worst = |of: fn(&Pair) -> &Round| {
            self.runs.iter().map(of).fold((0, 0, 0.0_f64), |(lost, duplicated, p99), round| {
                (
                    lost + round.drain.lost + round.live.lost,
                    duplicated + round.drain.duplicated + round.live.duplicated,
                    p99.max(round.live.p99_ms),
                )
            })
        };
        for (name, (lost, duplicated, p99)) in
            [("sluice", worst(|pair| &pair.sluice)), (self.peer.as_str(), worst(|pair| &pair.peer))]
        {
            writeln!(text, "{name}: lost {lost}, duplicated {duplicated}, p99 of the live work at most {p99:.1} ms")?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(figure: f64) -> Round {
        let work = Work {
            readings_per_cpu_second: figure,
            seconds: 1.0,
            cpu_seconds: 1.0,
            lost: 0,
            duplicated: 0,
            p50_ms: 1.0,
            p99_ms: 2.0,
        };
        Round { drain: work.clone(), live: work }
    }

    #[test]
    fn ratios_are_of_one_run() -> anyhow::Result<()> {
        let pair = |sluice, peer| Pair { sluice: round(sluice), peer: round(peer) };
        let args = CompareArgs {
            peer: String::new(),
            peer_name: "x".to_owned(),
            readings: 1,
            live_rate: 1,
            live_duration: Duration::ZERO,
            runs: 3,
            window: 1,
            kafka: Vec::new(),
            sluice: None,
            output: Output::Text,
        };
        let report = Report::of(&args, vec![pair(100.0, 10.0), pair(300.0, 10.0), pair(50.0, 25.0)]);
        let report = report.ok_or_else(|| anyhow::anyhow!("three runs"))?;
        assert_eq!(report.drain.ratio, Spread { median: 10.0, least: 2.0, most: 30.0 });
        assert!(report.render(Output::Text)?.contains("x, readings per CPU-second"));
        assert!(Report::of(&args, Vec::new()).is_none());
        Ok(())
    }
}
