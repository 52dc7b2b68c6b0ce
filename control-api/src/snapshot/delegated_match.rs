//! The match of a rule that is delegated to, within the match of the one that delegates: both must hold.
//!
//! Follows Istio's `mergeHTTPMatchRequests` and its notion of a conflict, which is cautious: where one value cannot be
//! told to lie within the other, as of two regexes, the rule is not used at all. Called by `delegates` alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{HttpMatch, SourceMatch, StringMatch};

/// The fields of a match of the root and of a match of the delegate that do not go together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub root_field: String,
    pub field: String,
}

type Named = Vec<(String, Option<StringMatch>)>;

/// Without a match on one side, the other's are taken. Else each match of the delegate needs one of the root's around
/// it, and is there once for each of them.
pub(super) fn merge(root: &[HttpMatch], delegate: &[HttpMatch]) -> Result<Vec<HttpMatch>, Conflict> {
    if root.is_empty() {
        return Ok(delegate.to_vec());
    }
    if delegate.is_empty() {
        return Ok(root.to_vec());
    }
    let mut merged = Vec::new();
    for (number, inner) in delegate.iter().enumerate() {
        let before = merged.len();
        let mut conflict = None;
        for (index, outer) in root.iter().enumerate() {
            match conflicting_field(outer, inner) {
                None => merged.push(within(outer, inner)),
                Some(field) => {
                    conflict.get_or_insert_with(|| Conflict {
                        root_field: format!("match[{index}].{field}"),
                        field: format!("match[{number}].{field}"),
                    });
                }
            }
        }
        if let Some(conflict) = conflict.filter(|_| merged.len() == before) {
            return Err(conflict);
        }
    }
    Ok(merged)
}

/// `outer-inner`, or the one that there is.
pub(super) fn joined(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", inner) => inner.to_owned(),
        (outer, "") => outer.to_owned(),
        (outer, inner) => format!("{outer}-{inner}"),
    }
}

fn within(outer: &HttpMatch, inner: &HttpMatch) -> HttpMatch {
    let either = |outer: &Option<StringMatch>, inner: &Option<StringMatch>| inner.clone().or_else(|| outer.clone());
    let text = |outer: &str, inner: &str| if inner.is_empty() { outer } else { inner }.to_owned();
    HttpMatch {
        name: joined(&outer.name, &inner.name),
        uri: either(&outer.uri, &inner.uri),
        ignore_uri_case: inner.ignore_uri_case,
        method: either(&outer.method, &inner.method),
        authority: either(&outer.authority, &inner.authority),
        headers: named(&outer.headers, &inner.headers),
        without_headers: named(&outer.without_headers, &inner.without_headers),
        query_params: named(&outer.query_params, &inner.query_params),
        port: inner.port.or(outer.port),
        scheme: either(&outer.scheme, &inner.scheme),
        source: source(&outer.source, &inner.source),
        stat_prefix: text(&outer.stat_prefix, &inner.stat_prefix),
    }
}

/// Of both, sorted by name; the inner value counts.
fn named(outer: &Named, inner: &Named) -> Named {
    let all: BTreeMap<_, _> = outer.iter().chain(inner).cloned().collect();
    all.into_iter().collect()
}

fn source(outer: &SourceMatch, inner: &SourceMatch) -> SourceMatch {
    let mut labels = outer.labels.clone();
    labels.extend(inner.labels.clone());
    let gateways = if inner.gateways.is_empty() {
        &outer.gateways
    } else {
        &inner.gateways
    };
    SourceMatch {
        labels,
        namespace: inner.namespace.clone().or_else(|| outer.namespace.clone()),
        gateways: gateways.clone(),
    }
}

/// `None`: what the inner match takes is within what the outer one takes.
fn conflicting_field(outer: &HttpMatch, inner: &HttpMatch) -> Option<String> {
    let texts = [
        ("uri", &outer.uri, &inner.uri),
        ("scheme", &outer.scheme, &inner.scheme),
        ("method", &outer.method, &inner.method),
        ("authority", &outer.authority, &inner.authority),
    ];
    for (field, outer, inner) in texts {
        if let (Some(outer), Some(inner)) = (outer, inner)
            && conflict(Some(outer), Some(inner))
        {
            return Some(field.to_owned());
        }
    }
    let maps = [
        ("headers", &outer.headers, &inner.headers),
        ("withoutHeaders", &outer.without_headers, &inner.without_headers),
        ("queryParams", &outer.query_params, &inner.query_params),
    ];
    for (field, outer, inner) in maps {
        for (name, value) in inner {
            let of_outer = outer.iter().find(|(other, _)| other == name);
            if of_outer.is_some_and(|(_, of_outer)| conflict(of_outer.as_ref(), value.as_ref())) {
                return Some(format!("{field}[{name}]"));
            }
        }
    }
    if outer.ignore_uri_case != inner.ignore_uri_case {
        return Some("ignoreUriCase".to_owned());
    }
    if outer.port.zip(inner.port).is_some_and(|(outer, inner)| outer != inner) {
        return Some("port".to_owned());
    }
    source_conflict(&outer.source, &inner.source).map(str::to_owned)
}

fn source_conflict(outer: &SourceMatch, inner: &SourceMatch) -> Option<&'static str> {
    if outer.namespace.is_some() && inner.namespace != outer.namespace {
        return Some("sourceNamespace");
    }
    let differs = |(key, value): (&String, &String)| outer.labels.get(key).is_some_and(|of_outer| of_outer != value);
    if inner.labels.iter().any(differs) {
        return Some("sourceLabels");
    }
    let (of_outer, of_inner): (BTreeSet<_>, BTreeSet<_>) =
        (outer.gateways.iter().collect(), inner.gateways.iter().collect());
    (!of_outer.is_empty() && !of_inner.is_subset(&of_outer)).then_some("gateways")
}

