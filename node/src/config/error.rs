//! What is wrong with a configuration: where, under which key, and what to do about it.

use std::{cell::RefCell, fmt};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// File and line (`pipelines/a.yaml:7`), environment variable or flag.
    pub place: String,
    /// The key's path (`source.mqtt.topics[1]`); empty where the whole document is meant.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong, one line each, in the order it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// A single error about a whole file or directory.
    pub(crate) fn whole(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![ConfigError { place: place.into(), key: String::new(), message: message.into() }])
    }

    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors while a document is read, so that all of them are told at once.
#[derive(Debug, Default)]
pub(super) struct Report(RefCell<Vec<ConfigError>>);

impl Report {
    pub(super) fn add(&self, at: &At, message: impl Into<String>) {
        let error = ConfigError { place: at.place.clone(), key: at.key.clone(), message: message.into() };
        self.0.borrow_mut().push(error);
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let found = self.0.into_inner();
        match value {
            Some(value) if found.is_empty() => Ok(value),
            _ => {
                debug_assert!(!found.is_empty(), "whoever gives no value says why");
                Err(ConfigErrors(found))
            }
        }
    }
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) place: String,
    pub(super) key: String,
}

impl At {
    pub(super) fn below(&self, place: String, key: &str) -> Self {
        let dot = if self.key.is_empty() { "" } else { "." };
        Self { place, key: format!("{}{dot}{key}", self.key) }
    }
}
