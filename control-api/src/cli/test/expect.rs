//! What a case expects beside what the request gets. Only what is written is compared.

use std::time::Duration;

use tsunagi_proto::names::{DEFAULT_CLUSTER_DOMAIN, resolve_in_rule};

use super::file::{Expect, MirrorTo, To};
use crate::explain::answer::{Answer, Destination, Mirror, Reply};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub field: &'static str,
    pub expected: String,
    pub actual: String,
}

const NONE: &str = "none";

/// `sent` are authority and target of the request. An error says what of the expectation makes no sense.
pub(super) fn differences(
    expect: &Expect,
    answer: &Answer,
    sent: &(String, String),
    namespace: &str,
) -> Result<Vec<Difference>, String> {
    let mut found = Comparison(Vec::new());
    // Whether anybody is there to answer is nothing that files say.
    let reply = answer.reply.as_ref().filter(|reply| reply.flags != "UH");
    let rule = answer.rule.as_ref();
    found.text("rule", expect.rule.as_deref(), rule.map(|rule| rule.name.as_str()));
    if let Some(wanted) = &expect.virtual_service {
        let wanted = if wanted.contains('/') {
            wanted.clone()
        } else {
            format!("{namespace}/{wanted}")
        };
        found.virtual_service(wanted, answer);
    }
    if let Some(wanted) = expect.outcome {
        found.compare("outcome", format!("{wanted:?}"), format!("{:?}", answer.outcome));
    }
    if expect.destination.is_some() && expect.destinations.is_some() {
        return Err("expect: only one of destination and destinations may be set".to_owned());
    }
    let wanted = expect
        .destination
        .as_ref()
        .map(std::slice::from_ref)
        .or(expect.destinations.as_deref());
    if let Some(wanted) = wanted {
        let field = if expect.destination.is_some() {
            "destination"
        } else {
            "destinations"
        };
        found.destinations(field, wanted, answer, expect.status.is_some(), namespace);
    }
    of_reply(&mut found, expect, reply);
    let policies = answer.policies.as_ref();
    let (authority, path) = sent;
    let becomes = policies.and_then(|policies| policies.path.as_ref()).unwrap_or(path);
    found.text(
        "path",
        expect.path.as_deref(),
        Some(becomes.as_str()).filter(|_| reply.is_none()),
    );
    let becomes = policies
        .and_then(|policies| policies.authority.as_ref())
        .unwrap_or(authority);
    found.text(
        "authority",
        expect.authority.as_deref(),
        Some(becomes.as_str()).filter(|_| reply.is_none()),
    );
    if let Some(wanted) = &expect.timeout {
        let wanted = if wanted == NONE {
            NONE.to_owned()
        } else {
            format!("{:?}", duration(wanted)?)
        };
        let actual = policies.and_then(|policies| policies.timeout.clone());
        found.compare("timeout", wanted, actual.unwrap_or_else(|| NONE.to_owned()));
    }
    if let Some(wanted) = &expect.mirrors {
        let actual = policies.map(|policies| policies.mirrors.as_slice()).unwrap_or_default();
        found.mirrors(wanted, actual, namespace);
    }
    Ok(found.0)
}

fn of_reply(found: &mut Comparison, expect: &Expect, reply: Option<&Reply>) {
    let none = || "none: an endpoint answers".to_owned();
    if let Some(wanted) = expect.status {
        let actual = reply.map_or_else(none, |reply| reply.status.to_string());
        found.compare("status", wanted.to_string(), actual);
    }
    if let Some(wanted) = expect.grpc_status {
        let code = |reply: &Reply| {
            reply
                .grpc_status
                .map_or_else(|| NONE.to_owned(), |code| code.to_string())
        };
        found.compare("grpcStatus", wanted.to_string(), reply.map_or_else(none, code));
    }
    if let Some(wanted) = &expect.flag {
        let actual = reply.map_or_else(none, |reply| reply.flags.clone());
        found.compare("flag", wanted.clone(), actual);
    }
    let location = reply.and_then(|reply| reply.location.as_deref());
    found.text("location", expect.location.as_deref(), location);
    found.text(
        "body",
        expect.body.as_deref(),
        reply.and_then(|reply| reply.body.as_deref()),
    );
}

/// `1.5s`, `250ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = || {
        let number: f64 = text.strip_suffix('s')?.parse().ok()?;
        Duration::try_from_secs_f64(number).ok()
    };
    let parsed = humantime::parse_duration(text).ok().or_else(seconds);
    parsed.ok_or_else(|| format!("expect.timeout: {text:?} is neither a duration such as 1.5s nor none"))
}

struct Comparison(Vec<Difference>);

impl Comparison {
    fn compare(&mut self, field: &'static str, expected: String, actual: String) {
        if expected != actual {
            self.0.push(Difference {
                field,
                expected,
                actual,
            });
        }
    }

    fn text(&mut self, field: &'static str, expected: Option<&str>, actual: Option<&str>) {
        if let Some(expected) = expected.filter(|expected| Some(*expected) != actual) {
            let actual = actual.unwrap_or(NONE);
            self.compare(field, expected.to_owned(), actual.to_owned());
        }
    }

