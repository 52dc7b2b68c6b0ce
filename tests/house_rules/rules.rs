//! The rules themselves: pure functions from a source to what is wrong with it, so that a sample can break each one.

use crate::source::{Source, code_only, follows_word_str, names_after, names_called, word_at};

/// Rooms and their floors: a room imports lower floors and itself.
pub(crate) const PROXY_FLOORS: &[(&str, u8)] = &[
    ("app", 6),
    ("main", 6),
    ("listener", 5),
    ("xds", 5),
    ("admin", 5),
    ("http", 4),
    ("tcp", 4),
    ("snapshot", 3),
    ("upstream", 2),
    ("dns", 2),
    ("codec", 1),
    ("net", 1),
    ("redirect", 1),
    ("tls", 1),
    ("limits", 1),
    ("bootstrap", 0),
    ("clock", 0),
    ("drain", 0),
    ("error", 0),
    ("telemetry", 0),
];
pub(crate) const CONTROL_FLOORS: &[(&str, u8)] = &[
    ("app", 6),
    ("main", 8),
    ("cli", 7),
    ("api", 5),
    ("analyze", 4),
    ("ingest", 4),
    ("explain", 4),
    ("xds", 5),
    ("inject", 4),
    ("webhook", 5),
    ("kubernetes", 5),
    ("canary", 5),
    ("snapshot", 3),
    ("status", 3),
    ("ca", 2),
    ("store", 2),
    ("config", 1),
    ("body", 0),
    ("bootstrap", 0),
    ("clock", 0),
    ("error", 0),
    ("telemetry", 0),
];
pub(crate) const LONGEST_FILE: usize = 500;
/// Rooms of the products that may name generated types; everything else speaks `model`.
const WIRE_ROOMS: &[&str] = &[
    "proto/src/wire.rs",
    "proto/src/model",
    "proxy/src/xds",
    "control-api/src/xds",
    "control-api/src/api",
    "control-api/src/snapshot",
];
const BANNED_FILES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "misc", "manager", "backend",
];
const BANNED_ENDINGS: &[&str] = &[
    "Manager", "Handler", "Helper", "Helpers", "Util", "Utils", "Data", "Info", "Impl", "Backend",
];

pub(crate) fn import_direction(source: &Source, floors: &[(&str, u8)]) -> Vec<String> {
    let floor = |room: &str| floors.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
    let module = source.module();
    let Some(room) = module.first().copied() else {
        return Vec::new();
    };
    let Some(own) = floor(room) else {
        return vec![format!("{}: the room `{room}` is on no floor", source.path)];
    };
    let code = source.code();
    let mut named = names_after(&code, "crate::");
    // `super::` climbing as far as the crate's root is an import by another name.
    named.extend(names_after(&code, &"super::".repeat(module.len())));
    let wrong = |name: &&String| name.as_str() != room && floor(name).is_some_and(|theirs| theirs >= own);
    named
        .iter()
        .filter(wrong)
        .map(|name| format!("{}: {room} ({own}) imports {name}", source.path))
        .collect()
}

pub(crate) fn file_length(source: &Source) -> Vec<String> {
    let lines = source.without_tests().lines().count();
    let too_long = lines > LONGEST_FILE;
    too_long
        .then(|| format!("{}: {lines} lines of code, at most {LONGEST_FILE}", source.path))
        .into_iter()
        .collect()
}

pub(crate) fn file_header(source: &Source) -> Vec<String> {
    let opens = source.text.starts_with("//! ") && !source.text.starts_with("//! placeholder");
    (!opens)
        .then(|| format!("{}: does not open with `//!`", source.path))
        .into_iter()
        .collect()
}

pub(crate) fn wire_types(source: &Source) -> Vec<String> {
    if source.is_test() || WIRE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
        return Vec::new();
    }
    let code = source.code();
    let named = code
        .match_indices("wire::")
        .any(|(at, _)| !follows_word_str(&code[..at]))
        || names_after(&code, "tsunagi_proto::").iter().any(|name| name == "wire");
    named
        .then(|| format!("{}: names generated wire types", source.path))
        .into_iter()
        .collect()
}

