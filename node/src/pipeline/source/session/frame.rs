//! Where the next packet ends [MQTT-2.1], known before it is buffered whole.

use super::error::SessionError;

/// A whole packet at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Length of the fixed header.
    pub(super) header_bytes: usize,
    /// Length of the packet, fixed header included.
    pub(super) bytes: usize,
}

/// The packet at the front of `input`; none while it is incomplete.
#[inline]
pub(super) fn frame(input: &[u8], bytes_max: usize) -> Result<Option<Frame>, SessionError> {
    let Some((remaining, header_bytes)) = remaining_length(input)? else { return Ok(None) };
    let bytes = header_bytes + remaining;
    if bytes > bytes_max {
        return Err(SessionError::PacketTooLarge { bytes, max: bytes_max });
    }
    Ok((input.len() >= bytes).then_some(Frame { header_bytes, bytes }))
}

fn remaining_length(input: &[u8]) -> Result<Option<(usize, usize)>, SessionError> {
    let Some(rest) = input.get(1..) else { return Ok(None) };
    match varint(rest) {
        Varint::Whole { value, bytes } => Ok(Some((value, 1 + bytes))),
        Varint::Cut => Ok(None),
        Varint::Overlong => Err(SessionError::protocol("a remaining length of more than four bytes [MQTT-1.5.5]")),
    }
}

/// A variable byte integer [MQTT-1.5.5].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Varint {
    Whole { value: usize, bytes: usize },
    Cut,
    Overlong,
}

#[inline]
pub(super) fn varint(input: &[u8]) -> Varint {
    let mut value = 0;
    for (i, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Varint::Whole { value, bytes: i + 1 };
        }
    }
    if input.len() < 4 { Varint::Cut } else { Varint::Overlong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_known_by_its_length_before_it_is_there() {
        assert_eq!(frame(&[], 100), Ok(None));
        assert_eq!(frame(&[0x30], 100), Ok(None));
        assert_eq!(frame(&[0x30, 0x80], 100), Ok(None));
        assert_eq!(frame(&[0x30, 2, 0], 100), Ok(None));
        assert_eq!(frame(&[0x30, 2, 0, 0, 9], 100), Ok(Some(Frame { header_bytes: 2, bytes: 4 })));
    }

    #[test]
    fn a_packet_over_the_limit_is_refused_from_its_header() {
        assert_eq!(frame(&[0x30, 0xE4, 0x01], 100), Err(SessionError::PacketTooLarge { bytes: 231, max: 100 }));
        assert!(frame(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX).is_err());
    }
}
