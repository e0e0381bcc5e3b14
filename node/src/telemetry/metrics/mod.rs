//! `/metrics`: the node's meters in the `OpenMetrics` text format, read at the moment of the scrape.
//!
//! Nothing is counted twice: the collectors keep no numbers of their own.

mod node;
mod process;
mod tasks;

use std::{fmt, sync::Arc};

use prometheus_client::{encoding::text, metrics::info::Info};

use crate::registry::Registry;
pub use node::{Meters, NodeMeters};

/// Content type of [`Metrics::scrape`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that a scrape shows.
pub struct Metrics(prometheus_client::registry::Registry);

impl Metrics {
    /// Shows the node, its tasks, the build and the process.
    pub fn new(tasks: Arc<Registry>, node: Arc<dyn Meters>) -> Self {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("sluice_build", "The build that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(process::Process::default()));
        registry.register_collector(Box::new(node::Node(node)));
        registry.register_collector(Box::new(tasks::Tasks(tasks)));
        Self(registry)
    }

    /// The metrics as they are now, as text of [`CONTENT_TYPE`].
    pub fn scrape(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
