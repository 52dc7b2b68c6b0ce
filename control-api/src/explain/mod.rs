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
use tsunagi_proto::model::{
    Action, ConnectionRule, Host, HttpRule, Origin, OutboundTrafficPolicy, Port, Protocol, Source,
};
use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN};

use crate::snapshot::{Node, World};
use answer::{Answer, Outcome, PassedOver, Reply, Rule};
use destinations::Place;
use question::{Asked, Checked};

pub use question::{BadQuestion, HeaderText, Question, default_namespace, get};

/// What the request gets in this world.
pub fn explain(world: &World, question: &Question) -> Result<Answer, BadQuestion> {
    let asked = question.checked()?;
    if asked.asked != Asked::Request {
        return Ok(connecting(world, &asked));
    }
    let Some(host) = find_host(world, &asked) else {
        return Ok(unknown_host(world, &asked));
    };
    let port = find_port(&host, &asked);
    let mut answer = at_port(world, &asked, &host, port.as_ref().ok().map(|port| port.number));
    match port {
        Err(reason) => {
            answer.reply = Some(Reply::new(404, "NR", reason));
            answer.notes.push(redirected(world, &asked, Some(&host)));
        }
        Ok(port) if asked.port.is_none() && port.number != 80 => answer.notes.push(format!(
            "the URL says no port: {}, the first HTTP port of {}, is taken",
            port.number, host.fqdn
        )),
        Ok(_) => {}
    }
    Ok(answer)
}

/// `port`: `None` where the host has none of that number.
fn at_port(world: &World, asked: &Checked, host: &Host, port: Option<u16>) -> Answer {
    let mut answer = Answer {
        host: host.fqdn.clone(),
        port,
        ..Answer::default()
    };
    if let Some(routes) = &host.routes {
        answer.virtual_service = format!("{}/{}", routes.namespace, routes.name);
    }
    if let Some(port) = port {
        let source = &asked.source;
        let told = host;
        let place = Place {
            world,
            told,
            port,
            source,
        };
        match asked.asked {
            Asked::Request => request(&mut answer, &place, asked),
            Asked::Tls | Asked::Tcp => connection(&mut answer, &place, asked),
        }
    }
    sum_up(&mut answer);
    answer
}

/// As a proxy takes a redirected connection: what no service has goes to the one that has the port at every address.
fn connecting(world: &World, asked: &Checked) -> Answer {
    let why = match find_host(world, asked) {
        None => nobody(asked),
        Some(host) => match find_port(&host, asked) {
            Ok(port) => return at_port(world, asked, &host, Some(port.number)),
            Err(reason) => reason,
        },
    };
    let any = asked.port.and_then(|port| {
        let host = host_named(world, &asked.source, &names::any_address(port))?;
        let is_tcp = |own: &Port| own.number == port && own.protocol == Protocol::Tcp;
        host.ports.iter().any(is_tcp).then_some((host, port))
    });
    match any {
        Some((host, port)) => {
            let mut answer = at_port(world, asked, &host, Some(port));
            let fqdn = &host.fqdn;
            answer.notes.push(format!(
                "{why}: {fqdn}, a ServiceEntry of TCP without addresses (resolution NONE), has port {port} at every address that is nobody's"
            ));
            answer
        }
        None => unregistered(world, asked, why),
    }
}

/// A connection to what no service is.
fn unregistered(world: &World, asked: &Checked, why: String) -> Answer {
    match policy(world, asked) {
        OutboundTrafficPolicy::AllowAny => Answer {
            outcome: Outcome::Passthrough,
            notes: vec![why],
            ..Answer::default()
        },
        OutboundTrafficPolicy::RegistryOnly => Answer {
            reply: Some(Reply::new(0, "", format!("{why} (REGISTRY_ONLY)"))),
            ..Answer::default()
        },
    }
}

/// The host that the name means to a client of the namespace.
fn find_host(world: &World, asked: &Checked) -> Option<Host> {
    let candidates = names::candidates(&asked.host, &asked.source.namespace, DEFAULT_CLUSTER_DOMAIN);
    candidates
        .iter()
        .find_map(|name| host_named(world, &asked.source, name))
}

fn host_named(world: &World, source: &Source, name: &str) -> Option<Host> {
    let told = |name: &str| world.host(name, &source.namespace).and_then(|told| told.host());
    let found = told(name)?;
    let host = match &found.alias_of {
        Some(fqdn) => told(fqdn)?,
        None => found,
    };
    Some(host.with_clusters_for(source))
}

/// What the client's sidecar does with what no service is.
fn policy(world: &World, asked: &Checked) -> OutboundTrafficPolicy {
    let node = Node {
        namespace: asked.source.namespace.clone(),
        labels: asked.source.labels.clone(),
        ..Node::default()
    };
    let workload = world.workload(&node).workload();
    let policy = workload.map(|workload| workload.outbound_traffic_policy);
    policy.unwrap_or_default()
}

