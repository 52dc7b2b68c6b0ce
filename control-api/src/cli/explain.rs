//! `tsunagi explain`: what a request gets, and why. An answer that says 404 is an answer: only a question that cannot be
//! asked fails.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use clap::Args;
use hyper::Method;

use super::{
    CliError, ask,
    client::{Call, Client},
    endpoints::with_resolved,
    get::Format,
    output::Output,
    table,
};
use crate::explain::{
    HeaderText, Question,
    answer::{Answer, Destination, Endpoint, Outcome, PassedOver, Policies, Reply, Rule, Seen},
    default_namespace, get,
};

/// That see an endpoint in one way.
const MOST_PROXIES: usize = 2;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Of the request: http://HOST[:PORT]/PATH, with the name that the client uses; https:// or tls://HOST:PORT for a TLS
    /// connection to that name, tcp://HOST:PORT for a plain one
    url: String,

    /// Of the request
    #[arg(short = 'X', long, value_name = "METHOD", default_value_t = get())]
    method: String,

    /// Of the request, as `name: value`; repeated for more
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, String)>,

    /// The namespace of the client
    #[arg(long, value_name = "NAMESPACE", env = "TSUNAGI_NAMESPACE", default_value_t = default_namespace())]
    from_namespace: String,

    /// A label of the client's workload, as `key=value`; repeated for more
    #[arg(long = "from-label", value_name = "LABEL", value_parser = label)]
    from_labels: Vec<(String, String)>,

    /// The address of the client, for rules with a sourceSubnet
    #[arg(long, value_name = "ADDRESS")]
    from_address: Option<IpAddr>,

    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("not of the form `name: value`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not of the form `key=value`")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let question = question(options);
    let mut call = Call::new(Method::POST, "/v1/explain".to_owned());
    call.media_type = Some("application/json");
    call.body = serde_json::to_string(&question).map_err(|error| CliError::Failed(error.to_string()))?;
    let Some(answer) = ask(call, client, options.output, output).await? else {
        return Ok(());
    };
    Ok(output.line(&shown(&question, &answer))?)
}

fn question(options: &Options) -> Question {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &options.headers {
        headers.entry(name.clone()).or_default().push(value.clone());
    }
    Question {
        url: options.url.clone(),
        method: options.method.clone(),
        headers: headers
            .into_iter()
            .map(|(name, values)| (name, HeaderText::Several(values)))
            .collect(),
        from_namespace: options.from_namespace.clone(),
        from_labels: options.from_labels.iter().cloned().collect(),
        from_address: options.from_address.map(|address| address.to_string()),
    }
}

fn shown(question: &Question, answer: &Answer) -> String {
    let mut parts = vec![summary(question, answer)];
    if !answer.passed_over.is_empty() {
        let heading = match answer.rule {
            Some(_) => "Rules before it that do not match",
            None => "Rules that do not match",
        };
        parts.push(section(
            heading,
            &["RULE", "PLACE", "FIRST THAT FAILED"],
            passed_over(&answer.passed_over, &answer.virtual_service),
        ));
    }
    if !answer.destinations.is_empty() {
        let columns = [
            "SHARE",
            "WEIGHT",
            "HOST",
            "PORT",
            "SUBSET",
            "LABELS",
            "ENDPOINTS",
            "LOAD BALANCER",
            "DESTINATION RULES",
        ];
        parts.push(section(
            "Destinations",
            &columns,
            answer.destinations.iter().map(destination).collect(),
        ));
        let endpoints = endpoints(&answer.destinations);
        if !endpoints.is_empty() {
            let columns = ["SUBSET", "ENDPOINT", "STATE", "WEIGHT", "LOCALITY"];
            parts.push(section("Endpoints", &columns, endpoints));
        }
    }
    let policies = policies(answer.policies.as_ref(), &answer.destinations);
    if !policies.is_empty() {
        parts.push(section("Policies", &["POLICY", "VALUE"], policies));
    }
    parts.join("\n\n")
}

