//! How an answer is printed: a table for people, JSON or YAML for programs.
//!
//! JSON and YAML come from the same types, whose field names are part of the interface: they are only ever added to.

use std::io::{self, Write as _};

use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;

use super::Failure;

/// A format of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// Columns for people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// What can be shown as the rows of a table.
pub(super) trait Rows: Serialize {
    /// Column titles.
    const HEADER: &'static [&'static str];
    /// One row a thing.
    fn rows(&self) -> Vec<Vec<String>>;
}

/// Prints an answer to standard output.
pub(super) fn print<T: Rows>(answer: &T, output: Output) -> Result<(), Failure> {
    write_line(&match output {
        Output::Table => table(T::HEADER, answer.rows()),
        Output::Json => json(answer)?,
        Output::Yaml => yaml(answer)?,
    })
}

/// The answer as one line of JSON.
pub(super) fn json<T: Serialize>(answer: &T) -> Result<String, Failure> {
    serde_json::to_string(answer).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}

/// The answer as a YAML document, without its last line break.
pub(super) fn yaml<T: Serialize>(answer: &T) -> Result<String, Failure> {
    let text =
        serde_saphyr::to_string(answer).map_err(|error| Failure::failed(format!("cannot write YAML: {error}")))?;
    Ok(text.trim_end().to_owned())
}

/// Columns under titles, without frames, so that lines can be cut and searched.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(Cell::new));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Writes `text` and a line break to standard output. A reader that has gone away (`| head`) is not a failure.
pub fn write_line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_columns_without_frames() {
        let rows = vec![vec!["readings".to_owned(), "running".to_owned()], vec!["x".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "STATE"], rows), "NAME      STATE\nreadings  running\nx");
    }
}
