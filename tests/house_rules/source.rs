//! Rust sources read as text: what is code, what names follow a path. Called by the rules beside it.

/// A source file: its path from the repository's root, with `/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.into(),
        }
    }
    /// Module path inside its crate: `proxy/src/http/body.rs` is `["http", "body"]`, `mod.rs` and `lib.rs` add nothing.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inner = self.path.split_once("/src/").map_or("", |(_, inner)| inner);
        let mut parts: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        parts
    }
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
    /// What comes before the file's own unit tests.
    pub(crate) fn without_tests(&self) -> &str {
        self.text
            .match_indices("#[cfg(test)]")
            .find(|(at, mark)| {
                let next = self.text[at + mark.len()..].trim_start();
                let line = next.lines().find(|line| !line.starts_with("#[")).unwrap_or_default();
                line.starts_with("mod ") && line.ends_with('{')
            })
            .map_or(self.text.as_str(), |(at, _)| &self.text[..at])
    }
    pub(crate) fn code(&self) -> String {
        code_only(self.without_tests())
    }
}

/// The text with comments, strings and character literals blanked.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => until(&chars, at, &['\n'], 0),
            '/' if chars.get(at + 1) == Some(&'*') => until(&chars, at + 2, &['*', '/'], 2),
            'r' if matches!(chars.get(at + 1), Some('"' | '#')) && !follows_word(&chars, at) => raw_string(&chars, at),
            '"' => quoted(&chars, at, '"'),
            // A character literal, not a lifetime.
            '\'' if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => quoted(&chars, at, '\''),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn until(chars: &[char], from: usize, mark: &[char], keep: usize) -> usize {
    let found = (from..chars.len()).find(|at| chars[*at..].starts_with(mark));
    found.map_or(chars.len(), |at| at + keep)
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut mark = vec!['"'];
    mark.extend(std::iter::repeat_n('#', hashes));
    until(chars, at + 2 + hashes, &mark, mark.len())
}

fn quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

pub(crate) fn word_at(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// First names after `prefix::`, through one brace group: `crate::{a::b, c}` gives `a` and `c`.
pub(crate) fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = code[at + prefix.len()..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            names.push(word_at(rest).to_owned());
            continue;
        };
        let mut depth = 0usize;
        let mut expecting = true;
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expecting = true,
                c if expecting && (c.is_alphanumeric() || c == '_') => {
                    names.push(word_at(&group[index..]).to_owned());
                    expecting = false;
                }
                _ => {}
            }
        }
    }
    names
}

pub(crate) fn follows_word_str(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

pub(crate) fn names_called(code: &str, name: &str) -> bool {
    let call = format!("{name}(");
    code.match_indices(&call).any(|(at, _)| !follows_word_str(&code[..at]))
}
