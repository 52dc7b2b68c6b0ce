//! What a request gets, and why: decided by the code that proxies decide with, on the very resources that the client's
//! proxy is told. Called by `api` for `tsunagi explain` and by `cli` for the tests of routes; without I/O.

mod action;
pub mod answer;
mod destinations;
mod policies;
mod question;
#[cfg(test)]
mod tests;
mod traffic_policy;

use std::net::IpAddr;

use tsunagi_proto::decide::{self, ConnectionHead, Explanation, RequestHead, Verdict};
use tsunagi_proto::model::{Action, ConnectionRule, Host, HttpRule, Origin, OutboundTrafficPolicy, Port};
use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN};

use crate::snapshot::{Node, World};
use answer::{Answer, Outcome, PassedOver, Reply, Rule};
use destinations::Place;
use question::{Asked, Checked};

pub use question::{BadQuestion, HeaderText, Question, default_namespace, get};

/// What the request gets in this world.
pub fn explain(world: &World, question: &Question) -> Result<Answer, BadQuestion> {
    let asked = question.checked()?;
    let Some(host) = find_host(world, &asked) else {
        return Ok(unknown_host(world, &asked));
    };
    let mut answer = Answer {
        host: host.fqdn.clone(),
        ..Answer::default()
    };
    if let Some(routes) = &host.routes {
        answer.virtual_service = format!("{}/{}", routes.namespace, routes.name);
    }
    match find_port(&host, &asked) {
        Err(reason) => answer.reply = Some(Reply::new(404, "NR", reason)),
        Ok(port) => {
            answer.port = Some(port.number);
            let place = Place {
                world,
                told: &host,
                port: port.number,
                source: &asked.source,
            };
            match asked.asked {
                Asked::Request => request(&mut answer, &place, &asked),
                Asked::Tls | Asked::Tcp => connection(&mut answer, &place, &asked),
            }
        }
    }
    sum_up(&mut answer);
    Ok(answer)
}

/// The host that the name means to a client of the namespace.
fn find_host(world: &World, asked: &Checked) -> Option<Host> {
    let namespace = &asked.source.namespace;
    let told = |name: &str| world.host(name, namespace).and_then(|told| told.host());
    let candidates = names::candidates(&asked.host, namespace, DEFAULT_CLUSTER_DOMAIN);
    let found = candidates.iter().find_map(|name| told(name))?;
    let host = match &found.alias_of {
        Some(fqdn) => told(fqdn)?,
        None => found,
    };
    Some(host.with_clusters_for(&asked.source))
}

fn unknown_host(world: &World, asked: &Checked) -> Answer {
    let node = Node {
        namespace: asked.source.namespace.clone(),
        labels: asked.source.labels.clone(),
        ..Node::default()
    };
    let workload = world.workload(&node).workload();
    let policy = workload.map(|workload| workload.outbound_traffic_policy);
    let redirected = match policy.unwrap_or_default() {
        OutboundTrafficPolicy::AllowAny => {
            "on a redirected connection it goes to its original destination, untouched (ALLOW_ANY)"
        }
        OutboundTrafficPolicy::RegistryOnly => "on a redirected connection it gets 502 (REGISTRY_ONLY)",
    };
    let (name, namespace) = (&asked.host, &asked.source.namespace);
    let hint = if name.contains('.') || name.contains(':') {
        String::new()
    } else {
        format!(" in namespace {namespace:?}; a service of another one is {name}.NAMESPACE")
    };
    Answer {
        reply: Some(Reply::new(404, "NR", format!("no service is called {name:?}{hint}"))),
        notes: vec![redirected.to_owned()],
        ..Answer::default()
    }
}

/// As a proxy chooses it.
fn find_port<'h>(host: &'h Host, asked: &Checked) -> Result<&'h Port, String> {
    let is_request = asked.asked == Asked::Request;
    let port = match asked.port {
        Some(number) => host.ports.iter().find(|port| port.number == number),
        None if is_request => host.ports.iter().find(|port| port.protocol.is_http()),
        None => host.ports.first(),
    };
    match port {
        Some(port) if is_request && !port.protocol.is_http() => {
            Err(format!("port {} of {} does not speak HTTP", port.number, host.fqdn))
        }
        Some(port) => Ok(port),
        None if host.ports.is_empty() => Err(format!("rules name {}, but no service is called that", host.fqdn)),
        None => {
            let what = asked
                .port
                .map_or("HTTP port".to_owned(), |number| format!("port {number}"));
            Err(format!("{} has no {what}", host.fqdn))
        }
    }
}

