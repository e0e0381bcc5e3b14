//! Producer properties as a manifest gives them, completed with Sluice's own; references to secrets are still references.

use std::collections::BTreeMap;

use rdkafka::{ClientConfig, error::KafkaError};

use super::{
    names::{ALIASES, CONSUMER, NOT_TEXT, PRODUCER},
    rules::{self, Accepts, REFUSED_PREFIXES, RULES},
};
use crate::config::{
    secret::{ReferenceError, Value},
    suggest,
};

/// The properties of a pipeline's producer, each under one name, with Sluice's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaProperties(BTreeMap<String, Value>);

/// A property that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// librdkafka does not know the name.
    #[error("unknown Kafka property{0}")]
    Unknown(String),
    /// A property of consumers.
    #[error("is a property of Kafka consumers, and Sluice only produces; remove it")]
    Consumer,
    /// Set through librdkafka's API only.
    #[error("cannot be set in a manifest: librdkafka takes it through its API only; remove it")]
    NotText,
    /// It would weaken the guarantee, or is Sluice's to set.
    #[error("cannot be set: {0}; remove it")]
    Refused(&'static str),
    /// A value that would weaken the guarantee.
    #[error("cannot be {value:?}: {why}; remove it, or give {accepted}")]
    Value {
        /// What the user gave.
        value: String,
        /// Why it cannot be.
        why: &'static str,
        /// What can be given.
        accepted: String,
    },
    /// librdkafka refuses the value.
    #[error("{0}")]
    Librdkafka(String),
    /// A reference of a form that is not known.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// It does not fit the other properties.
    #[error("{0}")]
    Combination(String),
}

impl PropertyError {
    fn combination<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Combination(message.into()))
    }
}

/// The one name of a property that has two.
pub(in crate::config) fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

/// Checks one property, under its canonical name, as it is written in a manifest.
pub(in crate::config) fn check(name: &str, text: &str) -> Result<Value, PropertyError> {
    if let Some((_, why)) = REFUSED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Err(PropertyError::Refused(why));
    }
    if CONSUMER.contains(&name) {
        return Err(PropertyError::Consumer);
    }
    if NOT_TEXT.contains(&name) {
        return Err(PropertyError::NotText);
    }
    if let Some(Accepts::Nothing(why)) = rules::rule(name).map(|rule| &rule.accepts) {
        return Err(PropertyError::Refused(why));
    }
    let value: Value = text.parse()?;
    match value.literal() {
        Some(text) => check_value(name, text)?,
        // What the file holds is checked when it is read; librdkafka can already say whether it knows the name.
        None => match ask_librdkafka(name, "") {
            Err(PropertyError::Librdkafka(_)) => {}
            outcome => outcome?,
        },
    }
    Ok(value)
}

/// Checks the value of a property that may be set.
pub(super) fn check_value(name: &str, text: &str) -> Result<(), PropertyError> {
    if let Some(Accepts::Only(values, why)) = rules::rule(name).map(|rule| &rule.accepts)
        && !values.contains(&text)
    {
        return Err(PropertyError::Value { value: text.to_owned(), why, accepted: values.join(", ") });
    }
    ask_librdkafka(name, text)?;
    if name == "bootstrap.servers" { check_servers(text) } else { Ok(()) }
}

/// What librdkafka itself says about a name and a value.
fn ask_librdkafka(name: &str, value: &str) -> Result<(), PropertyError> {
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, words, ..)) if words.starts_with("No such configuration property") => {
            let known = PRODUCER.iter().copied().chain(ALIASES.iter().map(|(alias, _)| *alias));
            Err(PropertyError::Unknown(suggest::hint(name, known)))
        }
        Err(KafkaError::ClientConfig(_, words, ..)) => {
            let value = if rules::is_secret(name) { "(hidden)" } else { value };
            Err(PropertyError::Librdkafka(format!("librdkafka refuses {value:?}: {}", words.trim_end())))
        }
        Err(error) => Err(PropertyError::Librdkafka(error.to_string())),
    }
}