    /// The one in force for the host, or the one that the rule is written in.
    fn virtual_service(&mut self, wanted: String, answer: &Answer) {
        let root = Some(answer.virtual_service.as_str()).filter(|name| !name.is_empty());
        let written = answer.rule.as_ref().map(|rule| rule.virtual_service.as_str());
        if [root, written].contains(&Some(wanted.as_str())) {
            return;
        }
        let actual = match (root, written) {
            (Some(root), Some(written)) if root != written => format!("{root}, rule written in {written}"),
            (root, _) => root.unwrap_or(NONE).to_owned(),
        };
        self.compare("virtualService", wanted, actual);
    }

    /// In any order. Where a destination is expected, one that does not exist is no such thing, unless its status is
    /// what is expected.
    fn destinations(&mut self, field: &'static str, wanted: &[To], answer: &Answer, may_fail: bool, namespace: &str) {
        let usable = |to: &Destination| may_fail || to.reply.as_ref().is_none_or(|reply| reply.flags != "NC");
        let meets = |wanted: &To, to: &Destination| {
            let host = wanted.host.as_ref().map(|host| full(host, namespace));
            usable(to)
                && host.is_none_or(|host| host == to.host)
                && wanted.subset.as_ref().is_none_or(|subset| *subset == to.subset)
                && wanted.port.is_none_or(|port| Some(port) == to.port)
                && wanted.weight.is_none_or(|weight| weight == to.weight)
        };
        if !pairs(wanted, &answer.destinations, meets) {
            let expected: Vec<String> = wanted.iter().map(|to| shown_wanted(to, namespace)).collect();
            let actual: Vec<String> = answer.destinations.iter().map(shown).collect();
            let actual = if actual.is_empty() {
                NONE.to_owned()
            } else {
                actual.join(", ")
            };
            self.0.push(Difference {
                field,
                expected: expected.join(", "),
                actual,
            });
        }
    }

    fn mirrors(&mut self, wanted: &[MirrorTo], actual: &[Mirror], namespace: &str) {
        let meets = |wanted: &MirrorTo, mirror: &Mirror| {
            let host = wanted.host.as_ref().map(|host| full(host, namespace));
            host.is_none_or(|host| host == mirror.host)
                && wanted.subset.as_ref().is_none_or(|subset| *subset == mirror.subset)
                && wanted.port.is_none_or(|port| Some(port) == mirror.port)
                && wanted
                    .percentage
                    .is_none_or(|share| (share - mirror.percentage).abs() < 0.000_05)
        };
        if !pairs(wanted, actual, meets) {
            self.0.push(Difference {
                field: "mirrors",
                expected: format!("{wanted:?}"),
                actual: format!("{actual:?}"),
            });
        }
    }
}

/// Has each of `wanted` one of its own among `actual`, and is none left over? By Kuhn's algorithm: what is written of one
/// may fit several.
pub(super) fn pairs<W, A>(wanted: &[W], actual: &[A], meets: impl Fn(&W, &A) -> bool) -> bool {
    let mut taken: Vec<Option<usize>> = vec![None; actual.len()];
    let finds = |number| {
        find(
            number,
            wanted,
            actual,
            &meets,
            &mut taken,
            &mut vec![false; actual.len()],
        )
    };
    wanted.len() == actual.len() && (0..wanted.len()).all(finds)
}

fn find<W, A>(
    number: usize,
    wanted: &[W],
    actual: &[A],
    meets: &impl Fn(&W, &A) -> bool,
    taken: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for place in 0..actual.len() {
        if seen[place] || !meets(&wanted[number], &actual[place]) {
            continue;
        }
        seen[place] = true;
        if taken[place].is_none_or(|other| find(other, wanted, actual, meets, taken, seen)) {
            taken[place] = Some(number);
            return true;
        }
    }
    false
}

fn full(host: &str, namespace: &str) -> String {
    resolve_in_rule(host, namespace, DEFAULT_CLUSTER_DOMAIN)
}

fn shown(to: &Destination) -> String {
    let port = to.port.map(|port| format!(":{port}")).unwrap_or_default();
    let subset = if to.subset.is_empty() {
        String::new()
    } else {
        format!(" subset {}", to.subset)
    };
    let broken = to.reply.as_ref().filter(|reply| reply.flags == "NC");
    let broken = broken
        .map(|reply| format!(" ({} {})", reply.status, reply.flags))
        .unwrap_or_default();
    format!("{}{port}{subset} weight {}{broken}", to.host, to.weight)
}

fn shown_wanted(to: &To, namespace: &str) -> String {
    let host = to
        .host
        .as_ref()
        .map_or("any host".to_owned(), |host| full(host, namespace));
    let port = to.port.map(|port| format!(":{port}")).unwrap_or_default();
    let subset = to
        .subset
        .as_ref()
        .map(|subset| format!(" subset {subset}"))
        .unwrap_or_default();
    let weight = to.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
    format!("{host}{port}{subset}{weight}")
}
