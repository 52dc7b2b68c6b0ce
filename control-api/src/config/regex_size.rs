//! How much memory a compiled regex takes, estimated from its text in one pass and never too low: called before anything
//! is compiled, because compiling is what costs. A counted repetition costs what it repeats, as often as it may.

/// One state of the automaton, in bytes.
const STATE: u64 = 64;
/// A class of ASCII ranges: a state, and so much for each character that it is written with.
const RANGE: u64 = 16;
/// What may be any character of Unicode but some: `.`, `[^/]`, `\D`.
const ANY: u64 = 40 * STATE;
/// A class of Unicode, such as `\pL`, or ranges of it in any case.
const PROPERTY: u64 = 192 << 10;
/// What every regex takes, however short.
const EMPTY: u64 = 16 * STATE;
/// In any case: a letter has two or three forms.
const FOLDED: u64 = 4;

/// A group under way: what stands finished in it, and the atom that a repetition would repeat.
#[derive(Default)]
struct Group {
    finished: u64,
    atom: u64,
}

impl Group {
    fn push(&mut self, atom: u64) {
        self.finished = self.total();
        self.atom = atom;
    }

    fn total(&self) -> u64 {
        self.finished.saturating_add(self.atom)
    }
}

/// Of a pattern that is RE2 syntax; anything for what is none.
pub fn bytes(pattern: &str) -> u64 {
    let folded = folds(pattern);
    let mut open = Vec::new();
    let mut group = Group::default();
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
        match next {
            '(' => {
                open.push(std::mem::take(&mut group));
                if let Some(flags) = rest.strip_prefix('?') {
                    // `:` or a name follows, which is told apart from a literal at no gain.
                    rest = flags;
                }
            }
            ')' => {
                let closed = group.total().saturating_add(2 * STATE);
                group = open.pop().unwrap_or_default();
                group.push(closed);
            }
            '|' => group.push(2 * STATE),
            '*' | '+' | '?' => group.atom = group.atom.saturating_mul(2).saturating_add(2 * STATE),
            '{' => {
                let (times, after) = repetition(rest);
                group.atom = group.atom.saturating_add(2 * STATE).saturating_mul(times);
                rest = after;
            }
            '.' => group.push(ANY),
            '\\' => {
                let (size, after) = escape(rest);
                group.push(size);
                rest = after;
            }
            '[' => {
                let (size, after) = class(rest, folded);
                group.push(size);
                rest = after;
            }
            literal => group.push(of_literal(literal, folded)),
        }
    }
    let total = open
        .iter()
        .fold(group.total(), |total, group| total.saturating_add(group.total()));
    total.saturating_add(EMPTY)
}

/// Are there flags that make it ignore case?
fn folds(pattern: &str) -> bool {
    let flags = |start: &str| start.split([')', ':']).next().is_some_and(|flags| flags.contains('i'));
    pattern.split("(?").skip(1).any(flags)
}

fn of_literal(literal: char, folded: bool) -> u64 {
    let states = literal.len_utf8() as u64 * STATE;
    if folded { states * FOLDED * 4 } else { states }
}

/// After `{`: how often at most, and what follows the braces.
fn repetition(rest: &str) -> (u64, &str) {
    let Some((counts, after)) = rest.split_once('}') else {
        return (1, rest);
    };
    let most = counts
        .split(',')
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .max();
    // `{3,}` is three and a loop.
    (most.unwrap_or(1).saturating_add(1), after)
}

/// After a backslash.
fn escape(rest: &str) -> (u64, &str) {
    let Some(escaped) = rest.chars().next() else {
        return (0, rest);
    };
    let after = rest.get(escaped.len_utf8()..).unwrap_or_default();
    match escaped {
        'D' | 'W' | 'S' => (ANY, after),
        'd' | 'w' | 's' => (STATE + 8 * RANGE, after),
        'p' | 'P' => (PROPERTY, braces(after)),
        'x' | 'u' | 'U' => (16 * STATE, braces(after)),
        literal => (of_literal(literal, true), after),
    }
}

/// What follows `{..}`, if that comes next.
fn braces(rest: &str) -> &str {
    let inside = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
    inside.map_or(rest, |(_, after)| after)
}

/// After `[`.
fn class(rest: &str, folded: bool) -> (u64, &str) {
    let negated = rest.starts_with('^');
    let mut rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut size = if negated { ANY } else { STATE };
    let mut first = true;
    while let Some(next) = rest.chars().next() {
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
        size = match next {
            ']' if !first => break,
            '\\' => {
                let by_number = rest.starts_with(['x', 'u', 'U']);
                let (inner, after) = escape(rest);
                rest = after;
                size.saturating_add(if by_number && folded { PROPERTY } else { inner })
            }
            '[' => {
                let (name, after) = rest.split_once(":]").unwrap_or((rest, ""));
                rest = after;
                size.saturating_add(if name.starts_with(":^") {
                    ANY
                } else {
                    8 * FOLDED * RANGE
                })
            }
            ascii if ascii.is_ascii() && !folded => size.saturating_add(RANGE),
            ascii if ascii.is_ascii() => size.saturating_add(FOLDED * STATE),
            _ if folded => size.saturating_add(PROPERTY),
            _ => size.saturating_add(12 * STATE),
        };
        first = false;
    }
    (size, rest)
}

#[cfg(test)]
mod tests {
    use regex::bytes::RegexBuilder;

    use super::*;

    /// Does it compile within so many bytes?
    fn fits(pattern: &str, bytes: u64) -> bool {
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
        RegexBuilder::new(pattern).size_limit(limit).build().is_ok()
    }

    #[test]
    fn no_pattern_is_larger_than_its_estimate() {
        for pattern in [
            "a",
            "/user/[0-9]+",
            ".*",
            ".{100}",
            "[a-z]{0,900}",
            "(?:[a-z]{0,30}){30}",
            "(a|b|cd){500}",
            "[^/]{400}",
            "[^a-z0-9]{1,300}",
            r"\pL+",
            r"\p{Greek}{3}",
            r"\PL",
            r"[\pL\pN]{4}",
            "(?i)[k-s]{200}",
            "(?i)straße{50}",
            "(?i)[à-ÿ]{3}",
            r"(?i)[\x{100}-\x{24F}\x{370}-\x{1FFF}]{3}",
            r"(?i)\x{17F}{9}",
            "(?i)[[:alpha:]]{60}",
            "[0-9A-Za-z_-]{60}",
            "é{900}",
            "[à-ÿα-ω]{100}",
            r"[\x{100}-\x{10FFFF}]{20}",
            r"(?:\x{1F600}){300}",
            "((a{10}){10}){10}",
            "(?P<name>x{3,}){7,}",
            "[[:^alpha:]]{40}",
            "a?b*c+",
            "(a*)*",
            "(?:a{5}|b{6}){7}",
            "()",
            "[]a]{9}",
        ] {
            assert!(fits(pattern, bytes(pattern)), "{pattern}: {}", bytes(pattern));
        }
    }

    #[test]
    fn usual_patterns_are_small_and_repetitions_multiply() {
        for pattern in ["v[12]", ".*", "/api/v[0-9]+/users/[^/]+", r"^[\w.-]+@example\.com$"] {
            assert!(bytes(pattern) < 16 << 10, "{pattern}: {}", bytes(pattern));
        }
        assert!(bytes("[a-z]{0,900}") > 100 << 10);
        assert!(bytes("((a{1000}){1000}){1000}") > 1 << 30);
        assert!(bytes(&"(a{1000}".repeat(50)) > 0);
        assert_eq!(bytes(&format!("a{}", "{1000}".repeat(50))), u64::MAX);
    }
}