/// Of two values for one thing, both of which are there; `None` is presence.
fn conflict(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix};
    match (outer, inner) {
        (Some(Exact(outer)), Some(Exact(inner))) => outer.is_empty() || outer != inner,
        (Some(Prefix(outer)), Some(Prefix(inner) | Exact(inner))) => {
            outer.is_empty() || inner.is_empty() || !inner.starts_with(outer.as_str())
        }
        // As in Istio: of a regex and anything else nobody can tell, and of presence nobody does.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: StringMatch) -> HttpMatch {
        HttpMatch {
            uri: Some(value),
            ..HttpMatch::default()
        }
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.to_owned())
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.to_owned())
    }

    fn regex(text: &str) -> StringMatch {
        StringMatch::Regex(text.to_owned())
    }

    #[test]
    fn a_value_must_lie_within_that_of_the_root() {
        for (outer, inner, conflicts) in [
            (exact("/a"), exact("/a"), false),
            (exact("/a"), exact("/b"), true),
            (exact("/a"), prefix("/a"), true),
            (prefix("/a"), exact("/a/b"), false),
            (prefix("/a"), prefix("/a/b"), false),
            (prefix("/a/b"), prefix("/a"), true),
            (prefix("/a"), exact("/b"), true),
            (regex(".*"), exact("/a"), true),
            (prefix("/a"), regex("/a.*"), true),
            (regex("/a"), regex("/a"), true),
        ] {
            let merged = merge(&[uri(outer.clone())], &[uri(inner.clone())]);
            assert_eq!(merged.is_err(), conflicts, "{outer:?} {inner:?}");
            if !conflicts {
                assert_eq!(merged, Ok(vec![uri(inner)]));
            }
        }
    }

    #[test]
    fn what_one_side_does_not_say_the_other_does() {
        let outer = HttpMatch {
            name: "outer".into(),
            uri: Some(prefix("/a")),
            headers: vec![("b".into(), Some(exact("1"))), ("c".into(), None)],
            port: Some(80),
            source: SourceMatch {
                labels: BTreeMap::from([("app".into(), "web".into())]),
                gateways: vec!["mesh".into(), "edge".into()],
                ..SourceMatch::default()
            },
            stat_prefix: "outer".into(),
            ..HttpMatch::default()
        };
        let inner = HttpMatch {
            name: "inner".into(),
            method: Some(exact("GET")),
            headers: vec![("a".into(), None)],
            source: SourceMatch {
                labels: BTreeMap::from([("version".into(), "v1".into())]),
                ..SourceMatch::default()
            },
            ..HttpMatch::default()
        };
        let merged = merge(&[outer], &[inner]).unwrap().remove(0);
        assert_eq!(merged.name, "outer-inner");
        assert_eq!((merged.uri, merged.method), (Some(prefix("/a")), Some(exact("GET"))));
        let names: Vec<&str> = merged.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!((merged.port, merged.stat_prefix.as_str()), (Some(80), "outer"));
        assert_eq!(merged.source.labels.len(), 2);
        assert_eq!(merged.source.gateways, ["mesh", "edge"]);
    }

    #[test]
    fn each_match_of_the_delegate_is_there_once_for_each_of_the_root_around_it() {
        let roots = [uri(prefix("/a")), uri(prefix("/a/b"))];
        let merged = merge(&roots, &[uri(exact("/a/b/c")), uri(exact("/a"))]).unwrap();
        assert_eq!(merged, [uri(exact("/a/b/c")), uri(exact("/a/b/c")), uri(exact("/a"))]);
        let conflict = merge(&roots, &[uri(exact("/a")), uri(exact("/z"))]).unwrap_err();
        assert_eq!(
            (conflict.root_field.as_str(), conflict.field.as_str()),
            ("match[0].uri", "match[1].uri")
        );
        assert_eq!(merge(&[], &roots), Ok(roots.to_vec()));
        assert_eq!(merge(&roots, &[]), Ok(roots.to_vec()));
    }

    #[test]
    fn other_things_that_do_not_go_together_are_named() {
        let with = |change: &dyn Fn(&mut HttpMatch)| {
            let mut item = HttpMatch::default();
            change(&mut item);
            item
        };
        let header =
            |value: &'static str| with(&|item: &mut HttpMatch| item.headers = vec![("x".into(), Some(exact(value)))]);
        let gateways = |names: &[&str]| {
            with(&|item: &mut HttpMatch| item.source.gateways = names.iter().map(|name| (*name).to_owned()).collect())
        };
        let namespace = |name: &str| with(&|item: &mut HttpMatch| item.source.namespace = Some(name.to_owned()));
        let label = |value: &str| {
            with(&|item: &mut HttpMatch| item.source.labels = BTreeMap::from([("app".to_owned(), value.to_owned())]))
        };
        for (outer, inner, field) in [
            (header("1"), header("2"), Some("headers[x]")),
            (header("1"), HttpMatch::default(), None),
            (
                with(&|item| item.port = Some(1)),
                with(&|item| item.port = Some(2)),
                Some("port"),
            ),
            (
                with(&|item| item.ignore_uri_case = true),
                HttpMatch::default(),
                Some("ignoreUriCase"),
            ),
            (gateways(&["mesh"]), gateways(&["mesh", "edge"]), Some("gateways")),
            (gateways(&["mesh", "edge"]), gateways(&["edge"]), None),
            (namespace("a"), namespace("b"), Some("sourceNamespace")),
            (HttpMatch::default(), namespace("b"), None),
            (label("a"), label("b"), Some("sourceLabels")),
        ] {
            assert_eq!(
                conflicting_field(&outer, &inner).as_deref(),
                field,
                "{outer:?} {inner:?}"
            );
        }
    }
}
