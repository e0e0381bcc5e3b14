//! Configuration, parsed once at the door: raw documents that refuse unknown keys, then checked types.
