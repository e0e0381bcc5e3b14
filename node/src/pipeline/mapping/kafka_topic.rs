//! Kafka topic names: `[a-zA-Z0-9._-]`, 1 to 249 bytes, not `.` and not `..`, as Kafka's own `Topic.validate` has it.
//!
//! The rule for names made from MQTT topics: each character of a *capture* outside that set becomes `_`. What the user writes
//! himself is never changed, but refused when it is wrong.

use std::{fmt, str::FromStr};

use super::{RouteError, Template, TemplateError, template::Part};

/// Longest topic name in bytes: file names on the broker are the name, a dash and the partition.
pub const TOPIC_BYTES_MAX: usize = 249;

/// A name that Kafka accepts for a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KafkaTopic(Box<str>);

/// Why a name is not a Kafka topic's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaTopicError {
    /// No name at all.
    #[error("is empty")]
    Empty,
    /// `.` or `..`
    #[error("is not a name that Kafka accepts for a topic")]
    Dots,
    /// Too long for Kafka.
    #[error("has {0} bytes; Kafka accepts at most {TOPIC_BYTES_MAX}")]
    TooLong(usize),
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error("contains {0:?}; Kafka accepts a-z, A-Z, 0-9, `.`, `_` and `-`")]
    Character(char),
    /// A template that is not one.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl KafkaTopic {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KafkaTopic {
    type Err = KafkaTopicError;

    fn from_str(name: &str) -> Result<Self, KafkaTopicError> {
        check_characters(name)?;
        check_whole(name)?;
        Ok(Self(name.into()))
    }
}

impl fmt::Display for KafkaTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A template whose result is a Kafka topic name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate(Template);

impl TopicTemplate {
    /// Parses a template for a rule that captures `names`; what is wrong whatever is captured is refused here.
    ///
    /// # Errors
    /// Says what is wrong with the template.
    pub fn parse(text: &str, names: &[Option<Box<str>>]) -> Result<Self, KafkaTopicError> {
        let template = Template::parse(text, names)?;
        let texts = template.parts().iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Topic | Part::Capture(_) => None,
        });
        let mut bytes = 0;
        for text in texts.clone() {
            check_characters(text)?;
            bytes += text.len();
        }
        if bytes > TOPIC_BYTES_MAX {
            return Err(KafkaTopicError::TooLong(bytes));
        }
        if texts.count() == template.parts().len() {
            check_whole(&template.render("", &[]))?;
        }
        Ok(Self(template))
    }

    /// The template as the user wrote it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The Kafka topic of readings under `topic`.
    pub(super) fn render(&self, topic: &str, captures: &[&str]) -> Result<String, RouteError> {
        let mut name = self.0.render(topic, captures);
        if !name.bytes().all(is_legal) {
            name = name.chars().map(|c| if c.is_ascii() && is_legal(c as u8) { c } else { '_' }).collect();
        }
        match check_whole(&name) {
            Ok(()) => Ok(name),
            Err(reason) => Err(RouteError::KafkaTopic { name, reason }),
        }
    }
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn check_characters(text: &str) -> Result<(), KafkaTopicError> {
    match text.chars().find(|c| !u8::try_from(*c).is_ok_and(is_legal)) {
        Some(c) => Err(KafkaTopicError::Character(c)),
        None => Ok(()),
    }
}

fn check_whole(name: &str) -> Result<(), KafkaTopicError> {
    match name {
        "" => Err(KafkaTopicError::Empty),
        "." | ".." => Err(KafkaTopicError::Dots),
        name if name.len() > TOPIC_BYTES_MAX => Err(KafkaTopicError::TooLong(name.len())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kafka_does() {
        for good in ["a", "...", "iot.sensor-readings_1", &"x".repeat(249)] {
            assert!(good.parse::<KafkaTopic>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", KafkaTopicError::Empty),
            (".", KafkaTopicError::Dots),
            ("..", KafkaTopicError::Dots),
            ("a b", KafkaTopicError::Character(' ')),
            ("a/b", KafkaTopicError::Character('/')),
            ("é", KafkaTopicError::Character('é')),
        ] {
            assert_eq!(bad.parse::<KafkaTopic>(), Err(why), "{bad}");
        }
        assert_eq!("x".repeat(250).parse::<KafkaTopic>(), Err(KafkaTopicError::TooLong(250)));
    }

    #[test]
    fn only_what_is_captured_is_replaced() -> Result<(), Box<dyn std::error::Error>> {
        let names = [Some("zone".into())];
        let template = TopicTemplate::parse("iot.{zone}", &names)?;
        assert_eq!(template.render("", &["north hall/é€"])?, "iot.north_hall___");
        assert_eq!(TopicTemplate::parse("iot/{zone}", &names), Err(KafkaTopicError::Character('/')));
        assert_eq!(TopicTemplate::parse("", &names), Err(KafkaTopicError::Empty));
        assert_eq!(TopicTemplate::parse("..", &names), Err(KafkaTopicError::Dots));
        let long = format!("{}{{zone}}", "x".repeat(250));
        assert_eq!(TopicTemplate::parse(&long, &names), Err(KafkaTopicError::TooLong(250)));
        Ok(())
    }

    #[test]
    fn a_result_that_is_no_name_is_an_error() -> Result<(), Box<dyn std::error::Error>> {
        let template = TopicTemplate::parse("{1}", &[None])?;
        for (capture, reason) in [
            ("", KafkaTopicError::Empty),
            (".", KafkaTopicError::Dots),
            ("..", KafkaTopicError::Dots),
            (&*"x".repeat(250), KafkaTopicError::TooLong(250)),
        ] {
            let name = capture.to_owned();
            assert_eq!(template.render("", &[capture]), Err(RouteError::KafkaTopic { name, reason }));
        }
        Ok(())
    }
}
