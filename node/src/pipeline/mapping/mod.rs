//! Where a reading goes: MQTT topic → Kafka topic, key and headers. Pure.
//!
//! A mapping is a list of rules, of which the first match wins, and an optional default topic for readings that no rule
//! matches. [`Mapping::route`] is a function of the MQTT topic alone, so its results may be cached by topic.
//!
//! - `match:` patterns are MQTT filters whose levels may also be named: `factory/{zone}/+/{rest#}`. See [`Matcher`].
//! - `regex:` patterns match the whole MQTT topic.
//! - Templates put captures into Kafka topic, key and headers: `{zone}`, `{2}`, `{topic}`. See [`Template`].
//! - What a capture brings into a Kafka topic name that Kafka does not allow is replaced; see [`KafkaTopic`].

mod filter;
mod kafka_topic;
mod matcher;
mod pattern;
mod rule;
mod template;
#[cfg(test)]
mod tests;

pub use filter::{Filter, FilterError};
pub use kafka_topic::{KafkaTopic, KafkaTopicError, TOPIC_BYTES_MAX, TopicTemplate};
pub use matcher::{CAPTURES_MAX, Matcher, PatternError};
pub use rule::{Rule, Target};
pub use template::{Template, TemplateError};

/// Where one MQTT topic's readings go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Kafka topic; a name that Kafka accepts.
    pub topic: String,
    /// Kafka key; may be empty, is never absent.
    pub key: Vec<u8>,
    /// Kafka headers that the rule asks for, ordered by name.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A reading that cannot be routed: a dead letter, or the end of its shard where the pipeline has no dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No rule matches. Only possible while a broker still sends what an earlier filter asked for.
    #[error("no mapping rule matches and the pipeline has no default_topic")]
    NoRule,
    /// The rule's template gives a name that Kafka refuses.
    #[error("mapping gives the Kafka topic {name:?}, which {reason}")]
    KafkaTopic {
        /// The name, after illegal characters were replaced.
        name: String,
        /// What is wrong with it.
        reason: KafkaTopicError,
    },
}

/// Rules in the order they are tried, and where the rest goes.
#[derive(Debug, Clone)]
pub struct Mapping {
    rules: Vec<Rule>,
    default: Option<Target>,
}

impl Mapping {
    /// A mapping of `rules`; what none of them matches goes to `default_topic` under its MQTT topic as key.
    pub fn new(rules: Vec<Rule>, default_topic: Option<TopicTemplate>) -> Self {
        Self { rules, default: default_topic.map(Target::of_topic) }
    }

    /// Where readings under `mqtt_topic` go.
    ///
    /// # Errors
    /// No rule matches, or the Kafka topic that comes out is not one.
    pub fn route(&self, mqtt_topic: &str) -> Result<Route, RouteError> {
        let mut captures = [""; CAPTURES_MAX];
        let rule = self.rules.iter().find(|rule| rule.matcher.capture(mqtt_topic, &mut captures));
        let target = rule.map(|rule| &rule.target).or(self.default.as_ref()).ok_or(RouteError::NoRule)?;
        target.route(mqtt_topic, &captures)
    }

    /// Whether every MQTT topic that `filter` can bring has a route for sure: a default topic, or one `match:` rule that
    /// covers the filter. A regex is never a proof.
    pub fn covers(&self, filter: &Filter) -> bool {
        self.default.is_some() || self.rules.iter().any(|rule| rule.matcher.covers(filter))
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The Kafka topic of readings that no rule matches.
    pub fn default_topic(&self) -> Option<&TopicTemplate> {
        self.default.as_ref().map(|target| &target.topic)
    }
}
