//! A request's path as rules and endpoints see it: one text for each resource, so that none gets by a rule in other letters.
//!
//! Source: Envoy's `normalize_path`, which Istio sets in every sidecar (its path normalization `BASE`), found out by asking
//! Envoy 1.40: dot segments are resolved, also where they are escaped or have parameters (`..;a=b`); `\` is a slash;
//! escapes of letters, digits and `-._~` are resolved, all others stay to the letter; what no path may have is escaped. `//`,
//! `%2F` and `%5C` stay, and so does the query, which is not looked at.

use std::iter::once;

const DOT: u8 = 1;
const ODD: u8 = 2;

/// What could make a path another than it is.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < kinds.len() {
        kinds[byte] = match byte as u8 {
            b'.' => DOT,
            b'%' | b'\\' => ODD,
            other if is_escaped(other) => ODD,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's path has a zero byte (%00)")]
pub struct ZeroByte;

/// `path` is without its query. `None`: it is as it should be, which takes one look at each byte and no memory.
pub fn normalized_path(path: &str) -> Result<Option<String>, ZeroByte> {
    let kinds = path.bytes().fold(0, |kinds, byte| kinds | KINDS[usize::from(byte)]);
    let is_plain = match kinds {
        0 => true,
        DOT => !path.contains("/."),
        _ => false,
    };
    if is_plain || !path.starts_with('/') {
        return Ok(None);
    }
    let normalized = normalize(path)?;
    Ok((normalized != path).then_some(normalized))
}

fn normalize(path: &str) -> Result<String, ZeroByte> {
    let segments = path.split('/').skip(1);
    let segments = segments.flat_map(|segment| without_parameters(segment).split('\\'));
    let mut out = vec![b'/'];
    // Before each segment, `out` ends in a slash.
    let mut is_name = false;
    for segment in segments {
        is_name = false;
        match dots(segment) {
            Some(1) => {}
            Some(_) => back_up(&mut out),
            None => {
                write_name(segment.as_bytes(), &mut out)?;
                out.push(b'/');
                is_name = true;
            }
        }
    }
    if is_name {
        out.pop();
    }
    Ok(String::from_utf8(out).expect("whole characters of ASCII alone were replaced"))
}

/// Applications may take `..;a=b` for `..`.
fn without_parameters(segment: &str) -> &str {
    match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    }
}

/// One or two, escaped or not, if that is all there is.
fn dots(segment: &str) -> Option<usize> {
    let (mut rest, mut count) = (segment.as_bytes(), 0);
    while count < 2 && !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return None,
        };
        count += 1;
    }
    (count > 0 && rest.is_empty()).then_some(count)
}

/// Nothing is above the root.
fn back_up(out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.pop();
        let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        out.truncate(parent + 1);
    }
}

fn write_name(name: &[u8], out: &mut Vec<u8>) -> Result<(), ZeroByte> {
    // Where the last `%` went that begins no escape.
    let mut stray = None;
    let mut rest = name;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (*byte, escaped(after)) {
            (b'%', None) => {
                stray = Some(out.len());
                out.push(b'%');
            }
            (b'%', Some(0)) => return Err(ZeroByte),
            (b'%', Some(said)) => {
                let (digits, behind) = after.split_at(2);
                if is_unreserved(said) {
                    out.push(said);
                } else {
                    out.extend(once(&b'%').chain(digits));
                }
                rest = behind;
            }
            (byte, _) if is_escaped(byte) => out.extend(format!("%{byte:02X}").bytes()),
            (byte, _) => out.push(byte),
        }
        // What was resolved must not make an escape of it.
        if let Some(at) = stray
            && out.len() == at + 3
            && escaped(&out[at + 1..]).is_some()
        {
            out.splice(at + 1..at + 1, *b"25");
            stray = None;
        }
    }
    Ok(())
}

/// What the two digits behind a `%` stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What no path may have as it is, although clients send it.
const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
