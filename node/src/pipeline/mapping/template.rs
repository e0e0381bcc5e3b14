//! Texts with placeholders: `{zone}` and `{2}` for captures, `{topic}` for the whole MQTT topic, `{{` and `}}` for braces.

/// A text that is completed from an MQTT topic and its captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// As written.
    Text(Box<str>),
    /// The whole MQTT topic.
    Topic,
    /// What the capture of this index, from 0, stands for.
    Capture(usize),
}

/// Why a text is not a template for its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{` without `}`.
    #[error("`{{` is never closed; write `{{{{` for a brace")]
    Open,
    /// `}` without `{`.
    #[error("`}}` closes nothing; write `}}}}` for a brace")]
    Close,
    /// A placeholder that the rule does not capture.
    #[error("{{{name}}} is not captured by the rule's pattern; it has {known}")]
    Unknown {
        /// The placeholder, without braces.
        name: String,
        /// The placeholders that would do.
        known: String,
    },
}

impl Template {
    /// Parses a template for a rule that captures `names`.
    ///
    /// # Errors
    /// Says what is wrong with the template.
    pub fn parse(text: &str, names: &[Option<Box<str>>]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut left = text;
        while let Some(at) = left.find(['{', '}']) {
            literal.push_str(&left[..at]);
            let brace = &left[at..=at];
            left = &left[at + 1..];
            if let Some(after) = left.strip_prefix(brace) {
                literal.push_str(brace);
                left = after;
            } else if brace == "}" {
                return Err(TemplateError::Close);
            } else {
                let (name, after) = left.split_once('}').ok_or(TemplateError::Open)?;
                push_text(&mut parts, &mut literal);
                parts.push(placeholder(name, names)?);
                left = after;
            }
        }
        literal.push_str(left);
        push_text(&mut parts, &mut literal);
        Ok(Self { text: text.into(), parts })
    }

    /// The template that is the MQTT topic itself.
    pub fn mqtt_topic() -> Self {
        Self { text: "{topic}".into(), parts: vec![Part::Topic] }
    }

    /// The completed text.
    pub fn render(&self, topic: &str, captures: &[&str]) -> String {
        let mut out = String::with_capacity(self.parts.iter().map(|part| part.value(topic, captures).len()).sum());
        for part in &self.parts {
            out.push_str(part.value(topic, captures));
        }
        out
    }

    /// The template as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Part {
    pub(super) fn value<'a>(&'a self, topic: &'a str, captures: &[&'a str]) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Topic => topic,
            Self::Capture(index) => captures.get(*index).copied().unwrap_or(""),
        }
    }
}

fn push_text(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into()));
    }
}

fn placeholder(name: &str, names: &[Option<Box<str>>]) -> Result<Part, TemplateError> {
    if name == "topic" {
        return Ok(Part::Topic);
    }
    let number = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    number
        .filter(|index| *index < names.len())
        .or_else(|| names.iter().position(|known| known.as_deref() == Some(name)))
        .map(Part::Capture)
        .ok_or_else(|| TemplateError::Unknown { name: name.to_owned(), known: known(names) })
}

fn known(names: &[Option<Box<str>>]) -> String {
    let captures = names.iter().enumerate().map(|(index, name)| match name {
        Some(name) => format!("{{{name}}}"),
        None => format!("{{{}}}", index + 1),
    });
    captures.chain(["{topic}".to_owned()]).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<Option<Box<str>>> {
        vec![Some("zone".into()), None]
    }

    #[test]
    fn placeholders_are_completed() -> Result<(), TemplateError> {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("{zone}-{2}", "north-d7"),
            ("{1}{1}", "northnorth"),
            ("{topic}", "f/north/d7"),
            ("{{zone}}", "{zone}"),
            ("{{{zone}}}", "{north}"),
            ("é{zone}é", "énorthé"),
        ] {
            assert_eq!(Template::parse(text, &names())?.render("f/north/d7", &["north", "d7"]), want, "{text}");
        }
        Ok(())
    }

    #[test]
    fn bad_templates_say_why() {
        for (text, want) in [
            ("{zone", "`{` is never closed; write `{{` for a brace"),
            ("zone}", "`}` closes nothing; write `}}` for a brace"),
            ("{dev}", "{dev} is not captured by the rule's pattern; it has {zone}, {2}, {topic}"),
            ("{0}", "{0} is not captured by the rule's pattern; it has {zone}, {2}, {topic}"),
            ("{3}", "{3} is not captured by the rule's pattern; it has {zone}, {2}, {topic}"),
            ("{}", "{} is not captured by the rule's pattern; it has {zone}, {2}, {topic}"),
        ] {
            assert_eq!(Template::parse(text, &names()).map_err(|e| e.to_string()), Err(want.to_owned()), "{text}");
        }
    }
}
