//! Regexes are RE2 syntax, as in Istio. The `regex` crate, which runs them, knows more: what it would read differently
//! from RE2 is refused here, so that a rule never means something else than it does in Istio.

use tsunagi_proto::model::full_match;

/// Istio's limit.
const LONGEST_BYTES: usize = 1024;
/// RE2's limit.
const MOST_REPEATS: u32 = 1000;

pub(super) fn check(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("a regex must not be empty".to_owned());
    }
    if pattern.len() > LONGEST_BYTES {
        return Err(format!("a regex must not be longer than {LONGEST_BYTES} bytes"));
    }
    re2_only(pattern)?;
    full_match(pattern).map(drop).map_err(|error| {
        // The crate draws the pattern with a caret; its last line is the reason.
        let reason = error.lines().last().unwrap_or_default();
        format!("not a regex: {}", reason.strip_prefix("error: ").unwrap_or(reason))
    })
}

fn re2_only(pattern: &str) -> Result<(), String> {
    let mut rest = pattern;
    let mut repeated = false;
    while let Some(next) = rest.chars().next() {
        let after = rest.get(next.len_utf8()..).unwrap_or_default();
        let repeats = matches!(next, '*' | '+' | '?' | '{');
        if repeats && repeated {
            return Err(format!("`{next}` repeats a repetition, which is not RE2 syntax"));
        }
        rest = match next {
            '\\' => escape(after)?,
            '[' => class(after)?,
            '(' => group(after)?,
            '{' => repeat(after)?,
            _ => after,
        };
        if repeats {
            // As few as will do.
            rest = rest.strip_prefix('?').unwrap_or(rest);
        }
        repeated = repeats;
    }
    Ok(())
}

fn escape(after: &str) -> Result<&str, String> {
    let unlike = |what: &str| Err(format!("`\\{what}` is not RE2 syntax"));
    match after.chars().next() {
        Some('<') => unlike("<"),
        Some('>') => unlike(">"),
        Some('b') if after.starts_with("b{") => unlike("b{"),
        Some(by_number @ ('u' | 'U')) => unlike(&by_number.to_string()),
        Some('p' | 'P' | 'x') if after.get(1..).is_some_and(|name| name.starts_with('{')) => {
            Ok(after.split_once('}').map_or("", |(_, rest)| rest))
        }
        Some('Q') => Err("`\\Q…\\E` is not supported: escape each character".to_owned()),
        Some(escaped) => Ok(after.get(escaped.len_utf8()..).unwrap_or_default()),
        None => Ok(after),
    }
}

/// After `[`.
fn class(after: &str) -> Result<&str, String> {
    let mut rest = after.strip_prefix('^').unwrap_or(after);
    rest = rest.strip_prefix(']').unwrap_or(rest);
    while let Some(next) = rest.chars().next() {
        for operator in ["&&", "--", "~~"] {
            if rest.starts_with(operator) {
                return Err(format!("`{operator}` in a character class is ambiguous: escape it"));
            }
        }
        let after = rest.get(next.len_utf8()..).unwrap_or_default();
        rest = match next {
            ']' => return Ok(after),
            '\\' => escape(after)?,
            '[' if after.starts_with(':') => match after.find(":]") {
                Some(end) => after.get(end + 2..).unwrap_or_default(),
                None => return Err("`[:` without `:]`".to_owned()),
            },
            '[' => return Err("`[` in a character class is ambiguous: write `\\[`".to_owned()),
            _ => after,
        };
    }
    Ok(rest)
}

/// After `(`.
fn group(after: &str) -> Result<&str, String> {
    let Some(flags) = after.strip_prefix('?') else {
        return Ok(after);
    };
    let end = flags.find([':', ')', '<', '=', '!', 'P', '#']).unwrap_or(flags.len());
    match flags
        .get(..end)
        .unwrap_or_default()
        .chars()
        .find(|flag| !"imsU-".contains(*flag))
    {
        Some(flag) => Err(format!("the flag `{}` is not RE2 syntax", flag.escape_debug())),
        None => Ok(flags),
    }
}

/// After `{`, up to what follows the `}`.
fn repeat(after: &str) -> Result<&str, String> {
    let (counts, rest) = after.split_once('}').unwrap_or((after, ""));
    let too_many = counts.split(',').any(|count| match count.parse::<u32>() {
        Ok(count) => count > MOST_REPEATS,
        Err(_) => !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()),
    });
    if too_many {
        Err(format!("a repetition must not be above {MOST_REPEATS}"))
    } else if !counts.starts_with(|first: char| first.is_ascii_digit())
        || !counts.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
    {
        // To RE2 it is text.
        Err("`{` without a number: write `\\{`".to_owned())
    } else {
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re2_patterns_are_taken() {
        for pattern in [
            "v[12]",
            ".*",
            "/user/\\d+",
            "(?i)abc",
            "(?P<x>a)",
            "[[:alpha:]]+",
            "[]a]",
            "[^]a]",
            "a{2,5}",
            "(?:a|b)",
            "\\[",
            "[\\[]",
            "\\p{Greek}{2}[\\p{Latin}]\\x{41}",
            "a*?b+?c??d{2}?",
            "(?:a*)*",
            "(a{2}){3}",
            "a\\{ 2}",
            "[*+?{ 2}]",
            "a|b{3,}|c{0,1}",
        ] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_re2_reads_differently_or_not_at_all_is_refused() {
        for pattern in [
            "",
            "*",
            "(",
            "a)(b",
            "[a&&b]",
            "[a--b]",
            "[a[b]]",
            "(?x)a b",
            "(?u)a",
            "\\<a",
            "a\\b{start}",
            "a{1001}",
            "(?=a)",
            "(a)\\1",
            "\\Qa\\E",
            "[a",
            "a{99999999999}",
            "a{ 2}",
            "a{2 }",
            "a{x}",
            "a{,2}",
            "a**",
            "a++",
            "a*??",
            "a{2}{3}",
            "\\u0041",
            "[\\u0041]",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        assert!(check(&"a".repeat(1025)).unwrap_err().contains("1024"));
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(check("(a").unwrap_err(), "not a regex: unclosed group");
    }

    #[test]
    fn a_pattern_too_large_to_compile_is_refused() {
        assert!(check("((a{900}){900}){900}").is_err());
    }
}
