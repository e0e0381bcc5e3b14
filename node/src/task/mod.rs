//! Life of the shards that run here, and the supervisor that reconciles desired with running.
