//! `source.mqtt`: where readings come from.

use std::{fmt, num::NonZeroU16, path::PathBuf, str::FromStr, time::Duration};

use sluice_coordinator::model::PipelineName;

use super::Delivery;
use crate::{
    config::{
        read::{Field, Table},
        secret::Value,
    },
    pipeline::{
        mapping::Filter,
        source::{
            server::Server,
            session::{FILTERS_MAX, Qos, Version},
        },
    },
};

/// Most brokers that are tried in turn.
const SERVERS_MAX: usize = 16;

/// 8,192 readings: with a window of that size a session carries 800,000 readings a second at 10 ms from receipt to delivery, so it is
/// not the window that limits; and after a failover no shard repeats more. Most brokers grant less by their own settings.
const RECEIVE_MAXIMUM: u64 = 8_192;

/// 16 MiB: sixteen times what Kafka accepts by default. It bounds what one reading can make the node hold. It is not announced as MQTT 5
/// Maximum Packet Size, for the broker would drop what is larger in silence; a larger packet stops the shard and says so.
const PACKET_BYTES_MAX: u64 = 16 << 20;

/// The largest packet that MQTT can say, a remaining length of 268,435,455 and its header, rounded to a size that people can say.
const PACKET_BYTES_LIMIT: u64 = 256 << 20;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The MQTT side of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSource {
    /// `servers`: URLs of one broker or cluster, tried in turn.
    pub servers: Vec<Server>,
    /// `version`: `5` (default) or `3.1.1`.
    pub version: Version,
    /// `username`: a text or `${file:…}`.
    pub username: Option<Value>,
    /// `password`: a text or `${file:…}`. Not shown among what is in effect; a text is stored with the document and shown with it.
    pub password: Option<Value>,
    /// `ca_file`: PEM certificates that a `mqtts` broker's is checked against; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// `topics`: filters without `$share`.
    pub topics: Vec<Filter>,
    /// `qos`: 1 (default) or 2 with `at-least-once`, 0 with `at-most-once`.
    pub qos: Qos,
    /// `share_group` (default: the pipeline's name); `None` with `shared: false`: plain subscriptions.
    pub share_group: Option<ShareGroup>,
    /// `keep_alive`: whole seconds, 1s to 65535s; default 30s.
    pub keep_alive: Duration,
    /// `connect_timeout`: for TCP and TLS, and as long again for CONNACK; default 10s.
    pub connect_timeout: Duration,
    /// `receive_maximum`: unacknowledged readings that the broker may send on a session (MQTT 5); default 8192.
    pub receive_maximum: NonZeroU16,
    /// `packet_bytes_max`: a larger packet stops its shard with a clear status; default 16MiB.
    pub packet_bytes_max: usize,
    /// `delivers_after_unsubscribe`: the user says that after UNSUBSCRIBE the broker still delivers what it had queued for a session,
    /// to it or to the others of its group, which MQTT leaves open [MQTT-3.10.4]; default false. Without it no shard may go.
    pub delivers_after_unsubscribe: bool,
}

impl MqttSource {
    /// A filter as it is subscribed, with the share prefix where the group is shared.
    pub fn subscription(&self, filter: &str) -> String {
        match &self.share_group {
            Some(group) => format!("$share/{group}/{filter}"),
            None => filter.to_owned(),
        }
    }
}

/// Name of a shared subscription's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroup(Box<str>);

