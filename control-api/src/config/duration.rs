//! Durations in Go's syntax, which is what Istio's YAML takes: `1.5s`, `100ms`, `1h10m`.

use std::time::Duration;

/// Longest duration that is taken; the proxy refuses longer ones too.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// In nanoseconds; a longer name before a shorter one that it starts with.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Zero, or at least a millisecond and whole milliseconds, as Istio demands.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("a duration must not be negative".to_owned());
    }
    if !text.is_empty() && text != "0" && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("has no unit: a duration is written like 2s or 500ms".to_owned());
    }
    let nanoseconds = nanoseconds(text.strip_prefix('+').unwrap_or(text))
        .ok_or("not a duration: write it like `1.5s`, `100ms` or `1h10m`")?;
    let duration = u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos);
    if duration > LONGEST {
        return Err("a duration must not be longer than a year".to_owned());
    }
    if duration.subsec_nanos() % 1_000_000 != 0 {
        return Err("a duration must be whole milliseconds, at least 1ms".to_owned());
    }
    Ok(duration)
}

fn nanoseconds(text: &str) -> Option<u128> {
    match text {
        "" => return None,
        "0" => return Some(0),
        _ => {}
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|digit: char| !digit.is_ascii_digit() && digit != '.')?;
        let (figure, after) = rest.split_at(number);
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| {
            after
                .strip_prefix(unit)
                .is_some_and(|next| next.is_empty() || next.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        })?;
        total = total.checked_add(scaled(figure, scale)?)?;
        rest = after.get(unit.len()..)?;
    }
    Some(total)
}

fn scaled(figure: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = figure.split_once('.').unwrap_or((figure, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut total = if whole.is_empty() {
        0
    } else {
        whole.parse::<u128>().ok()?.checked_mul(scale)?
    };
    let mut place = scale;
    // Digits below a nanosecond change nothing.
    for digit in fraction.bytes().take(20) {
        place = place.checked_div(10)?;
        total = total.checked_add(place.checked_mul(u128::from(digit.checked_sub(b'0')?))?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1.s", 1_000),
            ("100ms", 100),
            ("1h10m", 4_200_000),
            ("1m30.5s", 90_500),
            ("2000us", 2),
            ("3000µs", 3),
            ("+5s", 5_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for text in [
            "", "5", "s", "1", "1d", "1 s", "1.2.3s", "1s ", "one", ".s", "1sm", "+", "1e3s", "1.5",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["5", "1.5", "30"] {
            assert!(parse(text).unwrap_err().contains("has no unit"), "{text}");
        }
        assert!(parse("-1s").unwrap_err().contains("negative"));
        assert!(parse("1us").unwrap_err().contains("1ms"));
        assert!(parse("1.0005s").unwrap_err().contains("milliseconds"));
        assert!(parse("9000h").unwrap_err().contains("year"));
        assert!(parse(&format!("{}h", "9".repeat(60))).is_err());
    }
}
