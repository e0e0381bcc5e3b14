//! The live view: rate, latency, shards, ledger.

use std::{collections::VecDeque, time::Duration};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Cell, Paragraph, Row, Sparkline, Table},
};

use super::{snapshot::Snapshot, tally::Totals};
use crate::registry::State;

/// Moments kept for the rate's curve and its average: a quarter minute, more columns than most terminals have.
const MOMENTS_MAX: usize = 150;
/// Moments that the shown rate is averaged over: a second.
const RATE_MOMENTS: usize = 10;

/// What the view remembers between moments.
#[derive(Debug)]
pub(super) struct View {
    duration: Option<Duration>,
    moments: VecDeque<(Duration, Totals)>,
    latest: Option<Snapshot>,
    /// A sentence in the last line.
    pub(super) notice: String,
}

impl View {
    /// Nothing seen yet; the sensors publish for `duration`.
    pub(super) fn new(duration: Option<Duration>) -> Self {
        Self { duration, moments: VecDeque::new(), latest: None, notice: "q or Ctrl-C ends gracefully".to_owned() }
    }

    /// Remembers a moment.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        if self.moments.len() == MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back((snapshot.elapsed, snapshot.totals));
        self.latest = Some(snapshot.clone());
    }

    /// Draws what is remembered.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some(snapshot) = &self.latest else { return };
        let shards = u16::try_from(snapshot.shards.len()).unwrap_or(u16::MAX).saturating_add(3);
        let [head, flow, rate, table, ledger, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Max(shards),
            Constraint::Length(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.title(snapshot), head);
        frame.render_widget(self.totals(snapshot), flow);
        frame.render_widget(self.curve(rate), rate);
        frame.render_widget(shard_table(snapshot), table);
        frame.render_widget(ledger_lines(snapshot), ledger);
        frame.render_widget(Line::from(self.notice.as_str()).dim(), foot);
    }

    fn title(&self, snapshot: &Snapshot) -> Line<'static> {
        let elapsed = snapshot.elapsed.as_secs();
        let time =
            self.duration.map_or_else(|| format!("{elapsed}s"), |end| format!("{elapsed}s of {}s", end.as_secs()));
        Line::from(vec![
            "Sluice demo".bold(),
            format!("  {time}  ").into(),
            "embedded broker and mock Kafka: nothing is kept".dim(),
        ])
    }

    fn totals(&self, snapshot: &Snapshot) -> Paragraph<'static> {
        let (totals, rate) = (snapshot.totals, self.rates().next_back().unwrap_or_default());
        let number = |name: &'static str, value: u64, style: Style| {
            vec![Span::from(format!("{name:<11}")), Span::styled(format!("{value:>12}"), style)]
        };
        let mut published = number("published", totals.published, Style::new().bold());
        published.push("   by the sensors".dim());
        let mut delivered = number("delivered", totals.delivered, Style::new().fg(Color::Green).bold());
        delivered.push(format!("   seen in Kafka, {rate}/s").dim());
        let mut way = number("on the way", totals.published - totals.delivered, Style::new());
        let latency = snapshot.latency;
        way.push(format!("   latency p50 {:.1} ms, p99 {:.1} ms", latency.p50_ms, latency.p99_ms).dim());
        let bad = |count| if count > 0 { Style::new().fg(Color::Yellow) } else { Style::new() };
        let mut duplicated = number("duplicated", totals.duplicated, bad(totals.duplicated));
        duplicated.push("   lost is known at the end, when nothing is on its way".dim());
        let lines = [published, delivered, way, duplicated].map(Line::from);
        Paragraph::new(lines.to_vec()).block(Block::bordered().title(" readings "))
    }

    fn curve(&self, area: Rect) -> Sparkline<'static> {
        let columns = usize::from(area.width.saturating_sub(2));
        let rates: Vec<_> = self.rates().collect();
        let shown = rates[rates.len().saturating_sub(columns)..].to_vec();
        Sparkline::default()
            .data(shown)
            .style(Style::new().fg(Color::Cyan))
            .block(Block::bordered().title(" delivered a second "))
    }

    /// Delivered a second at each remembered moment, averaged over the second before it.
    fn rates(&self) -> impl DoubleEndedIterator<Item = u64> {
        (1..self.moments.len()).map(|index| {
            let (from, before) = self.moments[index.saturating_sub(RATE_MOMENTS)];
            let (to, after) = self.moments[index];
            let millis = u64::try_from((to.saturating_sub(from)).as_millis()).unwrap_or(u64::MAX).max(1);
            (after.delivered - before.delivered) * 1_000 / millis
        })
    }
}

