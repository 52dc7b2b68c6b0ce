//! Does one match hold for every request for which another one holds? Then the other one, where it comes later, is never
//! met. Where it cannot be told (two regexes), the answer is no: nothing is said that is not certain.

use regex::bytes::Regex;
use tsunagi_proto::model::full_match;

use super::mesh::covers_host;
use crate::config::{ConnectionMatch, HttpMatch, SourceMatch, StringMatch};

/// A match, with what is asked of it again and again.
pub(super) struct Cover<'a> {
    item: &'a HttpMatch,
    uri: Option<Regex>,
}

impl<'a> Cover<'a> {
    pub fn new(item: &'a HttpMatch) -> Self {
        let uri = match &item.uri {
            Some(StringMatch::Regex(pattern)) => full_match(pattern).ok(),
            _ => None,
        };
        Self { item, uri }
    }

    /// Of all that meets `later`, is there nothing that does not meet this one?
    pub fn covers(&self, later: &HttpMatch) -> bool {
        let HttpMatch {
            name: _,
            uri: _,
            ignore_uri_case: _,
            method,
            authority,
            headers,
            without_headers,
            query_params,
            port,
            scheme,
            source,
            stat_prefix: _,
        } = self.item;
        (port.is_none() || *port == later.port)
            && self.uri_covers(later)
            && implied(method, &later.method)
            && implied(authority, &later.authority)
            && implied(scheme, &later.scheme)
            && headers.iter().all(|wanted| named(wanted, &later.headers))
            && query_params.iter().all(|wanted| named(wanted, &later.query_params))
            && without_headers
                .iter()
                .all(|unwanted| later.without_headers.contains(unwanted))
            && source_covers(source, &later.source)
    }

    fn uri_covers(&self, later: &HttpMatch) -> bool {
        if let (Some(regex), Some(StringMatch::Exact(text)), false) = (&self.uri, &later.uri, later.ignore_uri_case) {
            return regex.is_match(text.as_bytes());
        }
        let letters = |text: &str| text.bytes().any(|byte| byte.is_ascii_alphabetic());
        match (&self.item.uri, &later.uri) {
            (Some(StringMatch::Exact(one) | StringMatch::Prefix(one)), Some(_))
                if later.ignore_uri_case && !self.item.ignore_uri_case && letters(one) =>
            {
                false
            }
            (Some(one), Some(other)) if self.item.ignore_uri_case => implied(&Some(lower(one)), &Some(lower(other))),
            (one, other) => implied(one, other),
        }
    }
}

fn lower(value: &StringMatch) -> StringMatch {
    match value {
        StringMatch::Exact(text) => StringMatch::Exact(text.to_ascii_lowercase()),
        StringMatch::Prefix(text) => StringMatch::Prefix(text.to_ascii_lowercase()),
        StringMatch::Regex(text) => StringMatch::Regex(text.clone()),
    }
}

/// Does what meets `later` always meet `earlier`? `None` asks nothing.
fn implied(earlier: &Option<StringMatch>, later: &Option<StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix, Regex};
    match (earlier, later) {
        (None, _) => true,
        (Some(Regex(any)), _) if any == ".*" => true,
        (Some(Prefix(empty)), _) if empty.is_empty() || empty == "/" => true,
        (Some(Exact(one)), Some(Exact(other))) | (Some(Regex(one)), Some(Regex(other))) => one == other,
        (Some(Prefix(start)), Some(Exact(text) | Prefix(text))) => text.starts_with(start.as_str()),
        _ => false,
    }
}

type Named = (String, Option<StringMatch>);

/// Is this header or parameter asked for by the later match, too?
fn named((name, wanted): &Named, later: &[Named]) -> bool {
    let found = later.iter().find(|(other, _)| other == name);
    found.is_some_and(|(_, other)| match (wanted, other) {
        (None, _) => true,
        // In a header's value `/` is nothing special.
        (Some(StringMatch::Prefix(start)), Some(StringMatch::Exact(text) | StringMatch::Prefix(text))) => {
            text.starts_with(start.as_str())
        }
        (Some(StringMatch::Prefix(_)), _) => false,
        (wanted, other) => other.is_some() && implied(wanted, other),
    })
}

