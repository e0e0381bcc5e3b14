//! Life of the shards that run here, and the supervisor that reconciles desired with running.

pub mod claim;
pub mod desired;
pub mod lifecycle;
mod prepared;
mod supervisor;
pub mod table;

pub use supervisor::{Config, Supervisor};
