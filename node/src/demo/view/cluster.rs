//! The part of the view that shows a cluster: its nodes, which of them has which shard, what has happened.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Cell, Paragraph, Row, Table},
};

use super::{View, node};
use crate::demo::{
    cluster::{Face, Node, NodeState, Shard, ShardState},
    snapshot::Snapshot,
};

/// Every node keeps its colour, so that the eye follows a shard from one to another; green, yellow and red mean how well something is.
const COLOURS: [Color; 9] = [
    Color::Cyan,
    Color::Magenta,
    Color::Blue,
    Color::LightCyan,
    Color::LightMagenta,
    Color::LightBlue,
    Color::White,
    Color::Gray,
    Color::LightGreen,
];
/// Columns of the totals; the curve has the rest of the line.
const TOTALS_COLUMNS: u16 = 70;
/// Cells of a bar that shows a node's share of all readings.
const BAR_CELLS: u64 = 24;
/// Lines of news at least, the frame included.
const NEWS_LINES: u16 = 6;

impl View {
    pub(super) fn draw_cluster(&self, frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, face: &Face) {
        let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(3);
        let [top, nodes, shards, news] = Layout::vertical([
            Constraint::Length(6),
            Constraint::Length(rows(face.nodes.len())),
            Constraint::Max(rows(face.shards.len())),
            Constraint::Min(NEWS_LINES),
        ])
        .areas(area);
        let [totals, curve] = Layout::horizontal([Constraint::Length(TOTALS_COLUMNS), Constraint::Fill(1)]).areas(top);
        frame.render_widget(self.totals(snapshot), totals);
        frame.render_widget(self.curve(curve), curve);
        frame.render_widget(node_table(face, self.selected), nodes);
        frame.render_widget(shard_table(face), shards);
        frame.render_widget(self.told(news), news);
    }

    /// As many of the last sentences as there is room for.
    fn told(&self, area: Rect) -> Paragraph<'_> {
        let room = usize::from(area.height.saturating_sub(2));
        let latest = self.news.iter().skip(self.news.len().saturating_sub(room));
        let lines: Vec<_> = latest.map(|(elapsed, sentence)| told_line(*elapsed, sentence)).collect();
        Paragraph::new(lines).block(Block::bordered().title(" what has happened "))
    }
}

fn told_line(elapsed: Duration, sentence: &str) -> Line<'_> {
    Line::from(vec![format!("{:>6.1} s  ", elapsed.as_secs_f64()).dim(), sentence.into()])
}

fn node_table(face: &Face, selected: usize) -> Table<'static> {
    let header = Row::new(["", "node", "state", "shards", "a second", ""]).bold();
    let all: u64 = face.nodes.iter().map(|node| node.rate).sum();
    let rows = face.nodes.iter().enumerate().map(|(index, node)| {
        let marker = if index == selected { "▸" } else { " " };
        let name = Style::new().fg(colour(index));
        let name = if index == selected { name.bold() } else { name };
        Row::new([
            Cell::from(format!("{marker} {index}")),
            Cell::from(node.name.clone()).style(name),
            Cell::from(node.state.as_str()).style(Style::new().fg(node_colour(node.state))),
            Cell::from(shards_of(node)),
            Cell::from(format!("{:>8}", node.rate)),
            Cell::from(Span::styled(bar(node.rate, all), Style::new().fg(colour(index)))),
        ])
    });
    let widths = [4, 12, 10, 22, 10].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    Table::new(rows, widths).header(header).block(Block::bordered().title(" nodes, each a process of its own "))
}

fn shard_table(face: &Face) -> Table<'static> {
    let header = Row::new(["shard", "node", "epoch", "state", "a second", ""]).bold();
    let name = |node: usize| face.nodes.get(node).map_or("", |node| node.name.as_str());
    let rows = face.shards.iter().map(|shard| {
        let (word, state) = shard_state(shard);
        Row::new([
            Cell::from(shard.name.clone()),
            Cell::from(owner(shard, name)),
            Cell::from(format!("{:>5}", shard.epoch)),
            Cell::from(word).style(Style::new().fg(state)),
            Cell::from(format!("{:>8}", shard.rate)),
            Cell::from(shard.message.clone()),
        ])
    });
    let widths = [10, 22, 7, 13, 10].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    Table::new(rows, widths).header(header).block(Block::bordered().title(" shards, as the nodes show them "))
}

fn owner<'f>(shard: &Shard, name: impl Fn(usize) -> &'f str) -> Line<'static> {
    let named = |node: usize| Span::styled(name(node).to_owned(), Style::new().fg(colour(node)));
    let mut spans = Vec::new();
    spans.push(shard.node.map_or_else(|| "nobody".dim(), named));
    if let Some(to) = shard.to {
        spans.extend([" → ".dim(), named(to)]);
    }
    Line::from(spans)
}

fn shards_of(node: &Node) -> String {
    let mut words = node.shards.to_string();
    for (count, word) in [(node.leaving, "leaving"), (node.coming, "coming")] {
        if count > 0 {
            words.push_str(&format!(", {count} {word}"));
        }
    }
    words
}

fn bar(rate: u64, all: u64) -> String {
    let cells = if all == 0 { 0 } else { (rate * BAR_CELLS).div_ceil(all) };
    "━".repeat(usize::try_from(cells).unwrap_or_default())
}

fn shard_state(shard: &Shard) -> (String, Color) {
    match shard.state {
        ShardState::Waiting => ("waiting".to_owned(), Color::Red),
        ShardState::Starting => ("starting".to_owned(), Color::Yellow),
        ShardState::Task(state) => (state.to_string(), node::colour(state)),
    }
}

fn node_colour(state: NodeState) -> Color {
    match state {
        NodeState::Leader | NodeState::Follower => Color::Green,
        NodeState::Joining | NodeState::Stopping => Color::Yellow,
        NodeState::Dead => Color::Red,
    }
}

fn colour(node: usize) -> Color {
    COLOURS[node % COLOURS.len()]
}
