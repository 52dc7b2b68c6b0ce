//! VirtualService: the rules by which requests to a host find their destination.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection_rule::{self, Kind};
use super::read::{Field, Fields};
use super::{http_rule, limits, visibility};

/// The proxies at applications, among the gateways.
const SIDECARS: &str = "mesh";

#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// FQDNs, wildcards (`*.example.com`, `*`) and IP addresses, no duplicates. Empty: a delegate, whose rules others take.
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
    /// In place of the request's (a `Host` that is set in `headers`), never beside one of `rewrite`. Empty: kept.
    pub authority: String,
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
    supported: &["hosts", "gateways", "http", "tls", "tcp", "exportTo"],
    later: &[],
};

/// What the readers of its parts must know of a VirtualService.
pub(super) struct Context<'a> {
    pub namespace: &'a str,
    pub is_delegate: bool,
    pub concerns_sidecars: bool,
    /// As written, in lower case.
    pub hosts: &'a [String],
}

impl VirtualService {
    /// False: it is for gateways only.
    pub fn concerns_sidecars(&self) -> bool {
        concern_sidecars(&self.gateways)
    }

    /// Its rules are in force only where others delegate to it.
    pub fn is_delegate(&self) -> bool {
        self.hosts.is_empty()
    }
}

impl SourceMatch {
    /// False: the match is for gateways only.
    pub fn concerns_sidecars(&self) -> bool {
        concern_sidecars(&self.gateways)
    }
}

fn concern_sidecars(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == SIDECARS)
}

pub(super) fn read(spec: &Field<'_>, namespace: &str) -> Option<VirtualService> {
    let inner = [("http", &http_rule::RULE)];
    if !spec.is_message_around(&SPEC, &inner) || !limits::of_virtual_service(spec) {
        return None;
    }
    let gateways = visibility::gateways(spec);
    let concerns_sidecars = concern_sidecars(&gateways);
    let is_delegate = spec
        .get("hosts")
        .is_none_or(|list| list.is_list() && list.items().is_empty());
    let hosts = match spec.get("hosts") {
        Some(list) => visibility::hosts(&list, concerns_sidecars),
        None => Vec::new(),
    };
    let context = Context {
        namespace,
        is_delegate,
        concerns_sidecars,
        hosts: &hosts,
    };
    if is_delegate {
        check_delegate(spec);
    } else if ["http", "tls", "tcp"].iter().all(|name| is_empty(spec, name)) {
        spec.refuse_at("http", "is required, or `tls` or `tcp`");
    }
    let connections = |name, kind| {
        let list = spec.get(name);
        list.map(|list| connection_rule::read_list(&list, kind, &context))
            .unwrap_or_default()
    };
    Some(VirtualService {
        http: spec
            .get("http")
            .map(|list| http_rule::read_list(&list, &context))
            .unwrap_or_default(),
        tls: connections("tls", Kind::Tls),
        tcp: connections("tcp", Kind::Tcp),
        export_to: visibility::export_to(spec, namespace),
        gateways,
        hosts: visibility::resolved(&hosts, namespace),
    })
}

fn is_empty(spec: &Field<'_>, name: &str) -> bool {
    spec.get(name)
        .is_none_or(|list| list.is_list() && list.items().is_empty())
}

/// Without hosts it is one. Whoever only forgot them is told about them, too.
fn check_delegate(spec: &Field<'_>) {
    let only = "a VirtualService without `hosts` is one that others delegate to, with `http` alone";
    for name in ["gateways", "tls", "tcp"] {
        if !is_empty(spec, name) {
            spec.refuse_at(name, only);
        }
    }
    if is_empty(spec, "http") {
        spec.refuse_at("http", "is required");
    }
}
