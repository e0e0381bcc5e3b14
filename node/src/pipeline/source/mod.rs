//! Readings in from MQTT: the connection carries bytes, the session decides what they mean, back-off says when to try again.
//!
//! The session is pure: bytes in, events and bytes out, time as an argument. The lane drives it.

pub mod backoff;
pub mod connection;
pub mod server;
pub mod session;
