//! What a session is opened with, checked once so that no packet made from it can be malformed.

use std::{fmt, num::NonZeroU16, time::Duration};

use crate::pipeline::mapping::Filter;

/// Longest string or binary that MQTT can carry [MQTT-1.5.4].
pub const STRING_BYTES_MAX: usize = u16::MAX as usize;
/// Most filters that a session may want. Each costs a line in SUBSCRIBE at every connection, and stands in the replicated state of every
/// shard; more than this is a wildcard's work.
pub const FILTERS_MAX: usize = 256;

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0: not acknowledged.
    AtMostOnce = 0,
    /// 1: acknowledged with PUBACK.
    AtLeastOnce = 1,
    /// 2: acknowledged with PUBREC and PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

/// What a session is opened with.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Version to speak.
    pub version: Version,
    /// Names the session at the broker: the same on every node, for ever.
    pub client_id: String,
    /// User name, if the broker asks for one.
    pub username: Option<String>,
    /// Password. MQTT 3.1.1 allows one only with a user name.
    pub password: Option<Vec<u8>>,
    /// Longest wait for CONNACK: a broker that needs more is as good as down, and the next server may not be.
    pub connack_within: Duration,
    /// Longest silence towards the broker, in whole seconds; 0: no limit, and a dead connection is not noticed.
    pub keep_alive: Duration,
    /// Most unacknowledged readings of `QoS` 1 and 2 that the broker may send (MQTT 5; 3.1.1 has no such word).
    pub receive_maximum: NonZeroU16,
    /// Highest `QoS` to subscribe with.
    pub qos: Qos,
    /// Filters as subscribed, with `$share/<group>/` where shared.
    pub filters: Vec<String>,
    /// Largest packet to accept, in bytes. A larger one ends the connection and stays at the broker: it is not announced
    /// in CONNECT, because a broker throws away unsent what is over an announced limit [MQTT-3.1.2-25].
    pub packet_bytes_max: usize,
    /// The broker has had this session before, so that its absence is a loss.
    pub expects_session: bool,
    /// Connect only to make the broker forget the session: clean, nothing subscribed. Disconnect after [`super::Event::Connected`].
    pub ends_session: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("qos", &self.qos)
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}

/// Settings that MQTT cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A string is longer than MQTT can carry, or holds U+0000.
    #[error("{what} is not usable in MQTT: give at most {STRING_BYTES_MAX} bytes without U+0000")]
    String {
        /// Which one.
        what: &'static str,
    },
    /// The client id is empty: a session needs a name to be found again.
    #[error("the client id is empty: a session needs a name to be found again")]
    NoClientId,
    /// MQTT 3.1.1 carries a password only with a user name [MQTT-3.1.2-22].
    #[error("MQTT 3.1.1 carries a password only with a user name: give a user name, or use version 5")]
    PasswordAlone,
    /// A filter breaks the rules of MQTT 4.7.
    #[error("{filter:?} cannot be subscribed to: {why}")]
    Filter {
        /// As given.
        filter: String,
        /// The rule that it breaks.
        why: String,
    },
    /// Too many filters.
    #[error("{count} filters are more than the {FILTERS_MAX} of one session: join some with wildcards")]
    TooManyFilters {
        /// As given.
        count: usize,
    },
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.client_id.is_empty() {
            return Err(SettingsError::NoClientId);
        }
        check_string("the client id", &self.client_id)?;
        if let Some(username) = &self.username {
            check_string("the user name", username)?;
        }
        if self.password.as_ref().is_some_and(|password| password.len() > STRING_BYTES_MAX) {
            return Err(SettingsError::String { what: "the password" });
        }
        if self.version == Version::V311 && self.password.is_some() && self.username.is_none() {
            return Err(SettingsError::PasswordAlone);
        }
        // However many: those that earlier revisions wanted are among them.
        self.filters.iter().try_for_each(|filter| check_filter(filter))
    }

    pub(super) fn keep_alive_secs(&self) -> u16 {
        let secs = self.keep_alive.as_secs().max(u64::from(!self.keep_alive.is_zero()));
        u16::try_from(secs).unwrap_or(u16::MAX)
    }
}

/// Checks what a session is to be subscribed to.
pub(super) fn check_wanted(filters: &[String]) -> Result<(), SettingsError> {
    if filters.len() > FILTERS_MAX {
        return Err(SettingsError::TooManyFilters { count: filters.len() });
    }
    filters.iter().try_for_each(|filter| check_filter(filter))
}

fn check_filter(filter: &str) -> Result<(), SettingsError> {
    check_string("a filter", filter)?;
    match filter_fault(filter) {
        None => Ok(()),
        Some(why) => Err(SettingsError::Filter { filter: filter.to_owned(), why }),
    }
}

/// The part of a filter that topics are matched with: without `$share/<group>/`.
pub(super) fn unshared(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, rest)| rest)
}

fn check_string(what: &'static str, text: &str) -> Result<(), SettingsError> {
    if text.len() > STRING_BYTES_MAX || text.contains('\0') { Err(SettingsError::String { what }) } else { Ok(()) }
}

/// The group is looked at here, the filter behind it by the rules of [`Filter`].
fn filter_fault(filter: &str) -> Option<String> {
    let levels = if let Some(rest) = filter.strip_prefix("$share/") {
        let Some((group, levels)) = rest.split_once('/') else {
            return Some("$share/<group>/<filter> needs a filter [MQTT-4.8.2-1]".to_owned());
        };
        if group.is_empty() || group.contains(['+', '#']) {
            return Some("a share group is not empty and holds no '+' or '#' [MQTT-4.8.2-1]".to_owned());
        }
        levels
    } else {
        filter
    };
    levels.parse::<Filter>().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_may_have_more_filters_than_it_may_want() {
        let filters: Vec<_> = (0..2 * FILTERS_MAX).map(|number| format!("a/{number}")).collect();
        assert_eq!(check_wanted(&filters), Err(SettingsError::TooManyFilters { count: 2 * FILTERS_MAX }));
        assert_eq!(check_wanted(&filters[..FILTERS_MAX]), Ok(()));
        assert_eq!(filters.iter().try_for_each(|filter| check_filter(filter)), Ok(()), "of earlier revisions");
    }

    #[test]
    fn filters_follow_mqtt_4_7() {
        for good in ["a", "/", "+", "#", "a/+/#", "+/b", "$share/g/a/+", "$share/g/#", "$share/g//", "ü/ b"] {
            assert_eq!(filter_fault(good), None, "{good}");
        }
        for bad in ["", "a+", "a/#/b", "a#", "$share/g", "$share//a", "$share/g/", "$share/+/a", "a\0"] {
            assert!(filter_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn unshared_is_what_topics_are_matched_with() {
        assert_eq!(unshared("$share/g/a/b"), Some("a/b"));
        assert_eq!(unshared("a/b"), None);
    }
}
