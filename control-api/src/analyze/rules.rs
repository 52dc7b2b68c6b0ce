//! The rules of a VirtualService among each other: which are never met, what is left over, who gets how much.

use super::cover::{Cover, covers_connection, covers_place};
use super::report::listed;
use super::{Check, Findings, Severity, rule_ports};
use crate::config::{ConnectionRule, Document, HttpMatch, HttpRule, VirtualService, WeightedDestination};

const UNREACHABLE: Check = ("IST0130", Severity::Warning);
const INEFFECTIVE: Check = ("IST0131", Severity::Info);
const NOTHING_LEFT: Check = ("TSU-NO-DEFAULT", Severity::Info);
const WEIGHTS: Check = ("TSU-WEIGHTS", Severity::Warning);

/// Comparisons of matches for one VirtualService: beyond, rules are not compared any more.
const MOST_COMPARISONS: usize = 20_000_000;

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) {
    unreachable(findings, document, &rule.http);
    for (kind, rules) in [("tls", &rule.tls), ("tcp", &rule.tcp)] {
        unreachable_connections(findings, document, kind, rules);
        for (index, rule) in rules.iter().enumerate() {
            weights(findings, document, &format!("spec.{kind}[{index}]"), &rule.route);
        }
    }
    for (index, http) in rule.http.iter().enumerate() {
        weights(findings, document, &format!("spec.http[{index}]"), &http.route);
    }
    let has_requests = rule_ports::check(findings, document, rule);
    if has_requests && !rule.hosts.is_empty() && leaves_requests(&rule.http) {
        findings.add(
            NOTHING_LEFT,
            document,
            "spec.http",
            "a request that none of these rules matches is answered 404 NR: nothing falls through to the service",
            "a last rule without `match`, if such requests are to go on",
        );
    }
}

/// Are there requests that some rules are for by their client and port, and none by the rest? For other clients and ports
/// the rules are as if they were not there.
fn leaves_requests(rules: &[HttpRule]) -> bool {
    if rules.iter().any(|rule| rule.matches.is_empty()) {
        return false;
    }
    let matches = rules.iter().flat_map(|rule| &rule.matches);
    let matches: Vec<&HttpMatch> = matches.filter(|item| item.source.concerns_sidecars()).collect();
    let all_of = |item: &&HttpMatch| Cover::new(item).covers(&place_of(item));
    let catching: Vec<&HttpMatch> = matches.iter().copied().filter(all_of).collect();
    if matches.len().saturating_mul(catching.len()) > MOST_COMPARISONS {
        return false;
    }
    let is_caught = |item: &&HttpMatch| catching.iter().any(|all| covers_place(all, item));
    !matches.iter().all(is_caught)
}

/// Every request of the clients and to the port that the match is for.
fn place_of(item: &HttpMatch) -> HttpMatch {
    HttpMatch {
        port: item.port,
        source: item.source.clone(),
        ..HttpMatch::default()
    }
}

fn always_met(rule: &HttpRule) -> bool {
    let everything = HttpMatch::default();
    rule.matches.is_empty() || rule.matches.iter().any(|item| Cover::new(item).covers(&everything))
}

fn unreachable(findings: &mut Findings<'_>, document: &Document, rules: &[HttpRule]) {
    let mut earlier: Vec<(usize, Cover<'_>)> = Vec::new();
    let mut catch_all: Option<usize> = None;
    let mut left = MOST_COMPARISONS;
    for (index, rule) in rules.iter().enumerate() {
        if let Some(all) = catch_all {
            let what = format!(
                "is never met: {} before it matches every request",
                rule_name(rules, all)
            );
            let instead = "the rule that matches everything as the last one";
            findings.add(UNREACHABLE, document, format!("spec.http[{index}]"), what, instead);
            continue;
        }
        let mut hidden_by = Vec::new();
        for (number, item) in rule.matches.iter().enumerate() {
            left = left.saturating_sub(earlier.len());
            if left == 0 {
                return;
            }
            if let Some((by, _)) = earlier.iter().find(|(_, cover)| cover.covers(item)) {
                hidden_by.push((number, *by));
            }
        }
        report_hidden(findings, document, rules, index, &hidden_by);
        earlier.extend(rule.matches.iter().map(|item| (index, Cover::new(item))));
        if always_met(rule) {
            catch_all = Some(index);
        }
    }
}

fn report_hidden(
    findings: &mut Findings<'_>,
    document: &Document,
    rules: &[HttpRule],
    index: usize,
    hidden: &[(usize, usize)],
) {
    let instead = "the narrower rule before the broader one";
    let matches = rules[index].matches.len();
    match hidden {
        [] => {}
        [(_, by), ..] if hidden.len() == matches => {
            let what = format!(
                "is never met: {} before it matches all of its requests",
                rule_name(rules, *by)
            );
            findings.add(UNREACHABLE, document, format!("spec.http[{index}]"), what, instead);
        }
        some => {
            for (number, by) in some {
                let what = format!(
                    "is never met: {} before it matches all of its requests",
                    rule_name(rules, *by)
                );
                let field = format!("spec.http[{index}].match[{number}]");
                findings.add(INEFFECTIVE, document, field, what, instead);
            }
        }
    }
}

fn rule_name(rules: &[HttpRule], index: usize) -> String {
    match rules[index].name.as_str() {
        "" => format!("spec.http[{index}]"),
        name => format!("spec.http[{index}] ({name})"),
    }
}

fn unreachable_connections(findings: &mut Findings<'_>, document: &Document, kind: &str, rules: &[ConnectionRule]) {
    for (index, rule) in rules.iter().enumerate() {
        let hides = |earlier: &ConnectionRule| {
            earlier.matches.is_empty()
                || (!rule.matches.is_empty()
                    && rule
                        .matches
                        .iter()
                        .all(|item| earlier.matches.iter().any(|one| covers_connection(one, item))))
        };
        if let Some(by) = rules[..index].iter().position(hides) {
            let what = format!("is never met: spec.{kind}[{by}] before it matches all of its connections");
            let instead = "the narrower rule before the broader one";
            findings.add(UNREACHABLE, document, format!("spec.{kind}[{index}]"), what, instead);
        }
    }
}

fn weights(findings: &mut Findings<'_>, document: &Document, field: &str, route: &[WeightedDestination]) {
    if let [only] = route {
        if only.weight_is_given && only.weight != 100 {
            let what = format!("weight {} of a single destination: it gets every request", only.weight);
            findings.add(
                WEIGHTS,
                document,
                format!("{field}.route[0].weight"),
                what,
                "no weight, or a second destination",
            );
        }
        return;
    }
    let forgotten = |to: &WeightedDestination| to.weight == 0 && !to.weight_is_given;
    for (number, to) in route.iter().enumerate().filter(|(_, to)| forgotten(to)) {
        let what = "has no weight: beside others such a destination gets nothing";
        let instead = format!("a weight for {}", to.host);
        findings.add(WEIGHTS, document, format!("{field}.route[{number}]"), what, instead);
    }
    let total: u64 = route.iter().map(|to| u64::from(to.weight)).sum();
    if route.len() > 1 && total != 100 {
        let shares: Vec<String> = route
            .iter()
            .map(|to| format!("{:.1} %", f64::from(to.weight) * 100.0 / total.max(1) as f64))
            .collect();
        let what = format!("the weights add up to {total}: the shares are {}", listed(&shares));
        findings.add(
            (WEIGHTS.0, Severity::Info),
            document,
            format!("{field}.route"),
            what,
            "weights that add up to 100",
        );
    }
}
