//! What happened, line by line, for a run that is played again because it failed.

use std::{collections::VecDeque, fmt::Arguments};

use crate::setup::Ms;

#[derive(Debug)]
pub(crate) struct Trace {
    /// So many of the last lines are kept; with 0 nothing is put into words.
    lines_max: usize,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(lines_max: usize) -> Self {
        Self { lines_max, lines: VecDeque::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.lines_max > 0
    }

    pub(crate) fn say(&mut self, now: Ms, what: Arguments<'_>) {
        if !self.is_on() {
            return;
        }
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{now:>7} ms  {what}"));
    }

    pub(crate) fn tail(&self) -> String {
        self.lines.iter().fold(String::new(), |all, line| all + line + "\n")
    }
}
