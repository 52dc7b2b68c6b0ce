//! Wall-clock time as the control plane shows it: Kubernetes timestamps and ages. Called by `ingest` (creation
//! timestamps) and `cli` (the AGE column). Time is passed in everywhere, so that tests choose it.

use std::time::{Duration, SystemTime};

/// Where a room reads the time from.
pub type Clock = fn() -> SystemTime;

/// RFC 3339 in UTC with whole seconds, as `metadata.creationTimestamp` has it.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How long ago `timestamp` was, in kubectl's short form (`42s`, `7m`, `3h`, `5d`); `<unknown>` when it is no time.
pub fn age(timestamp: &str, now: SystemTime) -> String {
    let Ok(then) = humantime::parse_rfc3339(timestamp) else {
        return "<unknown>".to_owned();
    };
    short(now.duration_since(then).unwrap_or(Duration::ZERO))
}

fn short(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_in_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        assert_eq!(timestamp(time), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn an_age_is_short_like_kubectls() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let shown = |seconds| age("2023-11-14T22:13:20Z", start + Duration::from_secs(seconds));
        assert_eq!(shown(42), "42s");
        assert_eq!(shown(7 * 60), "7m");
        assert_eq!(shown(3 * 3_600), "3h");
        assert_eq!(shown(5 * 86_400), "5d");
    }

    #[test]
    fn a_timestamp_in_the_future_is_no_age_and_a_broken_one_is_unknown() {
        assert_eq!(age("2023-11-14T22:13:20Z", SystemTime::UNIX_EPOCH), "0s");
        assert_eq!(age("yesterday", SystemTime::UNIX_EPOCH), "<unknown>");
    }
}