fn section(heading: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let table = table::render(columns, rows);
    let lines: Vec<String> = table.lines().map(|line| format!("  {line}")).collect();
    format!("{heading}:\n{}", lines.join("\n"))
}

fn summary(question: &Question, answer: &Answer) -> String {
    let client: Vec<String> = question
        .from_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let address = question.from_address.as_ref().map(|address| format!(", {address}"));
    let mut lines = vec![
        asked(question),
        format!(
            "  from            namespace {}{} {}",
            question.from_namespace,
            address.unwrap_or_default(),
            client.join(",")
        )
        .trim_end()
        .to_owned(),
    ];
    if !answer.host.is_empty() {
        let port = answer.port.map(|port| format!(", port {port}")).unwrap_or_default();
        lines.push(format!("  host            {}{port}", answer.host));
    }
    if !answer.virtual_service.is_empty() {
        let delegated = answer
            .rule
            .as_ref()
            .filter(|rule| is_delegated(rule, &answer.virtual_service));
        let written = delegated.map(|rule| format!(", rule written in {} {}", rule.virtual_service, rule.place));
        let written = written.unwrap_or_default();
        lines.push(format!("  VirtualService  {}{written}", answer.virtual_service));
    }
    let rule = answer
        .rule
        .as_ref()
        .map(|rule| rule_line(rule, &answer.virtual_service));
    lines.extend(rule.map(|rule| format!("  rule            {rule}")));
    let faults = answer.policies.iter().flat_map(|policies| &policies.faults);
    lines.extend(faults.map(|fault| format!("  fault           {fault}")));
    lines.push(format!("  answer          {}", verdict(answer)));
    let notes = answer.notes.iter().cloned().chain(refusals(answer));
    lines.extend(notes.map(|note| format!("  note            {note}")));
    lines.join("\n")
}

