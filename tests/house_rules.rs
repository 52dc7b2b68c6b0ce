//! The rules of the house, read from the sources themselves: which room may import which, how long a file may be, what
//! a name may not be called. Standard library only; every rule is proven to fail on a sample that breaks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "house_rules/rules.rs"]
mod rules;
#[path = "house_rules/source.rs"]
mod source;

use rules::*;
use source::Source;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is one folder below the root")
        .to_owned()
}

/// All files below `folders`, without build output.
fn sources(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "target" | ".git") {
                open.extend(
                    fs::read_dir(&path)
                        .expect("a readable folder")
                        .flatten()
                        .map(|entry| entry.path()),
                );
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            let inner = path
                .strip_prefix(&root)
                .expect("below the root")
                .to_string_lossy()
                .replace('\\', "/");
            found.push(Source {
                path: inner,
                text: fs::read_to_string(&path).expect("a readable text file"),
            });
        }
    }
    assert!(!found.is_empty(), "nothing found below {folders:?}");
    found
}

fn assert_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

const PRODUCT: &[&str] = &["proto/src", "proxy/src", "control-api/src"];
const ALL: &[&str] = &["proto", "proxy", "control-api", "tests", "benches"];

#[test]
fn a_room_imports_lower_floors_and_itself() {
    let mut broken = Vec::new();
    for (folder, floors) in [("proxy/src", PROXY_FLOORS), ("control-api/src", CONTROL_FLOORS)] {
        let files = sources(&[folder], &[".rs"]);
        broken.extend(
            files
                .iter()
                .filter(|f| !f.is_test())
                .flat_map(|file| import_direction(file, floors)),
        );
    }
    assert_none(broken);
}

#[test]
fn an_import_of_the_same_or_a_higher_floor_is_found() {
    let check = |path: &str, text: &str| import_direction(&Source::new(path, text), PROXY_FLOORS).len();
    assert_eq!(check("proxy/src/upstream/pool.rs", "use crate::snapshot::Cluster;"), 1);
    assert_eq!(
        check(
            "proxy/src/upstream/pool.rs",
            "use crate::{clock, http::{body, x}, limits};"
        ),
        1
    );
    assert_eq!(check("proxy/src/http/mod.rs", "fn f() { super::listener::start() }"), 1);
    assert_eq!(check("proxy/src/http/body.rs", "use super::super::tcp;"), 1);
    assert_eq!(check("proxy/src/nowhere/mod.rs", ""), 1);
    assert_eq!(
        check(
            "proxy/src/http/body.rs",
            "use crate::http::x; use crate::limits::Permit; // crate::listener"
        ),
        0
    );
    assert_eq!(
        check(
            "proxy/src/http/body.rs",
            "#[cfg(test)]\nmod tests {\n use crate::listener; }"
        ),
        0
    );
}

#[test]
fn no_file_is_longer_than_500_lines_of_code() {
    assert_none(sources(ALL, &[".rs"]).iter().flat_map(file_length).collect());
}

#[test]
fn a_file_that_is_too_long_is_found_and_its_unit_tests_do_not_count() {
    let long = "x\n".repeat(LONGEST_FILE + 1);
    assert_eq!(file_length(&Source::new("a.rs", &long)).len(), 1);
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}", "x\n".repeat(LONGEST_FILE));
    assert_eq!(file_length(&Source::new("a.rs", &tested)).len(), 0);
    assert_eq!(
        file_length(&Source::new("a.rs", &format!("#[cfg(test)]\nmod tests;\n{long}"))).len(),
        1
    );
}

#[test]
fn every_file_opens_by_saying_what_it_decides() {
    assert_none(sources(ALL, &[".rs"]).iter().flat_map(file_header).collect());
}

#[test]
fn a_file_without_a_header_is_found() {
    assert_eq!(file_header(&Source::new("a.rs", "use std::fs;\n//! late")).len(), 1);
    assert_eq!(file_header(&Source::new("a.rs", "//! placeholder")).len(), 1);
    assert_eq!(file_header(&Source::new("a.rs", "//! Decides.")).len(), 0);
}

#[test]
fn generated_types_are_named_only_where_the_wire_is_spoken() {
    assert_none(sources(PRODUCT, &[".rs"]).iter().flat_map(wire_types).collect());
}

#[test]
fn a_generated_type_elsewhere_is_found() {
    let check = |path: &str, text: &str| wire_types(&Source::new(path, text)).len();
    assert_eq!(check("proxy/src/http/x.rs", "use tsunagi_proto::wire::mesh;"), 1);
    assert_eq!(check("proxy/src/http/x.rs", "use tsunagi_proto::{model, wire};"), 1);
    assert_eq!(check("proxy/src/http/x.rs", "use crate::firewire::a; // wire::mesh"), 0);
    assert_eq!(check("proxy/src/xds/x.rs", "use tsunagi_proto::wire::mesh;"), 0);
}

#[test]
fn names_say_what_a_thing_is() {
    assert_none(sources(ALL, &[".rs"]).iter().flat_map(banned_names).collect());
}

