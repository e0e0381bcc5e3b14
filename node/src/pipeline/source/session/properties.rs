//! Properties of a PUBLISH [MQTT-3.3.2.3]: walked once when received, so that their shape is known to be sound; read only by who wants them.
//!
//! Values are bytes, as Kafka's header values are: a broker that let an ill-formed string through must not stop a shard.

use bytes::Bytes;

use super::{
    error::SessionError,
    frame::{Varint, varint},
};

/// MQTT 5 properties of a reading, as they came. Empty for MQTT 3.1.1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Bytes);

/// One property of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 1: the payload is UTF-8.
    PayloadFormat(u8),
    /// Seconds that were left when the broker sent it.
    MessageExpirySecs(u32),
    /// MIME type of the payload.
    ContentType(&'a [u8]),
    /// Topic to answer on.
    ResponseTopic(&'a [u8]),
    /// Names the request that an answer belongs to.
    CorrelationData(&'a [u8]),
    /// Which of our subscriptions matched.
    SubscriptionId(u32),
    /// A pair of the publisher's.
    User(&'a [u8], &'a [u8]),
}

impl Properties {
    /// Checks the shape of `raw`: the properties without their length.
    pub(super) fn checked(raw: Bytes) -> Result<Self, SessionError> {
        let mut rest = &raw[..];
        while !rest.is_empty() {
            take(&mut rest)?;
        }
        Ok(Self(raw))
    }

    /// A copy that no longer shares the read buffer.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// None there?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = Property<'_>> {
        let mut rest = &self.0[..];
        // `checked` has walked the same bytes, so that the walk cannot fail here.
        std::iter::from_fn(move || if rest.is_empty() { None } else { take(&mut rest).ok() })
    }

    /// MIME type of the payload.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.iter().find_map(|property| if let Property::ContentType(value) = property { Some(value) } else { None })
    }

    /// Names the request that an answer belongs to.
    #[must_use]
    pub fn correlation_data(&self) -> Option<&[u8]> {
        self.iter()
            .find_map(|property| if let Property::CorrelationData(value) = property { Some(value) } else { None })
    }

    /// The publisher's pairs, in the order they came; a name may come more than once.
    pub fn user(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter()
            .filter_map(|property| if let Property::User(name, value) = property { Some((name, value)) } else { None })
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Property<'a>, SessionError> {
    let [id] = array(rest)?;
    Ok(match id {
        0x01 => Property::PayloadFormat(array::<1>(rest)?[0]),
        0x02 => Property::MessageExpirySecs(u32::from_be_bytes(array(rest)?)),
        0x03 => Property::ContentType(string(rest)?),
        0x08 => Property::ResponseTopic(string(rest)?),
        0x09 => Property::CorrelationData(string(rest)?),
        0x0B => Property::SubscriptionId(number(rest)?),
        0x26 => Property::User(string(rest)?, string(rest)?),
        // CONNECT announced a Topic Alias Maximum of 0 [MQTT-3.3.2-11].
        0x23 => return Err(SessionError::protocol("a topic alias, although none is allowed [MQTT-3.3.2-11]")),
        _ => return Err(SessionError::protocol(format!("property {id} in a PUBLISH [MQTT-2.2.2.2]"))),
    })
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], SessionError> {
    let (head, tail) = rest.split_first_chunk().ok_or_else(cut)?;
    *rest = tail;
    Ok(*head)
}

fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SessionError> {
    let length = usize::from(u16::from_be_bytes(array(rest)?));
    let (head, tail) = rest.split_at_checked(length).ok_or_else(cut)?;
    *rest = tail;
    Ok(head)
}

fn number(rest: &mut &[u8]) -> Result<u32, SessionError> {
    let Varint::Whole { value, bytes } = varint(rest) else { return Err(cut()) };
    *rest = &rest[bytes..];
    // Four groups of seven bits.
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

fn cut() -> SessionError {
    SessionError::protocol("properties that end in the middle of one [MQTT-2.2.2]")
}
