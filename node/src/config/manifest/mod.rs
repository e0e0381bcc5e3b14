//! A pipeline as the user declares it: one YAML document, checked whole.
//!
//! [`Manifest::parse`] looks at nothing but the text, so every node judges alike; what depends on the node (secrets, CA files)
//! is [`Manifest::resolve`]d when the pipeline starts there, and by `config check`. Every key, with its unit and default, is
//! documented at the field that it becomes.

mod metadata;
mod resolve;
mod rules;
mod show;
mod source;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use sluice_coordinator::model::{PipelineName, PipelineSpec, SourceIdentity};

pub use metadata::MetadataHeader;
pub use resolve::Resolved;
pub use source::{MqttSource, ShareGroup};

use super::{
    ClusterName, ConfigErrors,
    error::Report,
    kafka::{self, KafkaProperties},
    read::{Field, Reader, Table},
    yaml::{self, Document},
};
use crate::pipeline::mapping::{KafkaTopic, Mapping};

/// Most shards of one pipeline: each is a session at the broker, which is where thousands more would hurt first.
pub const SHARDS_MAX: u32 = 10_000;

/// Longest document, in bytes: what the coordinator takes, said where a file or directory is read, too.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// A checked pipeline.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// `name`: unique in the cluster.
    pub name: PipelineName,
    /// `source.mqtt`: where readings come from.
    pub source: MqttSource,
    /// `shards`: MQTT sessions that share the work; default 1. Plain subscriptions have exactly one.
    pub shards: NonZeroU32,
    /// `delivery`: default `at-least-once`.
    pub delivery: Delivery,
    /// `mapping` and `default_topic`: where each reading goes. Every subscribed filter has a route.
    pub mapping: Arc<Mapping>,
    /// `metadata_headers`: what MQTT says of a reading and Kafka headers shall tell; default none. Ordered, without repetition.
    pub metadata_headers: Vec<MetadataHeader>,
    /// `dead_letter_topic`: the Kafka topic of readings that Kafka refuses for good; default none: such a reading stops its shard.
    pub dead_letter_topic: Option<KafkaTopic>,
    /// `sink.kafka`.
    pub sink: KafkaSink,
    document: String,
    origin: String,
}

/// What a pipeline promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// MQTT quality of service 0: a crash may lose what was in flight.
    AtMostOnce,
    /// MQTT quality of service 1 or 2: a crash may repeat what was in flight.
    AtLeastOnce,
}

impl Delivery {
    /// The word in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// Where readings go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSink {
    /// librdkafka's properties, Sluice's own included.
    pub properties: KafkaProperties,
}

impl Manifest {
    /// Checks one YAML document; `origin` names it in errors.
    ///
    /// # Errors
    /// Everything that is wrong, with line and key.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigErrors> {
        let mut manifests = Self::parse_all(text, origin)?;
        match (manifests.pop(), manifests.len()) {
            (Some(manifest), 0) => Ok(manifest),
            (None, _) => Err(ConfigErrors::whole(origin, "holds no pipeline; give one YAML document")),
            (Some(_), more) => {
                let message = format!("holds {} pipelines where one is expected; apply them one by one", more + 1);
                Err(ConfigErrors::whole(origin, message))
            }
        }
    }

    /// Checks all documents of a YAML stream; empty ones are left out.
    ///
    /// # Errors
    /// Everything that is wrong in any of them.
    pub fn parse_all(text: &str, origin: &str) -> Result<Vec<Self>, ConfigErrors> {
        let documents = yaml::parse(text)
            .map_err(|error| ConfigErrors::whole(format!("{origin}:{}", error.line), error.message))?;
        super::collect(documents.iter().map(|document| check(document, origin)))
    }

    /// The part that the coordinator stores and understands.
    pub fn spec(&self, cluster: &ClusterName) -> PipelineSpec {
        PipelineSpec {
            name: self.name.clone(),
            shards: self.shards,
            source: SourceIdentity {
                servers: self.source.servers.iter().map(ToString::to_string).collect(),
                share_group: self.source.share_group.as_ref().map(ToString::to_string),
                client_id_prefix: self.client_id_prefix(cluster),
            },
            filters: self.source.topics.iter().map(ToString::to_string).collect(),
            manifest: self.document.clone(),
            must_keep_shards: !self.source.delivers_after_unsubscribe,
        }
    }

    /// What comes before `-<shard index>` in the client ids of the pipeline's sessions.
    pub fn client_id_prefix(&self, cluster: &ClusterName) -> String {
        format!("{cluster}-{}", self.name)
    }

    /// The document that was parsed; references to secrets are references.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Where the document came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