fn unknown_host(world: &World, asked: &Checked) -> Answer {
    Answer {
        reply: Some(Reply::new(404, "NR", nobody(asked))),
        notes: vec![redirected(world, asked, None)],
        ..Answer::default()
    }
}

/// What becomes of a request on a redirected connection that is for no HTTP port of this host.
fn redirected(world: &World, asked: &Checked, host: Option<&Host>) -> String {
    let declared = host.zip(asked.port).filter(|(host, number)| {
        let is_declared = host.ports.iter().any(|port| port.number == *number);
        is_declared && !host.addresses.is_empty()
    });
    if let Some((host, number)) = declared {
        return format!(
            "on a redirected connection to its address it is not read as a request: its bytes go where those of tcp://{}:{number} go",
            host.fqdn
        );
    }
    let policy = match policy(world, asked) {
        OutboundTrafficPolicy::AllowAny => {
            "on a redirected connection it goes to its original destination, untouched (ALLOW_ANY)"
        }
        OutboundTrafficPolicy::RegistryOnly => "on a redirected connection it gets 502 (REGISTRY_ONLY)",
    };
    policy.to_owned()
}

/// Why nobody is found.
fn nobody(asked: &Checked) -> String {
    let (name, namespace) = (&asked.host, &asked.source.namespace);
    if name.parse::<IpAddr>().is_ok() {
        return format!("no service has the address {name}");
    }
    let hint = if name.contains('.') || name.contains(':') {
        String::new()
    } else {
        format!(" in namespace {namespace:?}; a service of another one is {name}.NAMESPACE")
    };
    format!("no service is called {name:?}{hint}")
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

/// As a proxy takes it: a port of HTTP reads requests, one that is declared TLS meets `tls` rules alone, one of TCP `tcp`
/// rules alone.
fn connection(answer: &mut Answer, place: &Place<'_>, asked: &Checked) {
    let protocol = place.protocol();
    if matches!(protocol, Protocol::Http1 | Protocol::Http2) {
        return no_request(answer, place, asked);
    }
    let routes = place.told.routes.as_ref();
    let root = routes.map_or(("", ""), |routes| (routes.namespace.as_str(), routes.name.as_str()));
    let address: Option<IpAddr> = asked.host.parse().ok();
    let head = ConnectionHead {
        port: place.port,
        destination: address.or_else(|| place.told.addresses.first().copied()),
        source: asked.from_address,
        sni: (asked.asked == Asked::Tls && address.is_none()).then_some(asked.host.as_str()),
    };
    // By the name first, then by where it goes.
    let tls = routes
        .filter(|_| asked.asked == Asked::Tls && protocol != Protocol::Tcp)
        .map(|routes| ("tls", &routes.tls));
    let tcp = routes
        .filter(|_| protocol != Protocol::Tls)
        .map(|routes| ("tcp", &routes.tcp));
    for (kind, rules) in tls.into_iter().chain(tcp) {
        let explanation = decide::explain_connection(rules, &head, &asked.source);
        let named = |rule: &ConnectionRule, item| described(&rule.label, &rule.origin, root, kind, item);
        let mut failed = explanation.passed_over.iter().flat_map(|passed| &passed.reasons);
        // All else of it is as the rule wants it.
        if asked.from_address.is_none() && failed.any(|failed| failed.predicate == "sourceSubnet") {
            let note = "it depends on the client's address, which is not known: --from-address says it (fromAddress)";
            answer.notes.push(note.to_owned());
        }
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
    if place.has_rules_of_tls() {
        let fqdn = &place.told.fqdn;
        let why = format!("no tls rule for port {} of {fqdn} is for it", place.port);
        let Answer {
            outcome, reply, notes, ..
        } = unregistered(place.world, asked, why);
        answer.outcome = outcome;
        answer.reply = reply;
        answer.notes.extend(notes);
        return;
    }
    answer.outcome = Outcome::DefaultRoute;
    answer.destinations = place.own();
}

/// A connection at a port where the proxy reads requests.
fn no_request(answer: &mut Answer, place: &Place<'_>, asked: &Checked) {
    let (fqdn, port) = (&place.told.fqdn, place.port);
    let reason = format!("port {port} of {fqdn} speaks HTTP: the proxy reads requests there, and this is none");
    answer.reply = Some(Reply::new(400, "DPE", reason));
    answer.notes.push(match asked.asked {
        Asked::Tls => {
            format!("the answer is no TLS: a client sees its handshake fail (http://{fqdn}:{port} asks for a request)")
        }
        Asked::Tcp | Asked::Request => format!("http://{fqdn}:{port} asks for a request"),
    });
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
