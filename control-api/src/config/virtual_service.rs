//! VirtualService: the rules by which requests to a host find their destination.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::read::{Field, Fields};
use super::{http_match, http_route, limits, names};

#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// FQDNs, never empty, no duplicates.
    pub hosts: Vec<String>,
    /// The proxies that it is for, as written; empty: sidecars (`mesh`).
    pub gateways: Vec<String>,
    /// The namespaces of the clients that it is for.
    pub export_to: ExportTo,
    /// In the order written.
    pub http: Vec<HttpRule>,
    pub tls: Vec<ConnectionRule>,
    pub tcp: Vec<ConnectionRule>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum ExportTo {
    #[default]
    Everyone,
    /// Sorted; `.` is the document's own already by its name. Empty (`~`): nobody.
    Namespaces(Vec<String>),
}

/// Exactly one of `route`, `redirect`, `direct_response` and `delegate` is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRule {
    /// Empty: unnamed.
    pub name: String,
    /// Any one suffices; none: every request.
    pub matches: Vec<HttpMatch>,
    /// Weights are never all zero.
    pub route: Vec<WeightedDestination>,
    pub redirect: Option<Redirect>,
    pub direct_response: Option<DirectResponse>,
    pub delegate: Option<Delegate>,
    pub rewrite: Option<Rewrite>,
    pub fault: Option<Fault>,
    pub mirrors: Vec<Mirror>,
    pub cors: Option<CorsPolicy>,
    /// `None`: no limit.
    pub timeout: Option<Duration>,
    /// `None`: the mesh's default.
    pub retries: Option<Retries>,
    pub headers: Headers,
}

/// All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpMatch {
    pub name: String,
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    /// Sorted by name, names in lower case. `None`: presence is enough.
    pub headers: Vec<(String, Option<StringMatch>)>,
    pub without_headers: Vec<(String, Option<StringMatch>)>,
    /// Sorted by name.
    pub query_params: Vec<(String, Option<StringMatch>)>,
    pub port: Option<u16>,
    pub scheme: Option<StringMatch>,
    pub source: SourceMatch,
    /// Empty: none.
    pub stat_prefix: String,
}

/// What a match asks of the client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceMatch {
    pub labels: BTreeMap<String, String>,
    /// `None`: any.
    pub namespace: Option<String>,
    /// As written; empty: those of the VirtualService. Where it is not, labels and namespace are not looked at.
    pub gateways: Vec<String>,
}

/// A rule of `tls` or `tcp`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionRule {
    /// Any one suffices; none: every connection (only in `tcp`).
    pub matches: Vec<ConnectionMatch>,
    /// Without header operations.
    pub route: Vec<WeightedDestination>,
}

