//! Life of the shards that run here, and the supervisor that reconciles desired with running.

mod desired;
mod lifecycle;
mod prepared;
mod supervisor;

pub use supervisor::{Config, Supervisor};
