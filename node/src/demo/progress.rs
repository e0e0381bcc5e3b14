//! Shows how the demo goes: a live view on a terminal, a line a second on standard error elsewhere.

use std::{io, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use super::{nodes::Order, snapshot::Snapshot, view::View};

/// What the operator wants after having seen a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    GoOn,
    /// In order.
    End,
    /// At once.
    Interrupt,
    Do(Order),
}

/// Where progress is shown. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) enum Progress {
    Live { terminal: DefaultTerminal, view: Box<View> },
    Lines { last: Duration, delivered: u64 },
}

impl Progress {
    /// Takes the terminal if `is_live`. The sensors publish for `duration`.
    pub(super) fn new(is_live: bool, duration: Option<Duration>) -> io::Result<Self> {
        if is_live {
            return Ok(Self::Live { terminal: ratatui::try_init()?, view: Box::new(View::new(duration)) });
        }
        Ok(Self::Lines { last: Duration::ZERO, delivered: 0 })
    }

    /// Says a sentence.
    pub(super) fn say(&mut self, sentence: &str) {
        match self {
            Self::Live { view, .. } => view.notice = sentence.to_owned(),
            Self::Lines { .. } => eprintln!("demo: {sentence}"),
        }
    }

    /// Tells what has happened.
    pub(super) fn tell(&mut self, elapsed: Duration, sentence: &str) {
        match self {
            Self::Live { view, .. } => view.tell(elapsed, sentence),
            Self::Lines { .. } => eprintln!("{:>6.1}s  {sentence}", elapsed.as_secs_f64()),
        }
    }

    /// Shows a moment.
    pub(super) fn show(&mut self, snapshot: &Snapshot) -> io::Result<Wish> {
        match self {
            Self::Live { terminal, view } => {
                view.add(snapshot);
                terminal.draw(|frame| view.draw(frame))?;
                wish(view)
            }
            Self::Lines { last, delivered } => {
                let since = snapshot.elapsed.saturating_sub(*last);
                if since >= Duration::from_secs(1) {
                    eprintln!("{}", line(snapshot, snapshot.totals.delivered - *delivered, since));
                    (*last, *delivered) = (snapshot.elapsed, snapshot.totals.delivered);
                }
                Ok(Wish::GoOn)
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Live { .. } = self {
            ratatui::restore();
        }
    }
}

/// In raw mode Ctrl-C is a key like any other.
fn wish(view: &mut View) -> io::Result<Wish> {
    while event::poll(Duration::ZERO)? {
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        let wish = match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Interrupt,
            KeyCode::Char('q') | KeyCode::Esc => Wish::End,
            code => view.press(code).map_or(Wish::GoOn, Wish::Do),
        };
        if wish != Wish::GoOn {
            return Ok(wish);
        }
    }
    Ok(Wish::GoOn)
}

#[expect(clippy::cast_precision_loss, reason = "a count of a second or so")]
fn line(snapshot: &Snapshot, delivered: u64, since: Duration) -> String {
    let totals = snapshot.totals;
    format!(
        "{:>4}s  published {:>9}  delivered {:>9}  {:>7.0}/s  on their way {:>6}  p99 {:.1} ms",
        snapshot.elapsed.as_secs(),
        totals.published,
        totals.delivered,
        delivered as f64 / since.as_secs_f64(),
        totals.published - totals.delivered,
        snapshot.latency.p99_ms,
    )
}