impl KafkaProperties {
    /// Adds Sluice's defaults to properties that were checked one by one, and checks how they fit together.
    /// What is wrong comes with the name of the property it is about.
    pub(in crate::config) fn complete(
        mut given: BTreeMap<String, Value>,
    ) -> Result<Self, Vec<(&'static str, PropertyError)>> {
        for rule in RULES {
            if let Some(default) = rule.default {
                given
                    .entry(rule.name.to_owned())
                    .or_insert_with(|| Value::Literal(crate::config::Secret::new(default)));
            }
        }
        let properties = Self(given);
        let checks = [
            ("bootstrap.servers", properties.check_bootstrap()),
            ("security.protocol", properties.check_security()),
            ("sasl.mechanisms", properties.check_sasl()),
            ("ssl.keystore.password", properties.check_keystore()),
            ("reconnect.backoff.max.ms", properties.check_backoff()),
        ];
        let wrong: Vec<_> = checks.into_iter().filter_map(|(name, check)| Some((name, check.err()?))).collect();
        if wrong.is_empty() { Ok(properties) } else { Err(wrong) }
    }

    /// Names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether the property's value must not be shown.
    pub fn is_secret(name: &str) -> bool {
        rules::is_secret(name)
    }

    fn literal(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::literal)
    }

    fn check_bootstrap(&self) -> Result<(), PropertyError> {
        if self.0.contains_key("bootstrap.servers") {
            return Ok(());
        }
        PropertyError::combination("is missing: give Kafka's addresses, as in `kafka-0.kafka:9092,kafka-1.kafka:9092`")
    }

    fn speaks_sasl(&self) -> Option<bool> {
        match self.0.get("security.protocol") {
            None => Some(false),
            // What a file will say is not known yet.
            Some(value) => value.literal().map(|protocol| protocol.to_ascii_lowercase().starts_with("sasl_")),
        }
    }

    fn check_security(&self) -> Result<(), PropertyError> {
        match self.0.keys().find(|name| name.starts_with("sasl.")) {
            Some(name) if self.speaks_sasl() == Some(false) => PropertyError::combination(format!(
                "must be sasl_ssl or sasl_plaintext for `{name}` to have any effect; set it, or remove the sasl properties"
            )),
            _ => Ok(()),
        }
    }

    fn check_sasl(&self) -> Result<(), PropertyError> {
        if self.speaks_sasl() != Some(true) {
            return Ok(());
        }
        if !self.0.contains_key("sasl.mechanisms") {
            return PropertyError::combination(
                "is missing: security.protocol asks for SASL; give PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            );
        }
        let has_user = self.0.contains_key("sasl.username") && self.0.contains_key("sasl.password");
        match self.literal("sasl.mechanisms") {
            Some(mechanism) if !has_user => {
                PropertyError::combination(format!("{mechanism} needs both sasl.username and sasl.password"))
            }
            _ => Ok(()),
        }
    }

    fn check_keystore(&self) -> Result<(), PropertyError> {
        if self.0.contains_key("ssl.keystore.location") && !self.0.contains_key("ssl.keystore.password") {
            return PropertyError::combination("is missing: ssl.keystore.location needs it");
        }
        Ok(())
    }

    fn check_backoff(&self) -> Result<(), PropertyError> {
        // librdkafka's defaults where nothing is given.
        let ms = |name, default| self.literal(name).map_or(Some(default), |text| text.parse::<u64>().ok());
        match (ms("reconnect.backoff.ms", 100), ms("reconnect.backoff.max.ms", 10_000)) {
            (Some(first), Some(most)) if first > most => {
                PropertyError::combination(format!("{most} is less than reconnect.backoff.ms, {first}"))
            }
            _ => Ok(()),
        }
    }
}

/// `host`, `host:port` or `PROTOCOL://host:port`, separated by commas, as librdkafka reads them.
fn check_servers(servers: &str) -> Result<(), PropertyError> {
    for server in servers.split(',').map(str::trim) {
        let address = match server.split_once("://") {
            Some((protocol, address)) if ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol) => {
                address
            }
            Some(_) => {
                return PropertyError::combination(format!(
                    "{server:?} is not an address: give host:port, without a scheme"
                ));
            }
            None => server,
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@');
        if !is_host || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return PropertyError::combination(format!(
                "{server:?} is not an address: give host:port, as in `kafka-0.kafka:9092`"
            ));
        }
    }
    Ok(())
}