pub(crate) fn banned_names(source: &Source) -> Vec<String> {
    let in_path = source.path.split(['/', '.']).filter(|part| BANNED_FILES.contains(part));
    let mut found: Vec<String> = in_path
        .map(|part| format!("{}: a file called {part}", source.path))
        .collect();
    let code = code_only(&source.text);
    for keyword in ["struct ", "enum ", "trait ", "type ", "mod "] {
        for (at, _) in code
            .match_indices(keyword)
            .filter(|(at, _)| !follows_word_str(&code[..*at]))
        {
            let name = word_at(&code[at + keyword.len()..]);
            // `type Data` alone is how a foreign trait calls its associated type.
            let foreign = keyword == "type " && BANNED_ENDINGS.contains(&name);
            if !foreign && BANNED_ENDINGS.iter().any(|end| name.ends_with(end)) || BANNED_FILES.contains(&name) {
                found.push(format!("{}: {keyword}{name}", source.path));
            }
        }
    }
    found
}

pub(crate) fn machine_paths(source: &Source) -> Vec<String> {
    // In pieces, so that this file does not find itself.
    let marks = [["/wo", "rk/"], ["/fa", "rm/"], ["/ro", "ot/"], ["/ho", "me/"]].map(|pieces| pieces.concat());
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let starts_a_path = |(at, _): (usize, &str)| {
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '>'))
        };
        if marks
            .iter()
            .any(|mark| line.match_indices(mark.as_str()).any(starts_a_path))
        {
            found.push(format!("{}:{}: a path of one machine", source.path, number + 1));
        }
    }
    found
}

pub(crate) fn planes_apart(source: &Source) -> Vec<String> {
    let code = code_only(&source.text);
    let other = match source.path.split('/').next() {
        Some("proxy") => "tsunagi::",
        Some("control-api") => "tsunagi_proxy",
        Some("proto") => return foreign(source, &code, &["tsunagi::", "tsunagi_proxy"]),
        _ => return Vec::new(),
    };
    foreign(source, &code, &[other])
}

fn foreign(source: &Source, code: &str, names: &[&str]) -> Vec<String> {
    let used = |name: &&&str| code.match_indices(**name).any(|(at, _)| !follows_word_str(&code[..at]));
    names
        .iter()
        .filter(used)
        .map(|name| format!("{}: imports {name}", source.path))
        .collect()
}

pub(crate) fn planes_apart_in_manifest(path: &str, text: &str, other: &str) -> Vec<String> {
    let depends = |line: &&str| {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        name == other
    };
    text.lines()
        .filter(depends)
        .map(|line| format!("{path}: {line}"))
        .collect()
}

/// No clock decides an end-to-end test: waiting is `eventually(condition, limit)`.
pub(crate) fn no_sleeps(source: &Source) -> Vec<String> {
    let sleeps = names_called(&code_only(&source.text), "sleep");
    sleeps.then(|| format!("{}: sleeps", source.path)).into_iter().collect()
}

/// Every path in README's code spans exists, and `file::test` names a test in it.
pub(crate) fn readme_paths(
    readme: &str,
    exists: impl Fn(&str) -> bool,
    text_of: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in readme.lines() {
        for span in line.split('`').skip(1).step_by(2) {
            let (path, test) = span
                .split_once("::")
                .map_or((span, None), |(path, test)| (path, Some(test)));
            let known = [
                "proto/",
                "proxy/",
                "control-api/",
                "tests/",
                "benches/",
                "deploy/",
                ".ci/",
            ];
            if !known.iter().any(|start| path.starts_with(start)) || path.contains(' ') {
                continue;
            }
            if !exists(path) {
                wrong.push(format!("README.md: {path} does not exist"));
            } else if let Some(test) = test
                && !text_of(path).contains(&format!("fn {test}("))
            {
                wrong.push(format!("README.md: {path} has no test {test}"));
            }
        }
    }
    wrong
}

pub(crate) fn feature_rows(readme: &str) -> Vec<Vec<String>> {
    let table = readme.lines().skip_while(|line| !line.starts_with("| feature |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    })
    .collect()
}
