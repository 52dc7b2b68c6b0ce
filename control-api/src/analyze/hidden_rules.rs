//! DestinationRules that others hide: of one namespace they are merged where they are for the same clients, of two never;
//! a more specific host hides a wildcard, whatever it leaves unsaid.

use std::collections::{BTreeMap, HashSet};

use super::endpoints::Service;
use super::mesh::covers_host;
use super::report::listed;
use super::{Check, Findings, Severity};
use crate::config::{DestinationRule, Document, Key, TrafficPolicy};
use crate::snapshot::{is_for, is_private, joins};

const HIDDEN: Check = ("TSU-RULE-HIDDEN", Severity::Warning);
const NOT_INHERITED: Check = ("TSU-RULE-HIDDEN", Severity::Info);

type Rule<'a> = (&'a Document, &'a DestinationRule);
/// Subsets that an older rule hides, and what of the whole host.
type Dropped<'a> = HashSet<(&'a Key, &'a str)>;
/// No subset has this name.
const WHOLE: &str = "";

pub(super) fn check(findings: &mut Findings<'_>) {
    let mesh = findings.mesh;
    let mut by_host: BTreeMap<&str, Vec<Rule<'_>>> = BTreeMap::new();
    for rule in &mesh.destination_rules {
        by_host.entry(&rule.1.host).or_default().push(*rule);
    }
    let wildcards: Vec<Rule<'_>> = mesh
        .destination_rules
        .iter()
        .copied()
        .filter(|(_, rule)| rule.host.starts_with('*'))
        .collect();
    let mut dropped = Dropped::new();
    for (host, rules) in by_host {
        let home = mesh.service(host).map(Service::namespace);
        let mut earlier = Earlier::default();
        for later in &rules {
            for earlier in earlier.beside(later, home) {
                if later.0.key.namespace == earlier.0.key.namespace {
                    same_namespace(findings, *later, earlier, &mut dropped);
                } else {
                    other_namespace(findings, host, *later, earlier);
                }
            }
            earlier.add(*later);
            for wide in wildcards
                .iter()
                .filter(|(_, it)| it.host != host && covers_host(&it.host, host))
            {
                if later.0.key.namespace == wide.0.key.namespace {
                    more_specific(findings, *later, *wide);
                } else {
                    other_namespace(findings, host, *later, *wide);
                }
            }
        }
    }
    for wide in &wildcards {
        never_met(findings, *wide);
    }
}

/// Rules of one host that are older, by what they may have to do with a younger one: there may be thousands.
#[derive(Default)]
struct Earlier<'a> {
    by_namespace: BTreeMap<&'a str, Vec<Rule<'a>>>,
    /// The same of those with this selector, an empty one included.
    by_selector: BTreeMap<(&'a str, &'a BTreeMap<String, String>), Vec<Rule<'a>>>,
}

impl<'a> Earlier<'a> {
    fn add(&mut self, rule: Rule<'a>) {
        let namespace = rule.0.key.namespace.as_str();
        let selector = &rule.1.workload_selector;
        self.by_namespace.entry(namespace).or_default().push(rule);
        self.by_selector.entry((namespace, selector)).or_default().push(rule);
    }

    /// Those of its namespace that are not for other workloads, and those of others where one of both is the service's own
    /// and for clients elsewhere, as none with a selector is.
    fn beside(&self, later: &Rule<'a>, home: Option<&str>) -> Vec<Rule<'a>> {
        let (namespace, selector) = (later.0.key.namespace.as_str(), &later.1.workload_selector);
        let none = BTreeMap::new();
        let mut found: Vec<Rule<'a>> = Vec::new();
        if selector.is_empty() {
            found.extend(self.by_namespace.get(namespace).into_iter().flatten());
        } else {
            for selector in [&none, selector] {
                found.extend(self.by_selector.get(&(namespace, selector)).into_iter().flatten());
            }
        }
        match home {
            Some(home) if home == namespace && selector.is_empty() => {
                let others = self.by_namespace.iter().filter(|(place, _)| **place != home);
                found.extend(others.flat_map(|(_, rules)| rules));
            }
            Some(home) if home != namespace => found.extend(self.by_selector.get(&(home, &none)).into_iter().flatten()),
            _ => {}
        }
        found
    }
}

fn subset_names(rule: &DestinationRule) -> impl Iterator<Item = &str> {
    rule.subsets.iter().map(|subset| subset.name.as_str())
}

/// Those of `hidden` that `hiding` does not define.
fn lost_subsets<'h>(hiding: &DestinationRule, hidden: &'h DestinationRule) -> Vec<&'h str> {
    let known = |name: &&str| subset_names(hiding).any(|own| own == *name);
    subset_names(hidden).filter(|name| !known(name)).collect()
}

