//! Times and counts as people and programs read them.

use jiff::Timestamp;

/// RFC 3339 in UTC, to the millisecond; nothing for 0.
pub(super) fn time(unix_ms: u64) -> Option<String> {
    let unix_ms = i64::try_from(unix_ms).ok().filter(|ms| *ms > 0)?;
    Some(format!("{:.3}", Timestamp::from_millisecond(unix_ms).ok()?))
}

/// How long ago that was, in the largest unit that says something: `12s`, `5m`, `3h`, `8d`.
pub(super) fn since(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
    age(now_ms.saturating_sub(unix_ms))
}

/// A span of milliseconds in the largest unit that says something.
pub(super) fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// An enum of the interface as a word: `PIPELINE_STATE_RUNNING` without its prefix, in lower case, with hyphens.
pub(super) fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => "unknown".to_owned(),
        word => word.to_ascii_lowercase().replace('_', "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_spans_are_short() {
        assert_eq!(time(1_763_829_000_123).as_deref(), Some("2025-11-22T16:30:00.123Z"));
        assert_eq!(time(0), None);
        assert_eq!(
            [age(999), age(119_999), age(120_000), age(7_200_000), age(172_800_000)],
            ["999ms", "119s", "2m", "2h", "2d"]
        );
        assert_eq!(word("TASK_STATE_BACK_PRESSURE", "TASK_STATE_"), "back-pressure");
    }
}