/// All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionMatch {
    /// In lower case; only in `tls`, never empty there.
    pub sni_hosts: Vec<String>,
    /// CIDRs or addresses. Sorted.
    pub destination_subnets: Vec<String>,
    pub source_subnet: Option<String>,
    pub port: Option<u16>,
    pub source: SourceMatch,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redirect {
    pub uri: Option<String>,
    pub prefix_rewrite: Option<String>,
    /// Empty: the request's.
    pub authority: String,
    pub scheme: String,
    pub port: Option<RedirectPort>,
    /// `None`: 301.
    pub code: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RedirectPort {
    Number(u16),
    FromProtocolDefault,
    FromRequestPort,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DirectResponse {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Another VirtualService, without hosts, whose rules are taken in place of this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegate {
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    pub uri: Option<String>,
    /// Pattern (RE2 syntax) and substitution.
    pub uri_regex: Option<(String, String)>,
    /// Empty: kept.
    pub authority: String,
}

/// Shares are of a million requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    pub delay: Option<(u32, Delay)>,
    pub abort: Option<(u32, Abort)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    Fixed(Duration),
    /// The mean.
    Exponential(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Abort {
    HttpStatus(u16),
    GrpcStatus(u8),
    Http2Error(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// FQDN.
    pub host: String,
    pub port: Option<u16>,
    pub subset: String,
    /// Of a million requests.
    pub per_million: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorsPolicy {
    pub allow_origins: Vec<StringMatch>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Option<Duration>,
    pub allow_credentials: bool,
    /// False: a preflight request from an origin that is not allowed is answered by the proxy.
    pub forward_unmatched_preflights: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// RE2 syntax, for the whole value.
    Regex(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct WeightedDestination {
    /// FQDN.
    pub host: String,
    /// `None`: the host's sole port, else the one that the client asked for.
    pub port: Option<u16>,
    /// Empty: all endpoints.
    pub subset: String,
    pub weight: u32,
    /// False: it is 0 because nothing was written.
    pub weight_is_given: bool,
    pub headers: Headers,
    /// In place of the request's (a `Host` that is set). Empty: kept.
    pub authority: String,
}

/// Operations on the request and on the response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    pub request: HeaderOperations,
    pub response: HeaderOperations,
}

/// Sorted by name, names in lower case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderOperations {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// After the first attempt; 0: off.
    pub attempts: u32,
    pub per_try_timeout: Option<Duration>,
    /// Sorted conditions and status codes; empty: the mesh's default set.
    pub retry_on: Vec<String>,
    /// `None`: 25 ms.
    pub backoff: Option<Duration>,
    /// `None`: true.
    pub ignore_previous_hosts: Option<bool>,
    pub retry_remote_localities: bool,
}

const SPEC: Fields = Fields {
    supported: &["hosts", "gateways", "http", "exportTo"],
    later: &["tls", "tcp"],
};
const RULE: Fields = Fields {
    supported: &["name", "match", "route", "timeout", "retries", "headers"],
    later: &[
        "redirect",
        "directResponse",
        "delegate",
        "rewrite",
        "fault",
        "mirror",
        "mirrors",
        "mirrorPercent",
        "mirrorPercentage",
        "corsPolicy",
    ],
};
/// What a rule may do instead of routing.
const OTHER_ACTIONS: [&str; 3] = ["redirect", "directResponse", "delegate"];

pub(super) fn read(spec: &Field<'_>, namespace: &str) -> Option<VirtualService> {
    if !spec.is_message_around(&SPEC, &[("http", &RULE)]) || !limits::of_virtual_service(spec) {
        return None;
    }
    spec.exported_everywhere();
    if let Some(gateways) = spec.get("gateways") {
        only_mesh(&gateways);
    }
    let hosts = spec
        .required("hosts")
        .map(|field| hosts(&field, namespace))
        .unwrap_or_default();
    Some(VirtualService {
        hosts,
        gateways: Vec::new(),
        export_to: ExportTo::default(),
        http: rules(spec, namespace),
        tls: Vec::new(),
        tcp: Vec::new(),
    })
}

/// Rules for sidecars, which are the only ones there are.
pub(super) fn only_mesh(gateways: &Field<'_>) {
    for item in gateways.items() {
        if item.text().is_some_and(|name| name != "mesh") {
            item.not_supported_yet("a gateway other than `mesh`");
        }
    }
}

fn hosts(list: &Field<'_>, namespace: &str) -> Vec<String> {
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    let mut seen = HashSet::with_capacity(items.len());
    let hosts = items.iter().filter_map(|item| names::host(item, namespace));
    hosts.filter(|host| seen.insert(host.clone())).collect()
}

fn rules(spec: &Field<'_>, namespace: &str) -> Vec<HttpRule> {
    let Some(list) = spec.get("http") else {
        // Of tls and tcp it was said already that they are not supported yet.
        if ["tls", "tcp"].iter().all(|name| spec.get(name).is_none()) {
            spec.refuse_at("http", "is required");
        }
        return Vec::new();
    };
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    items.iter().filter_map(|item| rule(item, namespace)).collect()
}

fn rule(item: &Field<'_>, namespace: &str) -> Option<HttpRule> {
    let inner = [
        ("match", &http_match::MATCH),
        ("route", &http_route::ROUTE),
        ("retries", &http_route::RETRIES),
    ];
    if !item.is_message_around(&RULE, &inner) {
        return None;
    }
    let matches = item
        .get("match")
        .map(|list| http_match::read_list(&list))
        .unwrap_or_default();
    let route = match item.get("route") {
        Some(list) => http_route::read_list(&list, namespace),
        None => {
            if OTHER_ACTIONS.iter().all(|name| item.get(name).is_none()) {
                item.refuse_at("route", "is required");
            }
            Vec::new()
        }
    };
    Some(HttpRule {
        name: item
            .get("name")
            .and_then(|field| field.text())
            .unwrap_or_default()
            .to_owned(),
        matches,
        route,
        timeout: item.get("timeout").and_then(|field| field.duration()),
        retries: item.get("retries").map(|field| http_route::read_retries(&field)),
        headers: item
            .get("headers")
            .map(|field| http_route::read_headers(&field))
            .unwrap_or_default(),
        ..HttpRule::default()
    })
}
