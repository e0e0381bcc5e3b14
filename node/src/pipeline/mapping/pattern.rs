//! A `match:` pattern: an MQTT filter whose wildcards capture, and may have names.

use super::{Filter, PatternError, matcher::check_name};

/// Levels to match, in order.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    levels: Vec<Level>,
    starts_wild: bool,
    names: Vec<Option<Box<str>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Literal(Box<str>),
    /// `+` or `{name}`: one level, which may be empty.
    One,
    /// `#` or `{name#}`: all levels that are left, and also none.
    Rest,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut pattern = Self { levels: Vec::new(), starts_wild: false, names: Vec::new() };
        let mut texts = text.split('/').peekable();
        while let Some(text) = texts.next() {
            let (level, name) = parse_level(text)?;
            if level == Level::Rest && texts.peek().is_some() {
                return Err(PatternError::RestNotLast(text.to_owned()));
            }
            if !matches!(level, Level::Literal(_)) {
                if let Some(name) = name {
                    check_name(name, &pattern.names)?;
                }
                pattern.names.push(name.map(Into::into));
            }
            pattern.levels.push(level);
        }
        pattern.starts_wild = !matches!(pattern.levels.first(), Some(Level::Literal(_)));
        Ok(pattern)
    }

    /// The captures in the order of their numbers.
    pub(super) fn names(&self) -> &[Option<Box<str>>] {
        &self.names
    }

    /// Whether the pattern matches; if so, `captures` holds what each wildcard stands for.
    pub(super) fn capture<'t>(&self, topic: &'t str, captures: &mut [&'t str]) -> bool {
        // [MQTT-4.7.2-1] A leading wildcard does not match topics that start with `$`.
        if self.starts_wild && topic.starts_with('$') {
            return false;
        }
        let mut captures = captures.iter_mut();
        let mut set = |text| {
            if let Some(capture) = captures.next() {
                *capture = text;
            }
        };
        let mut left = Some(topic);
        for level in &self.levels {
            if *level == Level::Rest {
                set(left.unwrap_or(""));
                return true;
            }
            let Some(text) = left else { return false };
            let (head, tail) = text.split_once('/').map_or((text, None), |(head, tail)| (head, Some(tail)));
            match level {
                Level::Literal(literal) if **literal != *head => return false,
                Level::One => set(head),
                Level::Literal(_) | Level::Rest => {}
            }
            left = tail;
        }
        left.is_none()
    }

    /// Whether the pattern matches every topic that `filter` matches.
    pub(super) fn covers(&self, filter: &Filter) -> bool {
        // A topic has at least one level, so `#` asks for exactly what `+/#` asks for.
        let mut wanted: Vec<&str> = filter.levels().collect();
        if wanted == ["#"] {
            wanted.insert(0, "+");
        }
        if self.starts_wild && filter.as_str().starts_with('$') {
            return false; // [MQTT-4.7.2-1]
        }
        let mut wanted = wanted.into_iter();
        for level in &self.levels {
            match (level, wanted.next()) {
                (Level::Rest, _) => return true,
                (Level::One, Some(wanted)) if wanted != "#" => {}
                (Level::Literal(literal), Some(wanted)) if **literal == *wanted => {}
                _ => return false,
            }
        }
        wanted.next().is_none()
    }
}

fn parse_level(text: &str) -> Result<(Level, Option<&str>), PatternError> {
    match text {
        "+" => return Ok((Level::One, None)),
        "#" => return Ok((Level::Rest, None)),
        _ => {}
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return Ok(match name.strip_suffix('#') {
            Some(name) => (Level::Rest, Some(name)),
            None => (Level::One, Some(name)),
        });
    }
    if text.contains(['+', '#', '{', '}']) {
        return Err(PatternError::PartOfLevel(text.to_owned()));
    }
    if text.contains('\0') {
        return Err(PatternError::Null);
    }
    Ok((Level::Literal(text.into()), None))
}
