//! What a node shows of itself: logs, `/metrics`, `/healthz`, `/readyz`.

pub mod http;
pub mod logs;
pub mod metrics;