#[test]
fn an_empty_name_is_found() {
    let check = |path: &str, text: &str| banned_names(&Source::new(path, text)).len();
    assert_eq!(check("proxy/src/util.rs", ""), 1);
    assert_eq!(check("proxy/src/common/mod.rs", ""), 1);
    assert_eq!(
        check(
            "proxy/src/x.rs",
            "pub struct PoolManager; enum TcpBackend {} mod helpers {}"
        ),
        3
    );
    assert_eq!(
        check(
            "proxy/src/x.rs",
            "type Data = u8; // struct PoolManager\nconst S: &str = \"struct XInfo\";"
        ),
        0
    );
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let folders = &[
        "proto",
        "proxy",
        "control-api",
        "tests",
        "benches",
        "deploy",
        ".ci",
        ".github",
        "README.md",
    ];
    let endings = &[
        ".rs",
        ".toml",
        ".md",
        ".yml",
        ".yaml",
        ".proto",
        ".Dockerfile",
        "run",
        ".json",
    ];
    assert_none(sources(folders, endings).iter().flat_map(machine_paths).collect());
}

#[test]
fn a_path_of_one_machine_is_found() {
    let path = ["see /wo", "rk/main"].concat();
    assert_eq!(machine_paths(&Source::new("a.md", &path)).len(), 1);
    let relative = ["net", "/wo", "rk/main"].concat();
    assert_eq!(machine_paths(&Source::new("a.md", &relative)).len(), 0);
}

#[test]
fn the_planes_never_import_each_other() {
    let mut broken: Vec<String> = sources(PRODUCT, &[".rs"]).iter().flat_map(planes_apart).collect();
    for (folder, other) in [
        ("proxy", "tsunagi"),
        ("control-api", "tsunagi-proxy"),
        ("proto", "tsunagi-proxy"),
    ] {
        let path = format!("{folder}/Cargo.toml");
        let text = fs::read_to_string(root().join(&path)).expect("a manifest");
        broken.extend(planes_apart_in_manifest(&path, &text, other));
    }
    assert_none(broken);
}

#[test]
fn an_import_of_the_other_plane_is_found() {
    let check = |path: &str, text: &str| planes_apart(&Source::new(path, text)).len();
    assert_eq!(check("proxy/src/x.rs", "use tsunagi::config;"), 1);
    assert_eq!(check("control-api/src/x.rs", "use tsunagi_proxy::http;"), 1);
    assert_eq!(check("proto/src/x.rs", "use tsunagi_proxy::http;"), 1);
    assert_eq!(check("proxy/src/x.rs", "use tsunagi_proto::model;"), 0);
    assert_eq!(
        planes_apart_in_manifest("m", "tsunagi.workspace = true", "tsunagi").len(),
        1
    );
    assert_eq!(
        planes_apart_in_manifest("m", "tsunagi-proto.workspace = true", "tsunagi").len(),
        0
    );
}

#[test]
fn end_to_end_tests_wait_for_conditions_and_never_sleep() {
    let files = sources(&["tests"], &[".rs"]);
    let tests = files.iter().filter(|file| !file.path.starts_with("tests/harness/"));
    assert_none(tests.flat_map(no_sleeps).collect());
}

#[test]
fn a_sleep_is_found() {
    assert_eq!(
        no_sleeps(&Source::new("tests/a.rs", "tokio::time::sleep(d).await")).len(),
        1
    );
    assert_eq!(no_sleeps(&Source::new("tests/a.rs", "no_sleep(); // sleep(")).len(), 0);
}

#[test]
fn every_end_to_end_test_file_is_run() {
    let manifest = fs::read_to_string(root().join("tests/Cargo.toml")).expect("a manifest");
    let files = sources(&["tests"], &[".rs"]);
    let top = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("tests/"))
        .filter(|path| !path.contains('/'));
    let forgotten = top.filter(|path| !manifest.contains(&format!("path = \"{path}\"")));
    assert_none(
        forgotten
            .map(|path| format!("tests/Cargo.toml does not name {path}"))
            .collect(),
    );
}

#[test]
fn readme_names_files_and_tests_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let text_of = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_default();
    let mut broken = readme_paths(&readme, |path| root().join(path).exists(), text_of);
    let rows = feature_rows(&readme);
    assert!(rows.len() >= 10, "README's table of features has {} rows", rows.len());
    for row in rows {
        let [feature, field, file, metric, test] = row.as_slice() else {
            broken.push(format!("README.md: not five columns: {row:?}"));
            continue;
        };
        if feature.is_empty() || field.is_empty() || metric.is_empty() {
            broken.push(format!("README.md: an empty cell: {row:?}"));
        }
        if !file.contains('/') || !test.contains(".rs") {
            broken.push(format!("README.md: no file or no test: {row:?}"));
        }
    }
    assert_none(broken);
}

#[test]
fn a_path_in_readme_that_is_gone_is_found() {
    let files = BTreeMap::from([("tests/a.rs", "fn it_works() {}")]);
    let check = |readme: &str| {
        let text_of = |path: &str| files.get(path).copied().unwrap_or_default().to_owned();
        readme_paths(readme, |path| files.contains_key(path), text_of).len()
    };
    assert_eq!(check("| x | `proxy/src/gone.rs` |"), 1);
    assert_eq!(check("| x | `tests/a.rs::it_is_gone` |"), 1);
    assert_eq!(check("| x | `tests/a.rs::it_works` and `tests/a.rs` and `a/b` |"), 0);
    assert_eq!(feature_rows("| feature | b |\n|---|---|\n| 1 | 2 |\n\n| 3 |").len(), 1);
}
