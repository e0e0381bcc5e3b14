//! The command line: a noun, then a verb.
