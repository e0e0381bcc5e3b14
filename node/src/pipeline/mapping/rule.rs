//! One rule: what it matches, and where that goes.

use super::{CAPTURES_MAX, Matcher, Route, RouteError, Template, TopicTemplate};

/// A rule of a mapping.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it matches and captures.
    pub matcher: Matcher,
    /// Where that goes; its templates were parsed with the matcher's names.
    pub target: Target,
}

/// Where readings go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Kafka topic.
    pub topic: TopicTemplate,
    /// Kafka key.
    pub key: Template,
    /// Kafka headers, ordered by name.
    pub headers: Vec<(String, Template)>,
}

impl Target {
    /// A Kafka topic, with the MQTT topic as key and no headers.
    pub fn of_topic(topic: TopicTemplate) -> Self {
        Self { topic, key: Template::mqtt_topic(), headers: Vec::new() }
    }

    pub(super) fn route(&self, mqtt_topic: &str, captures: &[&str; CAPTURES_MAX]) -> Result<Route, RouteError> {
        let header =
            |(name, value): &(String, Template)| (name.clone(), value.render(mqtt_topic, captures).into_bytes());
        Ok(Route {
            topic: self.topic.render(mqtt_topic, captures)?,
            key: self.key.render(mqtt_topic, captures).into_bytes(),
            headers: self.headers.iter().map(header).collect(),
        })
    }
}