fn check(document: &Document<'_>, origin: &str) -> Result<Manifest, ConfigErrors> {
    if document.text.len() > DOCUMENT_BYTES_MAX {
        let message = format!("a pipeline has {} bytes; at most {DOCUMENT_BYTES_MAX}", document.text.len());
        return Err(ConfigErrors::whole(origin, message));
    }
    let report = Report::default();
    let root = Reader { origin, report: &report }.root(&document.root);
    let manifest = root.table().and_then(|table| {
        let manifest = read(&table, document.text, origin);
        table.finish();
        manifest
    });
    report.finish(manifest)
}

/// Reads every part before any is missed, so that all errors are told.
fn read(table: &Table<'_>, document: &str, origin: &str) -> Option<Manifest> {
    let name: Option<PipelineName> = table.required("name", "the pipeline's name").and_then(|field| field.parse());
    let shards = table.or("shards", 1, |field| field.number(1..=u64::from(SHARDS_MAX)));
    let delivery = table.or("delivery", Delivery::AtLeastOnce, delivery);
    let metadata_headers = table.or("metadata_headers", Vec::new(), metadata::read);
    let source = table.required("source", "a table with the key `mqtt`").and_then(|field| {
        let table = field.table()?;
        let mqtt = table.required("mqtt", "a table with at least `servers` and `topics`");
        table.finish();
        source::read(&mqtt?, name.as_ref(), delivery)
    });
    let mapping = rules::read(table, source.as_ref());
    let dead_letter_topic = table.maybe("dead_letter_topic", dead_letter_topic);
    let sink = table.required("sink", "a table with the key `kafka`").and_then(|field| {
        let table = field.table()?;
        let kafka = table.required("kafka", "a table with at least `bootstrap.servers`");
        table.finish();
        sink(&kafka?)
    });
    let shards = shards.and_then(|shards| NonZeroU32::new(u32::try_from(shards).ok()?));
    let shards = check_shards(table, source.as_ref(), shards);
    let metadata_headers = metadata::check_version(table, source.as_ref(), metadata_headers);
    Some(Manifest {
        name: name?,
        source: source?,
        shards: shards?,
        delivery: delivery?,
        mapping: Arc::new(mapping?),
        metadata_headers: metadata_headers?,
        dead_letter_topic: dead_letter_topic?,
        sink: sink?,
        document: document.to_owned(),
        origin: origin.to_owned(),
    })
}

fn delivery(field: &Field<'_>) -> Option<Delivery> {
    if field.text()? == "exactly-once" {
        return field.refuse(
            "exactly-once is not built yet; use at-least-once, which loses nothing and may repeat readings around a failover",
        );
    }
    field.word(&[
        (Delivery::AtLeastOnce.as_str(), Delivery::AtLeastOnce),
        (Delivery::AtMostOnce.as_str(), Delivery::AtMostOnce),
    ])
}

fn dead_letter_topic(field: &Field<'_>) -> Option<KafkaTopic> {
    let text = field.text()?;
    text.parse().map_or_else(|error| field.refuse(format!("{text:?} {error}")), Some)
}

fn check_shards(table: &Table<'_>, source: Option<&MqttSource>, shards: Option<NonZeroU32>) -> Option<NonZeroU32> {
    let is_plain = source.is_some_and(|source| source.share_group.is_none());
    match (shards, table.field("shards")) {
        (Some(shards), Some(field)) if is_plain && shards.get() > 1 => field.refuse(format!(
            "must be 1 with `shared: false`: each of {shards} plain subscriptions would receive, and deliver, every reading"
        )),
        _ => shards,
    }
}

fn sink(field: &Field<'_>) -> Option<KafkaSink> {
    let mut given = BTreeMap::new();
    let mut fields = BTreeMap::new();
    let mut is_whole = true;
    for (name, property) in field.entries("a table of librdkafka properties")? {
        let canonical = kafka::canonical(name);
        let value = property.text().and_then(|text| match kafka::check(canonical, text) {
            Ok(value) => Some(value),
            Err(error) => property.refuse(error.to_string()),
        });
        if fields.insert(canonical, property.clone()).is_some() {
            property.refuse::<()>(format!("is given twice: `{canonical}` has two names; keep one"));
            is_whole = false;
        }
        match value {
            Some(value) => drop(given.insert(canonical.to_owned(), value)),
            None => is_whole = false,
        }
    }
    match KafkaProperties::complete(given) {
        Ok(properties) => is_whole.then_some(KafkaSink { properties }),
        Err(wrong) => {
            for (name, error) in wrong {
                match fields.get(name) {
                    // What was wrong alone is told once.
                    Some(property) if is_whole => drop(property.refuse::<()>(error.to_string())),
                    None if is_whole || name == "bootstrap.servers" => {
                        field.refuse_below::<()>(name, error.to_string());
                    }
                    _ => {}
                }
            }
            None
        }
    }
}
