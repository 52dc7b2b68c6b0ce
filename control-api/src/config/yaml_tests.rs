//! Tests of the trees: lines, aliases, merges, bounds.

use super::*;
use serde_json::json;

fn trees(text: &str) -> Vec<Tree> {
    let mut trees = Vec::new();
    each_tree(text, |tree| {
        trees.push(tree);
        ControlFlow::Continue(())
    });
    trees
}

fn value(text: &str) -> Value {
    let mut trees = trees(text);
    assert_eq!(trees.len(), 1, "{text}");
    let tree = trees.remove(0);
    assert!(tree.faults.is_empty(), "{}", tree.faults[0].reason);
    tree.root
        .unwrap()
        .to_value()
        .unwrap_or_else(|fault| panic!("{}", fault.reason))
}

fn fault(text: &str) -> (u32, String) {
    let mut trees = trees(text);
    let mut tree = trees.remove(0);
    if tree.faults.is_empty() {
        let fault = tree.root.unwrap().to_value().err().unwrap();
        return (fault.line, fault.reason);
    }
    let fault = tree.faults.remove(0);
    (fault.line, fault.reason)
}

fn path(steps: &[&str]) -> Vec<Step> {
    steps
        .iter()
        .map(|step| step.parse().map_or(Step::Key((*step).to_owned()), Step::Index))
        .collect()
}

#[test]
fn a_field_is_found_on_its_line_and_a_missing_one_on_its_parents() {
    let text = "# comment\na:\n  b:\n  - c: 1\n    d: 2\n\n  - e\nf: {g: 1,\n  h: 2}\n";
    let tree = trees(text).remove(0);
    let root = tree.root.unwrap();
    for (steps, line) in [
        (&["a"][..], 2),
        (&["a", "b"], 3),
        (&["a", "b", "0"], 4),
        (&["a", "b", "0", "d"], 5),
        (&["a", "b", "1"], 7),
        (&["f", "h"], 9),
        (&["a", "missing"], 2),
        (&["a", "b", "0", "missing", "deeper"], 4),
        (&[], 2),
    ] {
        assert_eq!(root.line_of(&path(steps)), line, "{steps:?}");
    }
}

#[test]
fn documents_are_apart_and_empty_ones_are_left_out() {
    let text = "---\n# only a comment\n---\na: 1\n---\n---\n~\n...\n---\nb: 2\n";
    let lines: Vec<u32> = trees(text).iter().map(|tree| tree.line).collect();
    assert_eq!(lines, [4, 10]);
    assert!(trees("").is_empty() && trees("\u{feff}").is_empty() && trees("---\n---\n").is_empty());
}

#[test]
fn windows_and_byte_order_marks_change_nothing() {
    assert_eq!(value("\u{feff}a: 1\r\nb:\r\n- c\r\n"), json!({"a": 1, "b": ["c"]}));
    let tree = trees("a: 1\r\nb: 2\r\n").remove(0);
    assert_eq!(tree.root.unwrap().line_of(&path(&["b"])), 2);
}

#[test]
fn json_is_read_too_with_tabs() {
    let text = "{\n\t\"a\": [1, \"\\u00e9\\/\", {\"b\": null}],\n\t\"c\":true\n}\n";
    assert_eq!(value(text), json!({"a": [1, "é/", {"b": null}], "c": true}));
}

#[test]
fn an_alias_stands_for_its_anchor_and_a_merge_gives_way() {
    let text =
        "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\none: *base\ntwo:\n  <<: [*base, *other]\n  a: 9\n";
    let read = value(text);
    assert_eq!(read["one"], json!({"a": 1, "b": 2}));
    assert_eq!(read["two"], json!({"a": 9, "b": 2, "c": 4}));
    let root = trees(text).remove(0).root.unwrap();
    assert_eq!(root.line_of(&path(&["two", "c"])), 2);
    assert_eq!(root.line_of(&path(&["two", "a"])), 6);
}

#[test]
fn a_duplicate_key_is_refused_on_its_line() {
    assert_eq!(
        fault("a:\n  b: 1\n  c: 2\n  b: 3\n"),
        (4, "the key \"b\" is there already, on line 2".into())
    );
}

#[test]
fn what_is_not_yaml_is_refused_on_its_line_and_the_next_document_is_read() {
    let trees = trees("a: 1\n---\nb: [1, 2\n---\nc: 3\n");
    assert_eq!(trees.len(), 3);
    assert!(trees[0].root.is_some() && trees[1].root.is_none() && trees[2].root.is_some());
    assert!(trees[1].faults[0].reason.starts_with("not YAML: "));
    let (line, reason) = fault("a:\n\tb: 1\n");
    assert_eq!(line, 2, "{reason}");
    assert!(reason.contains("tab"), "{reason}");
}

#[test]
fn keys_must_be_text_and_tags_known() {
    assert!(fault("? [a]\n: 1\n").1.contains("key must be text"));
    assert!(fault("a: !custom 1\n").1.contains("!custom"));
    assert!(fault("a: !!binary aGk=\n").1.contains("binary"));
    assert!(fault("a: !!int x\n").1.contains("!!int"));
    assert_eq!(value("a: !!str 1\n"), json!({"a": "1"}));
}

#[test]
fn an_alias_bomb_is_refused_without_growing() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    assert!(fault(&text).1.contains("expand to too much"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), ["*a"; 1000].join(","));
    assert!(fault(&long).1.contains("expand to too much"));
    let merged = format!(
        "a: &a {{k: {}}}\nb: [{}]\n",
        "x".repeat(100_000),
        ["{<<: *a}"; 1000].join(",")
    );
    assert!(fault(&merged).1.contains("expand to too much"));
}

#[test]
fn deep_nesting_is_refused_however_it_is_written() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "a: ".repeat(100_000),
    ] {
        trees(&text);
    }
    assert!(!trees(&"[".repeat(1000)).remove(0).faults.is_empty());
    let mut chain = String::from("- &a0 [x]\n");
    (1..5000).for_each(|n| chain.push_str(&format!("- &a{n} [*a{}]\n", n - 1)));
    assert!(fault(&chain).1.contains("deep"));
}

#[test]
fn an_alias_inside_its_own_anchor_is_refused() {
    assert!(fault("a: &a [*a]\n").1.contains("anchor"));
    assert!(fault("a: *nobody\n").1.contains("anchor"));
}

#[test]
fn a_document_of_too_many_values_is_refused() {
    assert!(
        fault(&format!("[{}]", "a,".repeat(MOST_NODES + 1)))
            .1
            .contains("more than 1000000 values")
    );
    let several = format!("[{}]\n---\n", "a,".repeat(MOST_NODES * 2 / 3)).repeat(2);
    assert!(trees(&several).iter().all(|tree| tree.faults.is_empty()));
}

#[test]
fn reading_stops_when_nobody_wants_more() {
    let mut taken = 0;
    each_tree("a: 1\n---\nb: 2\n---\nc: 3\n", |_| {
        taken += 1;
        if taken == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(taken, 2);
}
