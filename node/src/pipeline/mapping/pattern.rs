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
    ///
    /// By hand over bytes, which is safe because `/` is never part of another character in UTF-8: searching with `str`'s
    /// own methods took several times as long on levels of a few bytes.
    pub(super) fn capture<'t>(&self, topic: &'t str, captures: &mut [&'t str]) -> bool {
        let bytes = topic.as_bytes();
        // [MQTT-4.7.2-1] A leading wildcard does not match topics that start with `$`.
        if self.starts_wild && bytes.first() == Some(&b'$') {
            return false;
        }
        let mut captures = captures.iter_mut();
        // Where the next level starts; one past the end once the last level is used.
        let mut start = 0;
        for level in &self.levels {
            let Some(left) = bytes.get(start..) else {
                return *level == Level::Rest && set(&mut captures, "");
            };
            let length = match level {
                Level::Literal(literal) => {
                    let is_same = left.starts_with(literal.as_bytes());
                    if !is_same || left.get(literal.len()).is_some_and(|byte| *byte != b'/') {
                        return false;
                    }
                    literal.len()
                }
                Level::One => {
                    let length = left.iter().position(|byte| *byte == b'/').unwrap_or(left.len());
                    set(&mut captures, &topic[start..start + length]);
                    length
                }
                Level::Rest => return set(&mut captures, &topic[start..]),
            };
            start += length + 1;
        }
        start == bytes.len() + 1
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

/// Fills the next capture; true, for it is the last thing that a match does.
fn set<'a, 't: 'a>(captures: &mut impl Iterator<Item = &'a mut &'t str>, text: &'t str) -> bool {
    if let Some(capture) = captures.next() {
        *capture = text;
    }
    true
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
