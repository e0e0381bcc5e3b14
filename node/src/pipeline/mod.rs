//! The path of a reading, in the order it travels: source, mapping, sink, tracker, ack, checkpoint.

pub mod checkpoint;
pub mod mapping;
pub mod sink;
pub mod source;
pub mod tracker;
