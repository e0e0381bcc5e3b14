//! What a rule matches: a pattern over levels, or a regular expression.

use regex::{Regex, RegexBuilder};

use super::{Filter, pattern::Pattern};

/// Most captures in one rule: what a topic of sensible depth needs, and few enough to keep on the stack.
pub const CAPTURES_MAX: usize = 32;

/// Largest compiled regex, and largest cache of its automaton: manifests come in over the network, and each may have many.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The condition of a rule, and what it captures.
///
/// Captures are numbered from 1 in the order they appear (`+` and `#` count too) and may have names. What a group of a
/// regex that took no part in the match captures, and `#` on the parent level (`a/#` on `a`), is empty.
#[derive(Debug, Clone)]
pub struct Matcher {
    text: Box<str>,
    kind: Kind,
    names: Vec<Option<Box<str>>>,
}

#[derive(Debug, Clone)]
enum Kind {
    Levels(Pattern),
    Regex(Regex),
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing to match.
    #[error("a pattern cannot be empty; `#` matches every topic that does not start with `$`")]
    Empty,
    /// No MQTT topic contains it [MQTT-4.7.3-2].
    #[error("a pattern cannot contain the null character")]
    Null,
    /// A wildcard that does not fill its level.
    #[error("`+`, `#` and {{name}} must each fill a whole level, unlike in {0:?}; use `regex:` for parts of a level")]
    PartOfLevel(String),
    /// A wildcard for the rest before the last level.
    #[error("{0:?} matches all levels that are left, so it must be the last level")]
    RestNotLast(String),
    /// A name that templates could not say.
    #[error("{0:?} is not a capture name: give letters, digits and `_`, not starting with a digit, as in {{zone}}")]
    Name(String),
    /// `{topic}` means the whole MQTT topic.
    #[error("{{topic}} is the whole MQTT topic; give the capture another name")]
    Reserved,
    /// Two captures of one name.
    #[error("the capture {{{0}}} appears twice; give each its own name")]
    Twice(String),
    /// More captures than a rule may have.
    #[error("a rule has at most {CAPTURES_MAX} captures, this one has {0}")]
    TooMany(usize),
    /// The regular expression's own error.
    #[error("not a regular expression: {0}")]
    Regex(String),
}

impl Matcher {
    /// A pattern over levels, as after `match:`.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
    pub fn levels(text: &str) -> Result<Self, PatternError> {
        let pattern = Pattern::parse(text)?;
        let names = pattern.names().to_vec();
        Self { text: text.into(), kind: Kind::Levels(pattern), names }.bounded()
    }

    /// A regular expression on the whole MQTT topic, as after `regex:`.
    ///
    /// # Errors
    /// Says what is wrong with the expression.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        // Compiled alone first, so that its errors point into the user's text and `a)|(b` cannot escape the anchors.
        let compile = |text: &str| {
            let regex = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
            regex.map_err(|error| PatternError::Regex(one_line(&error)))
        };
        compile(text)?;
        let regex = compile(&format!(r"\A(?:{text})\z"))?;
        let mut names = Vec::new();
        for name in regex.capture_names().skip(1) {
            if let Some(name) = name {
                check_name(name, &names)?;
            }
            names.push(name.map(Into::into));
        }
        Self { text: text.into(), kind: Kind::Regex(regex), names }.bounded()
    }

    /// Whether it matches; if so, `captures[i]` is what capture `i + 1` stands for. Other elements are left as they are.
    pub fn capture<'t>(&self, topic: &'t str, captures: &mut [&'t str; CAPTURES_MAX]) -> bool {
        match &self.kind {
            Kind::Levels(pattern) => pattern.capture(topic, captures),
            Kind::Regex(regex) if self.names.is_empty() => regex.is_match(topic),
            Kind::Regex(regex) => regex.captures(topic).is_some_and(|groups| {
                for (capture, group) in captures.iter_mut().zip(groups.iter().skip(1)) {
                    *capture = group.map_or("", |group| group.as_str());
                }
                true
            }),
        }
    }

    /// Whether it is proven to match every topic that `filter` matches.
    pub fn covers(&self, filter: &Filter) -> bool {
        match &self.kind {
            Kind::Levels(pattern) => pattern.covers(filter),
            Kind::Regex(_) => false,
        }
    }

    /// The captures in the order of their numbers, with their names.
    pub fn names(&self) -> &[Option<Box<str>>] {
        &self.names
    }

    /// The pattern as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a regular expression.
    pub fn is_regex(&self) -> bool {
        matches!(self.kind, Kind::Regex(_))
    }

    fn bounded(self) -> Result<Self, PatternError> {
        if self.names.len() > CAPTURES_MAX { Err(PatternError::TooMany(self.names.len())) } else { Ok(self) }
    }
}

/// Refuses capture names that a template could not say or would understand otherwise.
pub(super) fn check_name(name: &str, earlier: &[Option<Box<str>>]) -> Result<(), PatternError> {
    let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !is_word || name.starts_with(|c: char| c.is_numeric()) {
        return Err(PatternError::Name(name.to_owned()));
    }
    if name == "topic" {
        return Err(PatternError::Reserved);
    }
    if earlier.iter().flatten().any(|other| **other == *name) {
        return Err(PatternError::Twice(name.to_owned()));
    }
    Ok(())
}

/// The regex crate draws a picture over several lines; its last line is the reason.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
