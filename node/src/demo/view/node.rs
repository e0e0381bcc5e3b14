//! The part of the view that shows one node: its shards, its ledger.

use ratatui::{
    layout::Constraint,
    style::{Color, Style, Stylize as _},
    text::Line,
    widgets::{Block, Cell, Paragraph, Row, Table},
};

use crate::{
    demo::snapshot::{Ledger, Shard},
    registry::State,
};

/// A row a shard.
pub(super) fn shard_table(shards: &[Shard]) -> Table<'static> {
    let header = Row::new(["shard", "state", "received", "delivered", "in flight", "acked", "oldest", ""]).bold();
    let rows = shards.iter().map(|shard| {
        Row::new([
            Cell::from(shard.name.clone()),
            Cell::from(shard.state.to_string()).style(Style::new().fg(colour(shard.state))),
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

/// The ledger of all shards.
pub(super) fn ledger_lines(shards: &[Shard]) -> Paragraph<'static> {
    let ledger = Ledger::of(shards);
    let sum = format!(
        "received {} = delivered {} + dead-lettered {} + returned {} + in flight {} + unaccounted {}",
        ledger.received, ledger.delivered, ledger.dead_lettered, ledger.returned, ledger.in_flight, ledger.unaccounted
    );
    let unacked = format!("acknowledged to the MQTT broker {}", ledger.acked);
    Paragraph::new(vec![Line::from(sum), Line::from(unacked)]).block(Block::bordered().title(" ledger of the node "))
}

/// How well a task in this state is.
pub(super) fn colour(state: State) -> Color {
    match state {
        State::Running => Color::Green,
        State::Connecting | State::BackPressure | State::Draining => Color::Yellow,
        State::Failed => Color::Red,
        State::Stopped | State::Retired => Color::DarkGray,
    }
}