impl ShareGroup {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShareGroup {
    type Err = String;

    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]; 128 bytes leave room for the filter.
    fn from_str(name: &str) -> Result<Self, String> {
        if name.is_empty() || name.len() > 128 || name.contains(['/', '+', '#', '\0']) {
            return Err(format!("{name:?} is not a share group: give 1 to 128 bytes without `/`, `+` and `#`"));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for ShareGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All values, or `None` if one of them was refused. Looks at each, so that each is reported.
pub(super) fn all<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    values.collect::<Vec<_>>().into_iter().collect()
}

pub(super) fn read(field: &Field<'_>, name: Option<&PipelineName>, delivery: Option<Delivery>) -> Option<MqttSource> {
    let table = field.table()?;
    let servers = table.required("servers", "URLs, as in [mqtts://mqtt.example.com:8883]");
    let servers = servers.and_then(|field| some_of(&field, "broker URLs", SERVERS_MAX));
    let version = table.or("version", Version::V5, |f| f.word(&[("5", Version::V5), ("3.1.1", Version::V311)]));
    let username = table.maybe("username", Field::parse);
    let password = table.maybe("password", Field::parse);
    let ca_file = table.maybe("ca_file", |field| field.text().map(PathBuf::from));
    let topics = table.required("topics", "topic filters, as in [factory/+/+/reading]");
    let topics = topics.and_then(|field| some_of(&field, "topic filters", FILTERS_MAX));
    let qos = read_qos(&table, delivery);
    let share_group = read_share_group(&table, name);
    let second = Duration::from_secs(1);
    let keep_alive = table.or("keep_alive", KEEP_ALIVE, |f| keep_alive(f, second..=second * 65_535));
    let connect_timeout =
        table.or("connect_timeout", CONNECT_TIMEOUT, |f| f.duration(second / 10..=Duration::from_secs(300)));
    let receive_maximum = table.or("receive_maximum", RECEIVE_MAXIMUM, |f| f.number(1..=65_535));
    let packet_bytes_max = table.or("packet_bytes_max", PACKET_BYTES_MAX, |f| f.size(1 << 10..=PACKET_BYTES_LIMIT));
    let delivers_after_unsubscribe = table.or("delivers_after_unsubscribe", false, Field::bool);
    let ca_file = check_ca(&table, servers.as_deref()).and(ca_file);
    let password = check_password(&table, version).and(password);
    table.finish();
    Some(MqttSource {
        servers: servers?,
        version: version?,
        username: username?,
        password: password?,
        ca_file: ca_file?,
        topics: topics?,
        qos: qos?,
        share_group: share_group?,
        keep_alive: keep_alive?,
        connect_timeout: connect_timeout?,
        receive_maximum: NonZeroU16::new(u16::try_from(receive_maximum?).ok()?)?,
        packet_bytes_max: usize::try_from(packet_bytes_max?).ok()?,
        delivers_after_unsubscribe: delivers_after_unsubscribe?,
    })
}

/// A list of 1 to `most` different texts.
fn some_of<T: FromStr<Err: fmt::Display> + PartialEq>(field: &Field<'_>, what: &str, most: usize) -> Option<Vec<T>> {
    let items = field.list(what)?;
    if items.is_empty() || items.len() > most {
        return field.refuse(format!("has {} {what}; give 1 to {most}", items.len()));
    }
    let mut values = Vec::new();
    let mut is_whole = true;
    for item in &items {
        match item.parse::<T>() {
            Some(value) if values.contains(&value) => {
                item.refuse::<()>("is listed twice; keep one");
                is_whole = false;
            }
            Some(value) => values.push(value),
            None => is_whole = false,
        }
    }
    is_whole.then_some(values)
}

fn read_qos(table: &Table<'_>, delivery: Option<Delivery>) -> Option<Qos> {
    let by_delivery = match delivery {
        Some(Delivery::AtMostOnce) => Qos::AtMostOnce,
        Some(Delivery::AtLeastOnce) | None => Qos::AtLeastOnce,
    };
    table.or("qos", by_delivery, |field| {
        let qos = match field.number(0..=2)? {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        };
        match (delivery, qos) {
            (Some(Delivery::AtLeastOnce), Qos::AtMostOnce) => {
                field.refuse("0 cannot keep `delivery: at-least-once`; use 1 or 2, or say `delivery: at-most-once`")
            }
            (Some(Delivery::AtMostOnce), Qos::AtLeastOnce | Qos::ExactlyOnce) => {
                field.refuse("must be 0 with `delivery: at-most-once`; use 0, or say `delivery: at-least-once`")
            }
            _ => Some(qos),
        }
    })
}

/// The outer `None` was reported; the inner one means plain subscriptions.
fn read_share_group(table: &Table<'_>, name: Option<&PipelineName>) -> Option<Option<ShareGroup>> {
    let is_shared = table.or("shared", true, Field::bool);
    let group = table.maybe("share_group", Field::parse::<ShareGroup>);
    match (is_shared?, group?) {
        (false, Some(_)) => table.field("share_group")?.refuse("has no meaning with `shared: false`; keep one of them"),
        (false, None) => Some(None),
        (true, Some(group)) => Some(Some(group)),
        (true, None) => name.map(|name| Some(ShareGroup(name.as_str().into()))),
    }
}

fn keep_alive(field: &Field<'_>, range: std::ops::RangeInclusive<Duration>) -> Option<Duration> {
    let keep_alive = field.duration(range)?;
    if keep_alive.subsec_nanos() != 0 {
        return field.refuse("must be whole seconds: MQTT cannot say less");
    }
    Some(keep_alive)
}

fn check_ca(table: &Table<'_>, servers: Option<&[Server]>) -> Option<()> {
    match table.field("ca_file") {
        Some(field) if servers.is_some_and(|servers| !servers.iter().any(|server| server.is_tls)) => {
            field.refuse("has no effect: no server is mqtts://; remove it, or use mqtts://")
        }
        _ => Some(()),
    }
}

fn check_password(table: &Table<'_>, version: Option<Version>) -> Option<()> {
    match (table.field("username"), table.field("password")) {
        // [MQTT-3.1.2-22] of MQTT 3.1.1; MQTT 5 allows it.
        (None, Some(field)) if version == Some(Version::V311) => field.refuse("needs `username` in MQTT 3.1.1"),
        _ => Some(()),
    }
}
