//! Why a connection of a session had to end, and what to do about it.

use std::{borrow::Cow, fmt, time::Duration};

/// Why a connection of a session had to end. The session itself lives on: connect again, after a back-off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The broker answered CONNECT with a refusal.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The broker said in CONNACK that it lacks something the session needs.
    #[error("the MQTT broker does not offer {what}: {remedy}")]
    NotOffered {
        /// What it lacks.
        what: &'static str,
        /// What an operator can do.
        remedy: &'static str,
    },
    /// The broker sent what the protocol forbids, or what is not MQTT at all.
    #[error("the MQTT broker broke the protocol: {0}")]
    Protocol(Cow<'static, str>),
    /// A packet is over the limit of this session; the broker keeps it and will send it again.
    #[error(
        "the MQTT broker sent a packet of {bytes} bytes, more than the {max} allowed: raise packet_bytes_max or remove the reading at the broker"
    )]
    PacketTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The broker is silent.
    #[error("no {what} from the MQTT broker for {after:?}")]
    NoAnswer {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The connection has ended already.
    #[error("the session is not connected")]
    NotConnected,
}

impl SessionError {
    /// False: trying again cannot help before an operator has mended something. The driver tries all the same, at its
    /// longest interval, because what must be mended is mostly at the broker, which tells nobody.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.is_retryable(),
            Self::NotOffered { .. } | Self::PacketTooLarge { .. } => false,
            Self::Protocol(_) | Self::NoAnswer { .. } | Self::NotConnected => true,
        }
    }

    pub(super) fn protocol(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Protocol(what.into())
    }
}

/// The broker's refusal of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason code of MQTT 5; a return code of MQTT 3.1.1 is given as its counterpart.
    pub code: u8,
    /// The broker's own words (MQTT 5).
    pub reason: Option<String>,
    /// Where the broker says to go instead (MQTT 5).
    pub server_reference: Option<String>,
}

impl Refused {
    /// The code's name in the specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        reason_name(self.code)
    }

    /// What an operator can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.code {
            0x84 => "set the source's version to one that the broker speaks",
            0x85 => "allow the client id at the broker",
            0x86 | 0x8C => "check the source's username and password",
            0x87 => "check the source's username and password, and this user's right to connect with this client id",
            0x8A => "lift the ban at the broker",
            0x9C | 0x9D => "change the source's servers",
            0x95 | 0x97 | 0x9F => "raise the broker's limit",
            _ => "look into the broker's log; it is tried again",
        }
    }

    /// False: an operator must mend something first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.code, 0x80 | 0x83 | 0x88 | 0x89 | 0x97 | 0x9F)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the MQTT broker refused the connection: {} (0x{:02X})", self.name(), self.code)?;
        if let Some(reason) = &self.reason {
            write!(f, ", saying {reason:?}")?;
        }
        if let Some(server) = &self.server_reference {
            write!(f, ", pointing to {server:?}")?;
        }
        write!(f, ": {}", self.remedy())
    }
}

/// Name of a reason code of MQTT 5, section 2.4.
#[must_use]
pub fn reason_name(code: u8) -> &'static str {
    match code {
        0x00 => "success",
        0x04 => "disconnect with will",
        0x11 => "no subscription existed",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8A => "banned",
        0x8B => "server shutting down",
        0x8C => "bad authentication method",
        0x8D => "keep alive timeout",
        0x8E => "session taken over",
        0x8F => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x92 => "packet identifier not found",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9A => "retain not supported",
        0x9B => "qos not supported",
        0x9C => "use another server",
        0x9D => "server moved",
        0x9E => "shared subscriptions not supported",
        0x9F => "connection rate exceeded",
        0xA0 => "maximum connect time",
        0xA1 => "subscription identifiers not supported",
        0xA2 => "wildcard subscriptions not supported",
        _ => "unknown reason",
    }
}
