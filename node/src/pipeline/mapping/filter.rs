//! MQTT topic filters as a pipeline subscribes them, checked against MQTT 5 § 4.7. Shared prefixes are not part of a filter here.

use std::{fmt, str::FromStr};

/// Longest filter in bytes. MQTT allows 65,535 for the whole string; the share prefix of at most 132 bytes must fit in too.
const FILTER_BYTES_MAX: usize = 65_000;

/// A topic filter that a broker accepts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Box<str>);

/// Why a text is not a topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// [MQTT-4.7.3-1]
    #[error("a topic filter cannot be empty")]
    Empty,
    /// [MQTT-4.7.3-2]
    #[error("a topic filter cannot contain the null character")]
    Null,
    /// [MQTT-4.7.3-3]
    #[error("a topic filter has at most {FILTER_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// [MQTT-4.7.1-1]
    #[error("`#` must be the last level and stand alone in it, as in `factory/#`")]
    Hash,
    /// [MQTT-4.7.1-2]
    #[error("`+` must stand alone in its level, as in `factory/+/reading`")]
    Plus,
    /// The prefix belongs to `share_group`.
    #[error(
        "write the filter without `$share/<group>/`; name the group with `share_group` (default: the pipeline's name)"
    )]
    Shared,
}

impl Filter {
    /// The filter as the broker reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.contains('\0') {
            return Err(FilterError::Null);
        }
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong(text.len()));
        }
        if text == "$share" || text.starts_with("$share/") {
            return Err(FilterError::Shared);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(FilterError::Hash);
            }
            if level.contains('+') && level != "+" {
                return Err(FilterError::Plus);
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_the_specification() {
        for good in ["a", "/", "#", "+", "+/#", "/+", "a//b", "sport/+/player1", "$SYS/#", "é/ /#", "a/b/", "$shared/x"]
        {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", FilterError::Empty),
            ("a\0b", FilterError::Null),
            ("a/#/b", FilterError::Hash),
            ("a#", FilterError::Hash),
            ("a/+b", FilterError::Plus),
            ("++", FilterError::Plus),
            ("$share/g/a", FilterError::Shared),
            ("$share", FilterError::Shared),
        ] {
            assert_eq!(bad.parse::<Filter>(), Err(why), "{bad}");
        }
        assert_eq!("x".repeat(65_001).parse::<Filter>(), Err(FilterError::TooLong(65_001)));
    }
}
