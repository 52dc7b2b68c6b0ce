//! `%START_TIME(FORMAT)%`: a moment as text, in UTC, by the conversions of `strftime` and Envoy's `%f` family.
//!
//! The calendar arithmetic is Howard Hinnant's `civil_from_days`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(Vec<TimePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TimePart {
    Literal(String),
    Year,
    /// Of two digits.
    ShortYear,
    Month,
    MonthName,
    Day,
    SpacedDay,
    DayOfYear,
    WeekdayName,
    Hour,
    Minute,
    Second,
    /// So many digits of a second's fraction.
    Fraction(usize),
    /// Since 1970, with so many digits of the fraction and no point.
    Epoch(usize),
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Default for TimeFormat {
    /// `2026-01-31T23:59:59.123Z`.
    fn default() -> Self {
        let literal = |text: &str| TimePart::Literal(text.to_owned());
        let mut parts = date('-').to_vec();
        parts.push(literal("T"));
        parts.extend(time());
        parts.extend([literal("."), TimePart::Fraction(3), literal("Z")]);
        Self(parts)
    }
}

fn date(separator: char) -> [TimePart; 5] {
    let between = || TimePart::Literal(separator.to_string());
    [TimePart::Year, between(), TimePart::Month, between(), TimePart::Day]
}

fn time() -> [TimePart; 5] {
    let between = || TimePart::Literal(":".to_owned());
    [TimePart::Hour, between(), TimePart::Minute, between(), TimePart::Second]
}

impl TimeFormat {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                parts.push(TimePart::Literal(before.to_owned()));
            }
            rest = conversion(after, &mut parts)?;
        }
        if !rest.is_empty() {
            parts.push(TimePart::Literal(rest.to_owned()));
        }
        Ok(if parts.is_empty() { Self::default() } else { Self(parts) })
    }

    /// A time since 1970.
    pub fn write(&self, since_epoch: Duration, out: &mut Vec<u8>) {
        let seconds = since_epoch.as_secs();
        let days = seconds / 86_400;
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let fraction = |digits: usize| {
            let nanoseconds = u64::from(since_epoch.subsec_nanos());
            nanoseconds / 10_u64.pow(9 - digits.min(9) as u32)
        };
        for part in &self.0 {
            let text = match part {
                TimePart::Literal(text) => text.clone(),
                TimePart::Year => format!("{year:04}"),
                TimePart::ShortYear => format!("{:02}", year % 100),
                TimePart::Month => format!("{month:02}"),
                TimePart::MonthName => MONTHS[(month as usize - 1) % 12].to_owned(),
                TimePart::Day => format!("{day:02}"),
                TimePart::SpacedDay => format!("{day:2}"),
                TimePart::DayOfYear => format!("{:03}", days - days_before(year) + 1),
                TimePart::WeekdayName => WEEKDAYS[(days % 7) as usize].to_owned(),
                TimePart::Hour => format!("{hour:02}"),
                TimePart::Minute => format!("{minute:02}"),
                TimePart::Second => format!("{second:02}"),
                TimePart::Fraction(digits) => format!("{:0digits$}", fraction(*digits)),
                TimePart::Epoch(0) => seconds.to_string(),
                TimePart::Epoch(digits) => format!("{seconds}{:0digits$}", fraction(*digits)),
            };
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Of the text behind its percent sign; what follows it.
fn conversion<'t>(text: &'t str, parts: &mut Vec<TimePart>) -> Result<&'t str, String> {
    let literal = |text: &str| TimePart::Literal(text.to_owned());
    let unknown = |text: &str| {
        format!(
            "`%{text}` is no conversion of a time; known are %Y %y %m %b %d %e %j %a %H %M %S %T %F %D %R %s %3s %f %3f %E3S \
             %E3f %z %Z %n %%"
        )
    };
    for (prefix, suffix) in [("E", "S"), ("E", "f"), ("", "f"), ("", "s")] {
        let Some(rest) = text.strip_prefix(prefix) else {
            continue;
        };
        let Some(digit) = rest.bytes().next().filter(|byte| (b'1'..=b'9').contains(byte)) else {
            continue;
        };
        if let Some(rest) = rest[1..].strip_prefix(suffix) {
            let digits = usize::from(digit - b'0');
            match (prefix, suffix) {
                ("E", "S") => parts.extend([TimePart::Second, literal("."), TimePart::Fraction(digits)]),
                (_, "s") => parts.push(TimePart::Epoch(digits)),
                _ => parts.push(TimePart::Fraction(digits)),
            }
            return Ok(rest);
        }
    }
    let mut chars = text.chars();
    match chars.next() {
        Some('Y') => parts.push(TimePart::Year),
        Some('y') => parts.push(TimePart::ShortYear),
        Some('m') => parts.push(TimePart::Month),
        Some('b' | 'h') => parts.push(TimePart::MonthName),
        Some('d') => parts.push(TimePart::Day),
        Some('e') => parts.push(TimePart::SpacedDay),
        Some('j') => parts.push(TimePart::DayOfYear),
        Some('a') => parts.push(TimePart::WeekdayName),
        Some('H') => parts.push(TimePart::Hour),
        Some('M') => parts.push(TimePart::Minute),
        Some('S') => parts.push(TimePart::Second),
        Some('T') => parts.extend(time()),
        Some('R') => parts.extend(time().into_iter().take(3)),
        Some('F') => parts.extend(date('-')),
        Some('D') => parts.extend([
            TimePart::Month,
            literal("/"),
            TimePart::Day,
            literal("/"),
            TimePart::ShortYear,
        ]),
        Some('s') => parts.push(TimePart::Epoch(0)),
        Some('f') => parts.push(TimePart::Fraction(9)),
        Some('z') => parts.push(literal("+0000")),
        Some('Z') => parts.push(literal("UTC")),
        Some('%') => parts.push(literal("%")),
        Some(other) => return Err(unknown(&other.to_string())),
        None => return Err(unknown("")),
    }
    Ok(chars.as_str())
}

/// From 1970 to the year's first.
fn days_before(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    let since_zero = past * 365 + past / 4 - past / 100 + past / 400;
    since_zero.saturating_sub(719_162)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str, milliseconds: u64) -> String {
        let mut out = Vec::new();
        let format = TimeFormat::parse(format).unwrap();
        format.write(Duration::from_millis(milliseconds), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_moment_is_written_as_asked_for() {
        let leap_day = 1_709_251_199_123;
        for (format, text) in [
            ("", "2024-02-29T23:59:59.123Z"),
            ("%Y/%m/%dT%H:%M:%S%z", "2024/02/29T23:59:59+0000"),
            ("%F %T %Z", "2024-02-29 23:59:59 UTC"),
            ("%s.%3f", "1709251199.123"),
            ("%3s", "1709251199123"),
            ("%E3S|%f|%j", "59.123|123000000|060"),
            ("%a, %e %b %y %R %D 100%%", "Thu, 29 Feb 24 23:59 02/29/24 100%"),
        ] {
            assert_eq!(written(format, leap_day), text, "{format}");
        }
        assert_eq!(written("%a %j %e", 0), "Thu 001  1");
        assert_eq!(written("%j", 1_767_225_599_000), "365");
    }

    #[test]
    fn an_unknown_conversion_is_refused_by_name() {
        for bad in ["%Q", "%", "%0f", "a%E3"] {
            assert!(TimeFormat::parse(bad).is_err(), "{bad}");
        }
    }
}
