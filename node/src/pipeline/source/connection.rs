//! Network connection.
