//! Behaviour tests: real processes, real brokers. `tests/README.md` says how to run one.

mod bad_bridge;
mod bad_input;
mod broken_connection;
mod crashes;
mod delivery;
mod demo;
mod harness;
mod instructions;
mod loadtest;
mod memory;
mod poison;
mod qos2_scripted;
mod reflection;
mod resize;
mod restart;
mod security;
mod tidy;
