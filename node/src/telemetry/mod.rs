//! What a node shows of itself: logs, `/metrics`, `/healthz`, `/readyz`.
