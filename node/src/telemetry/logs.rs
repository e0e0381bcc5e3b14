//! Log lines on stderr, as text for people or as JSON for collectors. Standard output stays free for data.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("log filter {filter:?} is not usable: {reason}; give for example \"info\" or \"info,sluice_node=debug\"")]
    Filter {
        /// As given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// Something else in this process took the logs first.
    #[error("logs are started already")]
    Started,
}

/// Starts logs for the whole process; `filter` as in `info,sluice_node::task=debug`.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let env = parse(filter)?;
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(env);
    let started = match format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).finish().try_init(),
    };
    started.map_err(|_| Error::Started)
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(filter).map_err(|reason| Error::Filter { filter: filter.to_owned(), reason: reason.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_refused_by_name() {
        assert!(parse("info,sluice_node::task=debug").is_ok());
        let refused = parse("sluice=loud").map(|_| ()).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|said| said.contains("sluice=loud") && said.contains("for example")));
    }
}
