//! The live view: rate, latency, and below them the one node or the cluster.

mod cluster;
mod node;

use std::{collections::VecDeque, time::Duration};

use ratatui::{
    Frame,
    crossterm::event::KeyCode,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Paragraph, Sparkline},
};

use super::{
    nodes::Order,
    snapshot::{Carriers, Shard, Snapshot},
    tally::Totals,
};

/// Moments kept for the rate's curve and its average: a quarter minute, more columns than most terminals have.
const MOMENTS_MAX: usize = 150;
/// Moments that the shown rate is averaged over: a second.
const RATE_MOMENTS: usize = 10;

/// Sentences kept: more than a screen shows.
const NEWS_MAX: usize = 100;

/// What the view remembers between moments.
#[derive(Debug)]
pub(super) struct View {
    duration: Option<Duration>,
    moments: VecDeque<(Duration, Totals)>,
    latest: Option<Snapshot>,
    /// What has happened, the latest last.
    news: VecDeque<(Duration, String)>,
    /// Number of the node that keys are for.
    selected: usize,
    /// A sentence in the last line.
    pub(super) notice: String,
}

impl View {
    /// Nothing seen yet; the sensors publish for `duration`.
    pub(super) fn new(duration: Option<Duration>) -> Self {
        Self {
            duration,
            moments: VecDeque::new(),
            latest: None,
            news: VecDeque::new(),
            selected: 0,
            notice: String::new(),
        }
    }

    /// Remembers a moment.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        if self.moments.len() == MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back((snapshot.elapsed, snapshot.totals));
        self.latest = Some(snapshot.clone());
    }

    /// Remembers what has happened.
    pub(super) fn tell(&mut self, elapsed: Duration, sentence: &str) {
        if self.news.len() == NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back((elapsed, sentence.to_owned()));
    }

    /// Takes a key; what it asks for.
    pub(super) fn press(&mut self, key: KeyCode) -> Option<Order> {
        let count = match &self.latest.as_ref()?.carriers {
            Carriers::Cluster(face) => face.nodes.len(),
            Carriers::Node(_) => return None,
        };
        match key {
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected = (self.selected + 1).min(count.saturating_sub(1)),
            KeyCode::Char('k') => return Some(Order::Kill(self.selected)),
            KeyCode::Char('s') => return Some(Order::StartAgain(self.selected)),
            KeyCode::Char(digit) => {
                let number = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                self.selected = number.filter(|number| *number < count).unwrap_or(self.selected);
            }
            _ => {}
        }
        None
    }

    /// Draws what is remembered.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some(snapshot) = &self.latest else { return };
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(self.title(snapshot), head);
        let keys = match &snapshot.carriers {
            Carriers::Node(shards) => {
                self.draw_node(frame, body, snapshot, shards);
                "q or Ctrl-C ends gracefully"
            }
            Carriers::Cluster(face) => {
                self.draw_cluster(frame, body, snapshot, face);
                "↑ ↓ 0–9 select a node   k kill -9   s start again, in order   q quit"
            }
        };
        let notice = if self.notice.is_empty() { keys } else { self.notice.as_str() };
        frame.render_widget(Line::from(notice).dim(), foot);
    }

    fn draw_node(&self, frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, shards: &[Shard]) {
        let rows = u16::try_from(shards.len()).unwrap_or(u16::MAX).saturating_add(3);
        let [flow, rate, table, ledger] = Layout::vertical([
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Max(rows),
            Constraint::Length(4),
        ])
        .areas(area);
        frame.render_widget(self.totals(snapshot), flow);
        frame.render_widget(self.curve(rate), rate);
        frame.render_widget(node::shard_table(shards), table);
        frame.render_widget(node::ledger_lines(shards), ledger);
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
        duplicated.push("   what is lost is known at the end".dim());
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

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::demo::{
        cluster::{Face, Node, NodeState, Shard as ClusterShard, ShardState},
        snapshot::Ledger,
        tally::Latency,
    };
    use crate::registry::State;

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
            carriers: Carriers::Node(vec![Shard {
                name: "demo/0".to_owned(),
                state: State::BackPressure,
                message: String::new(),
                ledger,
                oldest_unacked_ms: 12,
            }]),
        }
    }

    fn cluster_moment() -> Snapshot {
        let node = |index: usize, state, shards, rate| Node {
            name: format!("sluice-{index}"),
            state,
            shards,
            leaving: 0,
            coming: usize::from(index == 2),
            rate,
        };
        let shard = |index: usize, node, to, state| ClusterShard {
            name: format!("demo/{index}"),
            node: Some(node),
            to,
            epoch: 7,
            state,
            rate: 500,
            message: String::new(),
        };
        let face = Face {
            nodes: vec![
                node(0, NodeState::Dead, 1, 0),
                node(1, NodeState::Leader, 2, 1_000),
                node(2, NodeState::Follower, 0, 0),
            ],
            shards: vec![
                shard(0, 0, None, ShardState::Waiting),
                shard(1, 1, Some(2), ShardState::Task(State::Running)),
                shard(2, 1, None, ShardState::Task(State::Running)),
            ],
        };
        Snapshot { carriers: Carriers::Cluster(face), ..moment(3) }
    }

    #[test]
    fn a_cluster_is_drawn_with_its_nodes_shards_and_news() -> anyhow::Result<()> {
        let mut view = View::new(None);
        view.add(&cluster_moment());
        view.tell(Duration::from_millis(2_300), "sluice-0 killed with its shard");
        let mut terminal = Terminal::new(TestBackend::new(120, 40))?;
        terminal.draw(|frame| view.draw(frame))?;
        let screen = terminal.backend().to_string();
        for shown in [
            "sluice-0",
            "dead",
            "leader",
            "follower",
            "demo/1",
            "sluice-1 → sluice-2",
            "waiting",
            "2.3 s  sluice-0 killed",
        ] {
            assert!(screen.contains(shown), "{shown}\n{screen}");
        }
        Ok(())
    }

    #[test]
    fn keys_select_a_node_and_say_what_to_do_with_it() {
        let mut view = View::new(None);
        assert_eq!(view.press(KeyCode::Char('k')), None, "nothing is seen yet");
        view.add(&cluster_moment());
        assert_eq!(view.press(KeyCode::Char('2')), None);
        assert_eq!(view.press(KeyCode::Char('9')), None, "there is none");
        assert_eq!(view.press(KeyCode::Char('k')), Some(Order::Kill(2)));
        view.press(KeyCode::Down);
        view.press(KeyCode::Up);
        assert_eq!(view.press(KeyCode::Char('s')), Some(Order::StartAgain(1)));
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
        for moment in [moment(1), cluster_moment()] {
            view.add(&moment);
            Terminal::new(TestBackend::new(3, 2))?.draw(|frame| view.draw(frame))?;
        }
        Ok(())
    }
}