/// Why requests for a destination get no further, unless that is the answer itself.
fn refusals(answer: &Answer) -> Vec<String> {
    let told = answer.reply.as_ref().map(|reply| &reply.reason);
    let mut notes = Vec::new();
    for reply in answer.destinations.iter().filter_map(|to| to.reply.as_ref()) {
        let note = format!("{} {}: {}", reply.status, reply.flags, reply.reason);
        if told != Some(&reply.reason) && !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

/// Of a connection there is no method.
fn asked(question: &Question) -> String {
    let scheme = question.url.split_once("://").map_or("http", |(scheme, _)| scheme);
    if scheme.eq_ignore_ascii_case("http") {
        format!("{} {}", question.method, question.url)
    } else {
        question.url.clone()
    }
}

fn is_delegated(rule: &Rule, root: &str) -> bool {
    rule.virtual_service != root
}

/// `item` where the rule is the root's own: the matches of a delegated one are those of both documents together.
fn place(rule: &Rule, root: &str, item: &str) -> String {
    if is_delegated(rule, root) {
        format!("{} of {}", rule.place, rule.virtual_service)
    } else {
        format!("{}{item}", rule.place)
    }
}

fn rule_line(rule: &Rule, root: &str) -> String {
    let item = rule.item.map(|item| format!(".match[{item}]")).unwrap_or_default();
    format!("{} ({})", rule.name, place(rule, root, &item))
}

fn verdict(answer: &Answer) -> String {
    let usual = match (&answer.reply, answer.outcome) {
        (Some(reply), _) => reply_line(reply),
        (None, Outcome::Passthrough) => "to its original destination, untouched (ALLOW_ANY)".to_owned(),
        (None, Outcome::DefaultRoute) => "from the service".to_owned(),
        (None, _) => "from the rule's destinations".to_owned(),
    };
    match &answer.sometimes {
        None => usual,
        Some(_) => format!("the rest: {usual}"),
    }
}

fn reply_line(reply: &Reply) -> String {
    let flags = if reply.flags.is_empty() {
        String::new()
    } else {
        format!(" {}", reply.flags)
    };
    let location = reply.location.as_ref().map(|location| format!(", Location {location}"));
    let reason = &reply.reason;
    let status = match (reply.status, reply.grpc_status) {
        (0, _) => "reset".to_owned(),
        (status, Some(code)) => format!("{status} grpc-status {code}"),
        (status, None) => status.to_string(),
    };
    format!(
        "{status}{flags} by the proxy itself: {reason}{}",
        location.unwrap_or_default()
    )
}

fn passed_over(passed: &[PassedOver], root: &str) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let all = passed.iter().flat_map(|passed| {
        let several = passed.reasons.len() > 1;
        passed.reasons.iter().enumerate().map(move |(item, reason)| {
            let item = if several {
                format!(".match[{item}]")
            } else {
                String::new()
            };
            vec![
                passed.rule.name.clone(),
                place(&passed.rule, root, &item),
                reason.clone(),
            ]
        })
    });
    // Matches of a delegated rule that fail alike, once for each match of the root's, are told once.
    for row in all {
        if rows.last() != Some(&row) {
            rows.push(row);
        }
    }
    rows
}

fn destination(to: &Destination) -> Vec<String> {
    let endpoints = match &to.reply {
        Some(reply) => format!("{} {}", reply.status, reply.flags),
        None => endpoint_count(&to.endpoints),
    };
    let labels: Vec<String> = to.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let policy = to.traffic_policy.as_ref();
    vec![
        format!("{} %", to.share),
        to.weight.to_string(),
        to.host.clone(),
        to.port.map(|port| port.to_string()).unwrap_or_default(),
        to.subset.clone(),
        labels.join(","),
        endpoints,
        policy.map(|policy| policy.load_balancer.clone()).unwrap_or_default(),
        to.destination_rules.join(", "),
    ]
}

/// `1 of 2 healthy, 1 ejected by 3 sidecars`; names of which nobody knows yet are no part of it.
fn endpoint_count(endpoints: &[Endpoint]) -> String {
    // Others without any have an answer of the proxy's own.
    if endpoints.is_empty() {
        return "where the client connects to".to_owned();
    }
    let count = |state: &str| endpoints.iter().filter(|endpoint| endpoint.state == state).count();
    let (unknown, unresolved) = (count("UNKNOWN"), count("UNRESOLVED"));
    let known = endpoints.len() - unknown - unresolved;
    let ejected = endpoints.iter().filter(|endpoint| endpoint.state == "EJECTED");
    let by = ejected.flat_map(|endpoint| seen_in("ejected", endpoint));
    let by = match by.map(proxy).collect::<BTreeSet<_>>().len() {
        1 => "1 sidecar".to_owned(),
        several => format!("{several} sidecars"),
    };
    let some = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let counts = [
        (unknown + unresolved == 0 || known > 0).then(|| format!("{} of {known} healthy", count("HEALTHY"))),
        some(count("EJECTED"), &format!("ejected by {by}")),
        some(count("PROBING") + count("AWAITING_PROBE"), "probed"),
        some(unknown, "resolved by the sidecars"),
        some(unresolved, "unresolved"),
    ];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn proxy(seen: &Seen) -> String {
    format!("{}/{}", seen.namespace, seen.node_id)
}

fn seen_in<'a>(state: &'a str, endpoint: &'a Endpoint) -> impl Iterator<Item = &'a Seen> {
    endpoint.seen_by.iter().filter(move |seen| seen.state == state)
}

/// `ejected by shop/web-1`; where it is not that for all, after the state that it is told or that its other addresses have.
fn state(endpoint: &Endpoint) -> String {
    let words = [
        ("EJECTED", "ejected", "ejected by"),
        ("PROBING", "probing", "probed by"),
        ("AWAITING_PROBE", "awaiting probe", "awaits a probe by"),
        ("FAILING", "failing", "failing and kept by"),
    ];
    let told = Some(&endpoint.state).filter(|state| !words.iter().any(|(own, ..)| state == own));
    let said = words.iter().find_map(|(_, state, words)| {
        let seen: Vec<&Seen> = seen_in(state, endpoint).collect();
        let (addresses, by): (BTreeSet<_>, BTreeSet<_>) =
            seen.iter().map(|seen| (seen.address.as_str(), proxy(seen))).unzip();
        let by: Vec<String> = by.into_iter().collect();
        let more = match by.len().saturating_sub(MOST_PROXIES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = by.get(..MOST_PROXIES).unwrap_or(&by).join(", ");
        let addresses: Vec<&str> = addresses.into_iter().collect();
        let which = format!("{} ", addresses.join(", "));
        let which = if told.is_some() { which.trim_start() } else { "" };
        (!seen.is_empty()).then(|| format!("{which}{words} {first}{more}"))
    });
    let parts: Vec<String> = told.cloned().into_iter().chain(said).collect();
    parts.join(", ")
}

fn endpoints(destinations: &[Destination]) -> Vec<Vec<String>> {
    let rows = destinations.iter().flat_map(|to| {
        to.endpoints.iter().map(|endpoint| {
            let (address, resolved) = (&endpoint.address, &endpoint.resolved);
            vec![
                to.subset.clone(),
                with_resolved(address, resolved),
                state(endpoint),
                endpoint.weight.to_string(),
                endpoint.locality.clone(),
            ]
        })
    });
    rows.collect()
}

fn policies(of_rule: Option<&Policies>, destinations: &[Destination]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut add = |name: &str, value: &str| rows.push(vec![name.to_owned(), value.to_owned()]);
    if let Some(policies) = of_rule {
        let optional = [
            ("timeout", &policies.timeout),
            ("cors", &policies.cors),
            ("path becomes", &policies.path),
            ("authority becomes", &policies.authority),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                add(name, value);
            }
        }
        if !policies.retries.is_empty() {
            add("retries", &policies.retries);
        }
        for mirror in &policies.mirrors {
            let (host, subset) = (&mirror.host, &mirror.subset);
            let subset = if subset.is_empty() {
                String::new()
            } else {
                format!(" subset {subset}")
            };
            add("mirror", &format!("{} % to {host}{subset}", mirror.percentage));
        }
        for (name, operations) in [
            ("request headers", &policies.request_headers),
            ("response headers", &policies.response_headers),
        ] {
            if !operations.is_empty() {
                add(name, &operations.join(", "));
            }
        }
    }
    for (to, of) in destinations.iter().zip(short_names(destinations)) {
        let Some(policy) = &to.traffic_policy else { continue };
        for (name, fields) in policy.blocks() {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key} {value}")).collect();
            add(&format!("{name}{of}"), &fields.join(", "));
        }
    }
    rows
}

/// ` of v1`, as short as tells the destinations apart; of the only one there is nothing to say.
fn short_names(destinations: &[Destination]) -> Vec<String> {
    if destinations.len() < 2 {
        return vec![String::new(); destinations.len()];
    }
    let label = |to: &Destination| to.host.split('.').next().unwrap_or_default().to_owned();
    let ways: [&dyn Fn(&Destination) -> String; 4] = [
        &|to| {
            if to.subset.is_empty() {
                label(to)
            } else {
                to.subset.clone()
            }
        },
        &|to| format!("{} {}", label(to), to.subset).trim_end().to_owned(),
        &|to| format!("{} {}", to.host, to.subset).trim_end().to_owned(),
        &|to| to.cluster.clone(),
    ];
    let clusters: BTreeSet<&String> = destinations.iter().map(|to| &to.cluster).collect();
    let apart = |way: &&&dyn Fn(&Destination) -> String| {
        destinations.iter().map(way).collect::<BTreeSet<_>>().len() == clusters.len()
    };
    let way = ways.iter().find(apart).unwrap_or(&ways[3]);
    destinations.iter().map(|to| format!(" of {}", way(to))).collect()
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
