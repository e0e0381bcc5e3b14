//! `mapping` and `default_topic`: the user's rules, and whether they have a route for everything that is subscribed.

use super::{MqttSource, source};
use crate::{
    config::read::{Field, Table},
    pipeline::mapping::{KafkaTopicError, Mapping, Matcher, PatternError, Rule, Target, Template, TopicTemplate},
};

/// Most rules of one pipeline. They are tried in order, once for each MQTT topic that is not cached.
const RULES_MAX: usize = 1_000;

/// Most headers of one rule; each costs about half a microsecond a reading.
const HEADERS_MAX: usize = 64;

/// Names that Sluice gives to headers of its own.
const RESERVED_HEADERS: [&str; 2] = ["mqtt.", "sluice."];

pub(super) fn read(table: &Table<'_>, source: Option<&MqttSource>) -> Option<Mapping> {
    let rules = table.or("mapping", Vec::new(), rules);
    let default_topic = table.maybe("default_topic", |field| topic(field, &[]));
    let mapping = Mapping::new(rules?, default_topic?);
    if mapping.rules().is_empty() && mapping.default_topic().is_none() {
        return table.refuse(
            "there is neither `mapping` nor `default_topic`, so no reading would have a Kafka topic; give one of them",
        );
    }
    let regex =
        if mapping.rules().iter().any(|rule| rule.matcher.is_regex()) { " (a regex proves nothing)" } else { "" };
    let mut is_covered = true;
    for filter in source?.topics.iter().filter(|filter| !mapping.covers(filter)) {
        is_covered = false;
        table.refuse_below::<()>(
            "mapping",
            format!("readings of the filter {:?} may match no rule{regex}; add a rule that covers it, or give `default_topic`", filter.as_str()),
        );
    }
    is_covered.then_some(mapping)
}

fn rules(field: &Field<'_>) -> Option<Vec<Rule>> {
    let items = field.list("rules")?;
    if items.len() > RULES_MAX {
        return field.refuse(format!("has {} rules; give at most {RULES_MAX}", items.len()));
    }
    source::all(items.iter().map(rule))
}

type Parse = fn(&str) -> Result<Matcher, PatternError>;

fn rule(field: &Field<'_>) -> Option<Rule> {
    let table = field.table()?;
    let levels = table.field("match").map(|field| (field, Matcher::levels as Parse));
    let regex = table.field("regex").map(|field| (field, Matcher::regex as Parse));
    let matcher = match (levels, regex) {
        (Some(_), Some((field, _))) => field.refuse("a rule has either `match` or `regex`; keep one"),
        (Some((field, parse)), None) | (None, Some((field, parse))) => {
            field.text().and_then(|text| parse(text).map_or_else(|error| field.refuse(error.to_string()), Some))
        }
        (None, None) => table.refuse("the rule has neither `match` nor `regex`; give one of them"),
    };
    let topic_field = table.required("topic", "the Kafka topic");
    let (key_field, headers_field) = (table.field("key"), table.field("headers"));
    table.finish();
    // Without the pattern's captures no template can be judged.
    let matcher = matcher?;
    let names = matcher.names();
    let topic = topic_field.and_then(|field| topic(&field, names));
    let key = key_field.map_or_else(|| Some(Template::mqtt_topic()), |field| template(&field, names));
    let headers = headers_field.map_or(Some(Vec::new()), |field| headers(&field, names));
    let target = Target { topic: topic?, key: key?, headers: headers? };
    Some(Rule { matcher, target })
}

fn headers(field: &Field<'_>, names: &[Option<Box<str>>]) -> Option<Vec<(String, Template)>> {
    let entries = field.entries("a table of header names with their templates")?;
    if entries.len() > HEADERS_MAX {
        return field.refuse(format!("has {} headers; give at most {HEADERS_MAX}", entries.len()));
    }
    let header = |(name, field): &(&str, Field<'_>)| {
        if name.is_empty() {
            return field.refuse("a header must have a name");
        }
        if let Some(prefix) = RESERVED_HEADERS.iter().find(|prefix| name.starts_with(**prefix)) {
            return field.refuse(format!("header names that begin with `{prefix}` are Sluice's own; take another"));
        }
        Some(((*name).to_owned(), template(field, names)?))
    };
    let mut headers = source::all(entries.iter().map(header))?;
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(headers)
}

fn template(field: &Field<'_>, names: &[Option<Box<str>>]) -> Option<Template> {
    Template::parse(field.text()?, names).map_or_else(|error| field.refuse(error.to_string()), Some)
}

fn topic(field: &Field<'_>, names: &[Option<Box<str>>]) -> Option<TopicTemplate> {
    let text = field.text()?;
    match TopicTemplate::parse(text, names) {
        Ok(topic) => Some(topic),
        Err(KafkaTopicError::Template(error)) => field.refuse(error.to_string()),
        Err(error) => field.refuse(format!("{text:?} {error}")),
    }
}
