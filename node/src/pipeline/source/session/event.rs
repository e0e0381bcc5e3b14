//! What a session tells its driver.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{
    error::reason_name,
    properties::Properties,
    settings::{Qos, Version},
};

/// Number of a reading in its task, from 0, contiguous, `QoS` 0 included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// What a session tells its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The broker accepted the connection.
    Connected(Box<Granted>),
    /// The broker has answered every SUBSCRIBE under way.
    Subscribed(Box<Subscribed>),
    /// The broker has answered every UNSUBSCRIBE under way.
    Unsubscribed {
        /// What it did not unsubscribe.
        refused: Vec<RefusedFilter>,
    },
    /// A reading to deliver.
    Reading(Reading),
    /// Something an operator should know; once per connection.
    Noted(String),
    /// The broker ended the connection (MQTT 5). Nothing follows until the session connects again.
    Disconnected(Box<Disconnected>),
}

/// What the broker granted in CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The broker still had the session.
    pub is_session_present: bool,
    /// A session was expected and is not there: the broker lost it, and perhaps readings.
    pub is_session_lost: bool,
    /// Highest `QoS` that the broker takes.
    pub maximum_qos: Qos,
    /// Keep-alive in force: the broker's where it gave one. 0: none.
    pub keep_alive: Duration,
    /// How long the broker keeps the session without a connection; none: for ever.
    pub session_expiry: Option<Duration>,
    /// `$share` works.
    pub is_shared_subscription_available: bool,
    /// `+` and `#` work.
    pub is_wildcard_subscription_available: bool,
    /// A client id that the broker put in place of ours.
    pub assigned_client_id: Option<String>,
    /// What the broker does not grant, a sentence each.
    pub notes: Vec<String>,
}

/// The broker's answers to SUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Filters refused.
    pub refused: Vec<RefusedFilter>,
    /// Filters granted with less than was asked for, a sentence each.
    pub notes: Vec<String>,
}

/// A filter that the broker refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the MQTT broker refused the filter {filter:?}: {} (0x{code:02X})", reason_name(*code))]
pub struct RefusedFilter {
    /// As subscribed.
    pub filter: String,
    /// Reason code; MQTT 3.1.1 has 0x80 only.
    pub code: u8,
}

/// One MQTT PUBLISH on its way to one Kafka record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its number in the task.
    pub seq: Seq,
    /// Topic: UTF-8, not empty, no wildcard, no U+0000.
    pub topic: Bytes,
    /// Payload as it came.
    pub payload: Bytes,
    /// MQTT 5 properties as they came.
    pub properties: Properties,
    /// `QoS` it was sent with.
    pub qos: Qos,
    /// RETAIN flag.
    pub is_retained: bool,
    /// DUP flag: the broker may have sent it before.
    pub is_duplicate: bool,
}

/// Why the broker ended the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Reason code.
    pub code: u8,
    /// The broker's own words.
    pub reason: Option<String>,
    /// Where it says to go instead.
    pub server_reference: Option<String>,
}

impl Disconnected {
    /// Another connection has taken the session over: look at lease and epoch before connecting again.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.code == 0x8E
    }
}

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the MQTT broker ended the connection: {} (0x{:02X})", reason_name(self.code), self.code)?;
        if let Some(reason) = &self.reason {
            write!(f, ", saying {reason:?}")?;
        }
        if let Some(server) = &self.server_reference {
            write!(f, ", pointing to {server:?}")?;
        }
        Ok(())
    }
}

/// What [`super::Session::end`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The broker forgets the session with this DISCONNECT.
    Done,
    /// MQTT 3.1.1 cannot say so: connect once more with [`super::Settings::ends_session`], then disconnect.
    NeedsCleanConnection,
}

impl Ending {
    pub(super) fn of(version: Version) -> Self {
        match version {
            Version::V5 => Self::Done,
            Version::V311 => Self::NeedsCleanConnection,
        }
    }
}