fn source_covers(earlier: &SourceMatch, later: &SourceMatch) -> bool {
    // With gateways of its own, a match does not look at labels and namespace.
    let asks_nothing = !earlier.gateways.is_empty() || (earlier.labels.is_empty() && earlier.namespace.is_none());
    let labels = earlier
        .labels
        .iter()
        .all(|(key, value)| later.labels.get(key) == Some(value));
    earlier.gateways == later.gateways
        && (asks_nothing || (labels && (earlier.namespace.is_none() || earlier.namespace == later.namespace)))
}

/// Is it for all sidecars and ports that `later` is for, whatever either asks of a request?
pub(super) fn covers_place(earlier: &HttpMatch, later: &HttpMatch) -> bool {
    let (one, other) = (&earlier.source, &later.source);
    // Where it names its gateways, sidecars among them, a match does not look at labels and namespace.
    let is_for_all = !one.gateways.is_empty() && one.concerns_sidecars();
    (earlier.port.is_none() || earlier.port == later.port)
        && (is_for_all || (one.gateways.is_empty() && other.gateways.is_empty() && source_covers(one, other)))
}

pub(super) fn covers_connection(earlier: &ConnectionMatch, later: &ConnectionMatch) -> bool {
    let sni = |name: &String| earlier.sni_hosts.iter().any(|wanted| covers_host(wanted, name));
    (earlier.port.is_none() || earlier.port == later.port)
        && (earlier.sni_hosts.is_empty() || (!later.sni_hosts.is_empty() && later.sni_hosts.iter().all(sni)))
        && (earlier.destination_subnets.is_empty() || earlier.destination_subnets == later.destination_subnets)
        && (earlier.source_subnet.is_none() || earlier.source_subnet == later.source_subnet)
        && source_covers(&earlier.source, &later.source)
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

    fn covers(earlier: &HttpMatch, later: &HttpMatch) -> bool {
        Cover::new(earlier).covers(later)
    }

    #[test]
    fn a_broader_uri_covers_a_narrower_one_and_never_the_other_way() {
        use StringMatch::{Exact, Prefix, Regex};
        let pairs = [
            (Prefix("/a".into()), Exact("/ab".into())),
            (Prefix("/a".into()), Prefix("/a/b".into())),
            (Regex("/a.*".into()), Exact("/ab".into())),
            (Prefix("/".into()), Regex("/x[0-9]".into())),
        ];
        for (broad, narrow) in pairs {
            assert!(
                covers(&uri(broad.clone()), &uri(narrow.clone())),
                "{broad:?} {narrow:?}"
            );
            assert!(
                !covers(&uri(narrow.clone()), &uri(broad.clone())),
                "{narrow:?} {broad:?}"
            );
        }
        assert!(covers(&HttpMatch::default(), &uri(Exact("/".into()))));
    }

    #[test]
    fn what_asks_for_more_does_not_cover_what_asks_for_less() {
        let plain = uri(StringMatch::Prefix("/a".into()));
        let mut special = plain.clone();
        special.headers = vec![("version".into(), Some(StringMatch::Exact("v2".into())))];
        assert!(covers(&plain, &special) && !covers(&special, &plain));
        let mut present = plain.clone();
        present.headers = vec![("version".into(), None)];
        assert!(covers(&present, &special) && !covers(&special, &present));
        let mut labelled = plain.clone();
        labelled.source.labels.insert("app".into(), "web".into());
        assert!(covers(&plain, &labelled) && !covers(&labelled, &plain));
    }

    #[test]
    fn the_case_of_a_uri_counts_unless_the_earlier_match_ignores_it() {
        let upper = uri(StringMatch::Exact("/A".into()));
        let mut ignoring = uri(StringMatch::Prefix("/a".into()));
        ignoring.ignore_uri_case = true;
        assert!(covers(&ignoring, &upper));
        assert!(!covers(&upper, &ignoring) && !covers(&uri(StringMatch::Prefix("/a".into())), &ignoring));
    }
}
