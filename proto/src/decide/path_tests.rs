//! Paths and what becomes of them, as Envoy 1.40 with `normalize_path` passed each on.

use super::*;

/// Of Envoy 1.40; `None` is 400.
const CASES: &[(&str, Option<&str>)] = &[
    ("/a/../b", Some("/b")),
    ("/a/./b", Some("/a/b")),
    ("/a//b", Some("/a//b")),
    ("//a", Some("//a")),
    ("/a%2fb", Some("/a%2fb")),
    ("/a%2Fb", Some("/a%2Fb")),
    ("/a%2e%2e/b", Some("/a../b")),
    ("/%2e%2e/b", Some("/b")),
    (r"/a\b", Some("/a/b")),
    ("/%41", Some("/A")),
    ("/a;b=1/../c", Some("/c")),
    ("/a/..", Some("/")),
    ("/a/.", Some("/a/")),
    ("/.", Some("/")),
    ("/..", Some("/")),
    ("/../x", Some("/x")),
    ("/a/b/../../../c", Some("/c")),
    ("/../../x", Some("/x")),
    ("/a/../..", Some("/")),
    ("/a/b/..", Some("/a/")),
    ("/a/b/../", Some("/a/")),
    ("/a/b/.", Some("/a/b/")),
    ("/a/b/./", Some("/a/b/")),
    ("/%c0%af", Some("/%c0%af")),
    ("/a%00b", None),
    ("/%zz", Some("/%zz")),
    ("/a%", Some("/a%")),
    ("/a%4", Some("/a%4")),
    ("/%", Some("/%")),
    ("/%2", Some("/%2")),
    ("/%5c", Some("/%5c")),
    ("/%5C", Some("/%5C")),
    ("/%2E", Some("/")),
    ("/%2e/", Some("/")),
    ("/a/%2e/b", Some("/a/b")),
    ("/a/.%2e/b", Some("/b")),
    ("/a/%2E%2e/b", Some("/b")),
    ("/a/%2e./b", Some("/b")),
    ("/...", Some("/...")),
    ("/a/.../b", Some("/a/.../b")),
    ("/..a", Some("/..a")),
    ("/a../b", Some("/a../b")),
    ("/.a", Some("/.a")),
    ("/a./b", Some("/a./b")),
    ("/a/..b", Some("/a/..b")),
    ("/a//../b", Some("/a/b")),
    ("/a///../b", Some("/a//b")),
    ("//../b", Some("/b")),
    ("/..//a", Some("//a")),
    (r"/a\..\b", Some("/b")),
    (r"/a/..\b", Some("/b")),
    (r"/\a", Some("//a")),
    (r"/\\a", Some("///a")),
    (r"/a\.\b", Some("/a/b")),
    ("/a/..;/b", Some("/b")),
    ("/a;/../b", Some("/b")),
    ("/a/%2e%2e%2fb", Some("/a/..%2fb")),
    ("/a%2f..%2fb", Some("/a%2f..%2fb")),
    ("/a%2f../b", Some("/a%2f../b")),
    ("/%252e%252e/b", Some("/%252e%252e/b")),
    ("/a/%2e%2e", Some("/")),
    ("/%C3%A9", Some("/%C3%A9")),
    ("/%c3%a9", Some("/%c3%a9")),
    ("/%7e", Some("/~")),
    ("/%7E~", Some("/~~")),
    ("/%2D%5f%2e%5F", Some("/-_._")),
    ("/%25", Some("/%25")),
    ("/%2541", Some("/%2541")),
    ("/%3A", Some("/%3A")),
    ("/:", Some("/:")),
    ("/a:b", Some("/a:b")),
    ("/a%3ab", Some("/a%3ab")),
    ("/a@b", Some("/a@b")),
    ("/[a]", Some("/[a]")),
    ("/a%5Bb", Some("/a%5Bb")),
    ("/a%20b", Some("/a%20b")),
    ("/a+b", Some("/a+b")),
    ("/a%2Bb", Some("/a%2Bb")),
    ("/a%0Ab", Some("/a%0Ab")),
    ("/a%7Fb", Some("/a%7Fb")),
    ("/a%80b", Some("/a%80b")),
    ("/a%ffb", Some("/a%ffb")),
    ("/a%00", None),
    ("/%00/../b", None),
    ("/a%2500b", Some("/a%2500b")),
    ("/a/b%", Some("/a/b%")),
    ("/a/../%zz/..", Some("/")),
    ("/%u0041", Some("/%u0041")),
    ("/a/.;/b", Some("/a/b")),
    ("/a/..;x=1/b", Some("/b")),
    ("/a/..;", Some("/")),
    ("/a/.;", Some("/a/")),
    ("/a/%2e%2e;/b", Some("/a/..;/b")),
    ("/a/%2e;/b", Some("/a/.;/b")),
    ("/a/..%3b/b", Some("/a/..%3b/b")),
    ("/a/...;/b", Some("/a/...;/b")),
    ("/a/..;a/../b", Some("/b")),
    ("/a/;/b", Some("/a/;/b")),
    ("/a/;x/../b", Some("/a/b")),
    ("/a/..;x", Some("/")),
    (r"/a/..;\b", Some("/")),
    ("/a/..;/..;/b", Some("/b")),
    ("/;/a", Some("/;/a")),
    ("/..;/a", Some("/a")),
    ("/.;a", Some("/")),
    ("/a/.;x/b", Some("/a/b")),
    ("/a/.%2e;/c", Some("/a/..;/c")),
    ("/a/..;;/b", Some("/b")),
    ("/a/..;%2f/b", Some("/b")),
    ("/a/.x;/b", Some("/a/.x;/b")),
    ("/a/..{/b", Some("/a/..%7B/b")),
    ("/a/..:/b", Some("/a/..:/b")),
    ("/a/..,/b", Some("/a/..,/b")),
    ("/a/.{", Some("/a/.%7B")),
    (r"/a\..;\b", Some("/a/..;/b")),
    ("//", Some("//")),
    ("///", Some("///")),
    ("/a/b/..;/", Some("/a/")),
    ("/a/./", Some("/a/")),
    ("/a/..//b", Some("//b")),
    ("/a/.//b", Some("/a//b")),
    ("/a/b/..%2f", Some("/a/b/..%2f")),
    ("/a/b/..%5c..", Some("/a/b/..%5c..")),
    ("/a/%2", Some("/a/%2")),
    ("/a/.%2", Some("/a/.%2")),
    ("/a/.%", Some("/a/.%")),
    ("/a/..%", Some("/a/..%")),
    ("/a/..%2", Some("/a/..%2")),
    ("/a/.%2e%", Some("/a/..%")),
    ("/a/%2e%2e%2e/b", Some("/a/.../b")),
    ("/a/%2e%2e%00", None),
    ("/a%%41", Some("/a%A")),
    ("/a%4%41", Some("/a%254A")),
    ("/a/%2e.%2e/b", Some("/a/.../b")),
    ("/.%41", Some("/.A")),
    ("/..%41", Some("/..A")),
    ("/%2e%41", Some("/.A")),
    ("/%2e%2e%41/..", Some("/")),
    ("/a/.%5c", Some("/a/.%5c")),
    ("/a/..%5C/b", Some("/a/..%5C/b")),
    (r"/x/%2e\..\y", Some("/y")),
    ("/a/b/.%2E", Some("/a/")),
    ("/a%7c|", Some("/a%7c%7C")),
    ("/a%2e/", Some("/a./")),
    ("/a%2e%2f", Some("/a.%2f")),
    ("/a~!$&'()*+,;=:@b", Some("/a~!$&'()*+,;=:@b")),
    ("/%21%24%26%27%28%29%2a", Some("/%21%24%26%27%28%29%2a")),
    (r#"/a/..;"/b"#, Some("/b")),
    ("/a/..;..", Some("/")),
    ("/a/..;/../b", Some("/b")),
    ("/a;/..;x/b;/c", Some("/b;/c")),
    ("/%%341", Some("/%2541")),
    ("/%%41B", Some("/%25AB")),
    ("/%%%34%31", Some("/%%2541")),
    ("/%4%31x", Some("/%2541x")),
    ("/%%30%30", Some("/%2500")),
    ("/a/%%32e%2e/b", Some("/a/%252e./b")),
    ("/a/%252e%252e/b", Some("/a/%252e%252e/b")),
    ("/%25%34%31", Some("/%2541")),
    ("/a%zz%41", Some("/a%zzA")),
    ("/a%4%4", Some("/a%4%4")),
    ("/%%2e", Some("/%.")),
    ("/a/%%2e./b", Some("/a/%../b")),
    ("/a.b/c.d", Some("/a.b/c.d")),
    ("/.well-known/x", Some("/.well-known/x")),
    ("/a/.b", Some("/a/.b")),
    ("/v1.2/..", Some("/")),
    ("/pkg.Service/Method", Some("/pkg.Service/Method")),
    ("/%4a%4A%6e", Some("/JJn")),
    ("/a%2f%2F%5c%5C%3b%3B", Some("/a%2f%2F%5c%5C%3b%3B")),
    ("/a/%2e%2E/../b/./c//", Some("/b/c//")),
    ("/a/b/%2e%2e/%2e%2e/%2e%2e/c", Some("/c")),
    (r#"/"<>^`{|}"#, Some("/%22%3C%3E%5E%60%7B%7C%7D")),
    ("/%22%3c%3e%5e%60%7b%7c%7d", Some("/%22%3c%3e%5e%60%7b%7c%7d")),
    ("/%41%42%43/../d", Some("/d")),
    (r"/a/%2e%2e\b\.\c", Some("/b/c")),
];

#[test]
fn paths_become_what_envoy_makes_of_them() {
    for (sent, wanted) in CASES {
        let seen = normalized_path(sent).map(|changed| changed.unwrap_or_else(|| (*sent).to_owned()));
        assert_eq!(seen.ok().as_deref(), *wanted, "{sent}");
    }
}

#[test]
fn of_all_escapes_only_those_of_unreserved_characters_are_resolved() {
    for byte in 1..=u8::MAX {
        for sent in [format!("/a%{byte:02x}b"), format!("/a%{byte:02X}b")] {
            let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let wanted = unreserved.then(|| format!("/a{}b", char::from(byte)));
            assert_eq!(normalized_path(&sent), Ok(wanted), "{sent}");
        }
    }
    for sent in ["/%00", "/a/%00/../b", "/a%00?", "/%41%00"] {
        assert_eq!(normalized_path(sent), Err(ZeroByte), "{sent}");
    }
}

#[test]
fn what_is_no_path_and_what_is_beyond_ascii_stays() {
    for sent in [
        "",
        "*",
        "a/../b",
        "/caf\u{e9}",
        "/caf\u{e9}/x.y",
        "/pkg.Service/Method",
        "//a//b/",
    ] {
        assert_eq!(normalized_path(sent), Ok(None), "{sent}");
    }
    assert_eq!(
        normalized_path("/\u{e9}/../caf\u{e9}%41").ok().flatten().as_deref(),
        Some("/caf\u{e9}A")
    );
}

#[test]
fn a_long_path_takes_time_that_grows_as_it_does() {
    let deep = format!("/{}{}", "a/".repeat(20_000), "../".repeat(20_001));
    assert_eq!(normalized_path(&deep).ok().flatten().as_deref(), Some("/"));
    let stray = format!("/{}", "%%41".repeat(16_000));
    let normalized = normalized_path(&stray).ok().flatten().unwrap();
    assert_eq!(normalized.len(), 1 + 16_000 * 2);
    assert_eq!(normalized_path(&format!("/{}", "..%2f".repeat(10_000))), Ok(None));
}