/// Two for one host, the first of them the younger one.
fn same_namespace<'a>(
    findings: &mut Findings<'_>,
    (document, rule): Rule<'a>,
    (first, other): Rule<'a>,
    dropped: &mut Dropped<'a>,
) {
    let selecting = |rule: &DestinationRule| !rule.workload_selector.is_empty();
    match (selecting(rule), selecting(other)) {
        (true, false) => return selected((document, rule), (first, other), findings),
        (false, true) => return selected((first, other), (document, rule), findings),
        (true, true) if rule.workload_selector != other.workload_selector => return,
        _ => {}
    }
    if joins(document, first) {
        return merged(findings, (document, rule), (first, other), dropped);
    }
    let what = format!(
        "{} is for the same host, younger and exported otherwise: it alone is in force where both are seen",
        document.key
    );
    findings.add(
        HIDDEN,
        first,
        "spec.exportTo",
        what,
        "the same exportTo in both: then they are merged",
    );
}

fn merged<'a>(
    findings: &mut Findings<'_>,
    (document, rule): Rule<'a>,
    (first, other): Rule<'a>,
    dropped: &mut Dropped<'a>,
) {
    // What is not in force itself hides nothing.
    let mut hides = |name: &'a str| !dropped.contains(&(&first.key, name)) && dropped.insert((&document.key, name));
    if rule.policy.is_some() && other.policy.is_some() && hides(WHOLE) {
        let what = format!(
            "{} is for the same host and older: its trafficPolicy is in force, this one is not",
            first.key
        );
        let instead = "one DestinationRule for the host";
        findings.add(HIDDEN, document, "spec.trafficPolicy", what, instead);
    }
    for (index, subset) in rule.subsets.iter().enumerate() {
        if subset_names(other).any(|name| name == subset.name) && hides(&subset.name) {
            let what = format!(
                "{} defines the subset {} as well and is older: this one is dropped",
                first.key, subset.name
            );
            let instead = "another name, or one DestinationRule";
            findings.add(HIDDEN, document, format!("spec.subsets[{index}]"), what, instead);
        }
    }
}

/// One with a selector goes before one for all, and takes over from it only what both are exported to alike, and of that
/// only what it does not say itself.
fn selected((document, rule): Rule<'_>, (first, other): Rule<'_>, findings: &mut Findings<'_>) {
    let takes_over = joins(first, document);
    let lost = lost_subsets(rule, other);
    if !takes_over && !lost.is_empty() {
        let what = format!(
            "for the workloads that it selects this hides {}: its subsets {} do not exist for them",
            first.key,
            listed(&lost)
        );
        let instead = format!("those subsets here, too, or `.` in the exportTo of {}", first.key);
        findings.add(HIDDEN, document, "spec.workloadSelector", what, instead);
    }
    if takes_over && rule.policy.is_none() {
        return;
    }
    let blocks = lost_blocks(rule.policy.as_ref(), other.policy.as_ref());
    if !blocks.is_empty() {
        let what = format!(
            "for the workloads that it selects this hides {}: its {blocks} is not in force for them",
            first.key
        );
        let instead = "what is to be kept of it here, too";
        findings.add(NOT_INHERITED, document, "spec.workloadSelector", what, instead);
    }
}

/// For clients of its own namespace, a rule hides the one of the service's namespace, subsets and all; but one of the root
/// namespace is for everyone, and comes after that one there, too.
fn other_namespace(findings: &mut Findings<'_>, host: &str, one: Rule<'_>, two: Rule<'_>) {
    let Some(service) = findings.mesh.service(host) else {
        return;
    };
    let home = service.namespace();
    let pair = match (one.0.key.namespace == home, two.0.key.namespace == home) {
        (false, true) => Some((one, two)),
        (true, false) => Some((two, one)),
        _ => None,
    };
    let Some(((client, own), (owner, hidden))) = pair else {
        return;
    };
    let namespace = Some(client.key.namespace.as_str());
    let is_for_everyone = client.key.namespace == findings.mesh.root_namespace && !is_private(client);
    if is_for_everyone || !is_for(client, namespace) || !is_for(owner, namespace) {
        return;
    }
    let whom = if own.workload_selector.is_empty() {
        format!("clients of namespace {}", client.key.namespace)
    } else {
        "the workloads that it selects".to_owned()
    };
    let lost = lost_subsets(own, hidden);
    if !lost.is_empty() {
        let what = format!(
            "for {whom} this hides {}: its subsets {} do not exist for them",
            owner.key,
            listed(&lost)
        );
        findings.add(HIDDEN, client, "spec.host", what, "those subsets here, too");
    }
    let blocks = lost_blocks(own.policy.as_ref(), hidden.policy.as_ref());
    if !blocks.is_empty() {
        let what = format!(
            "for {whom} this hides {}: its {} is not in force for them",
            owner.key, blocks
        );
        findings.add(
            NOT_INHERITED,
            client,
            "spec.host",
            what,
            "what is to be kept of it here, too",
        );
    }
}