fn request(answer: &mut Answer, place: &Place<'_>, asked: &Checked) {
    let Some(routes) = &place.told.routes else {
        return default_route(answer, place);
    };
    let head = RequestHead {
        method: asked.method.as_str(),
        scheme: &asked.scheme,
        path: &asked.path,
        query: asked.query.as_deref(),
        authority: &asked.authority,
        headers: &asked.headers,
        port: place.port,
    };
    let explanation = decide::explain(routes, &head, &asked.source);
    let root = (routes.namespace.as_str(), routes.name.as_str());
    let named = |rule: &HttpRule, item| described(&rule.label, &rule.origin, root, "http", item);
    answer.passed_over = passed_over(&explanation, &routes.rules, |rule| named(rule, None));
    match explanation.verdict {
        Verdict::NotConcerned => default_route(answer, place),
        Verdict::NoRule => {
            let reason = format!("no rule for {} matches the request", place.told.fqdn);
            answer.reply = Some(Reply::new(404, "NR", reason));
        }
        Verdict::Rule { index, item } => {
            let Some(rule) = routes.rules.get(index) else { return };
            answer.rule = Some(named(rule, item));
            let mut policies = policies::of_rule(rule);
            let matched = item.and_then(|item| rule.matches.get(item));
            match &rule.action {
                Action::Route(route) => {
                    answer.outcome = Outcome::Route;
                    answer.destinations = place.of(&route.destinations, route.total_weight);
                    action::rewrite(&mut policies, route, matched, &head);
                }
                Action::Redirect(redirect) => {
                    answer.outcome = Outcome::Redirect;
                    answer.reply = Some(action::redirect(redirect, matched, &head));
                }
                Action::DirectResponse(response) => {
                    answer.outcome = Outcome::DirectResponse;
                    answer.reply = Some(action::direct_response(response));
                }
            }
            answer.policies = Some(policies);
            action::before(answer, rule, &head);
        }
    }
}

fn connection(answer: &mut Answer, place: &Place<'_>, asked: &Checked) {
    let routes = place.told.routes.as_ref();
    let root = routes.map_or(("", ""), |routes| (routes.namespace.as_str(), routes.name.as_str()));
    let address: Option<IpAddr> = asked.host.parse().ok();
    let head = ConnectionHead {
        port: place.port,
        destination: address.or_else(|| place.told.addresses.first().copied()),
        source: None,
        sni: (asked.asked == Asked::Tls && address.is_none()).then_some(asked.host.as_str()),
    };
    // As a proxy: by the name first, then by where it goes.
    let tls = routes
        .filter(|_| asked.asked == Asked::Tls)
        .map(|routes| ("tls", &routes.tls));
    let tcp = routes.map(|routes| ("tcp", &routes.tcp));
    for (kind, rules) in tls.into_iter().chain(tcp) {
        let explanation = decide::explain_connection(rules, &head, &asked.source);
        let named = |rule: &ConnectionRule, item| described(&rule.label, &rule.origin, root, kind, item);
        answer
            .passed_over
            .extend(passed_over(&explanation, rules, |rule| named(rule, None)));
        if let Verdict::Rule { index, item } = explanation.verdict {
            let Some(rule) = rules.get(index) else { return };
            answer.rule = Some(named(rule, item));
            answer.outcome = Outcome::Route;
            answer.destinations = place.of(&rule.destinations, rule.total_weight);
            return;
        }
    }
    answer.outcome = Outcome::DefaultRoute;
    answer.destinations = place.own();
}

fn default_route(answer: &mut Answer, place: &Place<'_>) {
    answer.outcome = Outcome::DefaultRoute;
    answer.destinations = place.own();
    answer.policies = Some(policies::default());
}

/// `root`: namespace and name of the VirtualService in force, whose matches alone are as they are written.
fn described(label: &str, origin: &Origin, root: (&str, &str), kind: &str, item: Option<usize>) -> Rule {
    let own = root == (origin.namespace.as_str(), origin.name.as_str());
    Rule {
        name: label.to_owned(),
        virtual_service: format!("{}/{}", origin.namespace, origin.name),
        place: format!("{kind}[{}]", origin.index),
        item: item.filter(|_| own),
    }
}

fn passed_over<R>(explanation: &Explanation, rules: &[R], named: impl Fn(&R) -> Rule) -> Vec<PassedOver> {
    let passed = explanation.passed_over.iter();
    passed
        .filter_map(|passed| {
            Some(PassedOver {
                rule: named(rules.get(passed.index)?),
                reasons: passed.reasons.iter().map(ToString::to_string).collect(),
            })
        })
        .collect()
}

/// Where no destination can be reached, that is what the request gets.
fn sum_up(answer: &mut Answer) {
    let Some(first) = answer.destinations.first() else {
        return;
    };
    let flags = |reply: &Option<Reply>| reply.as_ref().map(|reply| reply.flags.clone());
    if first.reply.is_some()
        && answer
            .destinations
            .iter()
            .all(|to| flags(&to.reply) == flags(&first.reply))
    {
        answer.reply.clone_from(&first.reply);
    }
    if answer.outcome == Outcome::DefaultRoute {
        answer.notes.push(match answer.virtual_service.as_str() {
            "" => "default route of the service: no VirtualService names it".to_owned(),
            name => format!("default route of the service: no rule of {name} is for this client and port"),
        });
    }
}