fn shard_table(snapshot: &Snapshot) -> Table<'static> {
    let header = Row::new(["shard", "state", "received", "delivered", "in flight", "acked", "oldest", ""]).bold();
    let rows = snapshot.shards.iter().map(|shard| {
        let colour = match shard.state {
            State::Running => Color::Green,
            State::Connecting | State::BackPressure | State::Draining => Color::Yellow,
            State::Failed => Color::Red,
            State::Stopped | State::Retired => Color::DarkGray,
        };
        Row::new([
            Cell::from(shard.name.clone()),
            Cell::from(shard.state.to_string()).style(Style::new().fg(colour)),
            Cell::from(shard.ledger.received.to_string()),
            Cell::from(shard.ledger.delivered.to_string()),
            Cell::from(shard.ledger.in_flight.to_string()),
            Cell::from(shard.ledger.acked.to_string()),
            Cell::from(format!("{} ms", shard.oldest_unacked_ms)),
            Cell::from(shard.message.clone()),
        ])
    });
    let widths = [10, 13, 11, 11, 10, 11, 9].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    Table::new(rows, widths).header(header).block(Block::bordered().title(" shards, as the node shows them "))
}

fn ledger_lines(snapshot: &Snapshot) -> Paragraph<'static> {
    let ledger = snapshot.ledger();
    let sum = format!(
        "received {} = delivered {} + dead-lettered {} + returned {} + in flight {} + unaccounted {}",
        ledger.received, ledger.delivered, ledger.dead_lettered, ledger.returned, ledger.in_flight, ledger.unaccounted
    );
    let unacked = format!("acknowledged to the MQTT broker {}", ledger.acked);
    Paragraph::new(vec![Line::from(sum), Line::from(unacked)]).block(Block::bordered().title(" ledger of the node "))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::demo::{
        snapshot::{Ledger, Shard},
        tally::Latency,
    };

    fn moment(seconds: u64) -> Snapshot {
        let ledger = Ledger {
            received: 1_000 * seconds,
            delivered: 990 * seconds,
            in_flight: 10 * seconds,
            ..Ledger::default()
        };
        Snapshot {
            elapsed: Duration::from_secs(seconds),
            totals: Totals { published: 1_010 * seconds, delivered: 980 * seconds, ..Totals::default() },
            latency: Latency { p50_ms: 8.5, p99_ms: 21.0 },
            shards: vec![Shard {
                name: "demo/0".to_owned(),
                state: State::BackPressure,
                message: String::new(),
                ledger,
                oldest_unacked_ms: 12,
            }],
        }
    }

    #[test]
    fn a_moment_is_drawn_with_rate_latency_shards_and_ledger() -> anyhow::Result<()> {
        let mut view = View::new(Some(Duration::from_secs(15)));
        let mut terminal = Terminal::new(TestBackend::new(110, 26))?;
        for seconds in 1..=3 {
            view.add(&moment(seconds));
            terminal.draw(|frame| view.draw(frame))?;
        }
        let screen = terminal.backend().to_string();
        for shown in [
            "3s of 15s",
            "2940   seen in Kafka, 980/s",
            "latency p50 8.5 ms, p99 21.0 ms",
            "demo/0",
            "back-pressure",
            "received 3000 = delivered 2970 + dead-lettered 0 + returned 0 + in flight 30 + unaccounted 0",
            "q or Ctrl-C ends gracefully",
        ] {
            assert!(screen.contains(shown), "{shown}\n{screen}");
        }
        Ok(())
    }

    #[test]
    fn a_tiny_terminal_is_survived() -> anyhow::Result<()> {
        let mut view = View::new(None);
        view.add(&moment(1));
        Terminal::new(TestBackend::new(3, 2))?.draw(|frame| view.draw(frame))?;
        Ok(())
    }
}