/// Names of the blocks of `hidden` that `hiding` does not have.
fn lost_blocks(hiding: Option<&TrafficPolicy>, hidden: Option<&TrafficPolicy>) -> String {
    let none = TrafficPolicy::default();
    let (own, other) = (hiding.unwrap_or(&none), hidden.unwrap_or(&none));
    let blocks = [
        (
            "connectionPool",
            own.connection_pool.is_some(),
            other.connection_pool.is_some(),
        ),
        (
            "loadBalancer",
            own.load_balancer.is_some(),
            other.load_balancer.is_some(),
        ),
        (
            "outlierDetection",
            own.outlier_detection.is_some(),
            other.outlier_detection.is_some(),
        ),
        ("tls", own.tls.is_some(), other.tls.is_some()),
        (
            "proxyProtocol",
            own.proxy_protocol.is_some(),
            other.proxy_protocol.is_some(),
        ),
        ("retryBudget", own.retry_budget.is_some(), other.retry_budget.is_some()),
        (
            "portLevelSettings",
            !own.port_level.is_empty(),
            !other.port_level.is_empty(),
        ),
    ];
    let lost = blocks.iter().filter(|(_, own, other)| *other && !own);
    lost.map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

/// Of one namespace: nothing of the wildcard is in force for the host that has a rule of its own.
fn more_specific(findings: &mut Findings<'_>, (document, rule): Rule<'_>, (wide, wider): Rule<'_>) {
    let whom = Some(document.key.namespace.as_str());
    let blocks = lost_blocks(rule.policy.as_ref(), wider.policy.as_ref());
    if blocks.is_empty() || !wider.workload_selector.is_empty() || is_for(document, whom) != is_for(wide, whom) {
        return;
    }
    let what = format!(
        "is more specific than {} of {}, of which nothing is inherited: its {blocks} is not in force here",
        wider.host, wide.key
    );
    findings.add(
        NOT_INHERITED,
        document,
        "spec.host",
        what,
        "what is to be kept of it here, too",
    );
}

/// A wildcard of which each service that it covers has a more specific rule for the same clients.
fn never_met(findings: &mut Findings<'_>, (document, rule): Rule<'_>) {
    let mesh = findings.mesh;
    let mut covered = mesh
        .services()
        .map(|(fqdn, _)| fqdn)
        .filter(|fqdn| covers_host(&rule.host, fqdn));
    let hidden = |fqdn: &str| {
        mesh.rules_for(fqdn).any(|(other, it)| {
            it.host != rule.host
                && covers_host(&rule.host, &it.host)
                && other.key.namespace == document.key.namespace
                && it.workload_selector.is_empty()
                && it.exports == rule.exports
        })
    };
    // Without services there is nobody to ask about.
    if covered.next().is_some_and(hidden) && covered.all(hidden) {
        let what = "every service that it covers has a more specific rule in this namespace: this one is in force for none of them";
        findings.add(HIDDEN, document, "spec.host", what, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Spec, parse};

    #[test]
    fn of_thousands_of_rules_for_other_workloads_none_is_compared_with_another() {
        let document = |namespace: &str, name: usize| {
            let text = format!(
                "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d{name}, namespace: {namespace}}}, spec: {{host: a.b.c, workloadSelector: {{matchLabels: {{app: w{name}}}}}}}}}"
            );
            parse("", &text, "").expect("valid").remove(0)
        };
        let of = |namespace: &'static str| (0..1000).map(move |name| document(namespace, name));
        let documents: Vec<Document> = of("one").chain(of("two")).collect();
        let (mut earlier, mut compared) = (Earlier::default(), 0);
        for document in &documents {
            let Spec::DestinationRule(rule) = &document.spec else {
                unreachable!("a DestinationRule")
            };
            compared += earlier.beside(&(document, rule), Some("home")).len();
            earlier.add((document, rule));
        }
        assert_eq!(compared, 0);
        let Spec::DestinationRule(rule) = &documents[0].spec else {
            unreachable!("a DestinationRule")
        };
        let again = earlier.beside(&(&documents[0], rule), Some("two"));
        assert_eq!(again.len(), 1);
        // One for all is compared with all of its namespace, and as the service's own with those of others.
        let for_all = DestinationRule {
            workload_selector: BTreeMap::new(),
            ..(**rule).clone()
        };
        for (home, most) in [("home", 1000), ("two", 1000), ("one", 2000)] {
            assert_eq!(earlier.beside(&(&documents[0], &for_all), Some(home)).len(), most);
        }
    }
}
