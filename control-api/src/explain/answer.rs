//! What is answered, as it travels and as the command line and route tests read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a request gets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub outcome: Outcome,
    /// FQDN of the host that the name means to this client; empty: there is none.
    pub host: String,
    /// Of the host, as the client asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `namespace/name` of the one in force for the host; empty: there is none.
    pub virtual_service: String,
    /// That decides; `None`: no rule does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The rules before it.
    pub passed_over: Vec<PassedOver>,
    pub destinations: Vec<Destination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Policies>,
    /// What the proxy answers by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// What a share of the requests gets in place of all this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sometimes: Option<Sometimes>,
    pub notes: Vec<String>,
}

/// Of a rule that aborts only some of its requests.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sometimes {
    pub percentage: f64,
    pub reply: Reply,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// To a rule's destinations.
    Route,
    /// To the service itself: no rule is for this client and port.
    DefaultRoute,
    Redirect,
    DirectResponse,
    /// The rule's fault aborts every request.
    FaultAbort,
    /// The rule's CORS policy answers a preflight.
    CorsPreflight,
    /// A connection to what no service is goes to its original destination, untouched.
    Passthrough,
    /// The proxy answers by itself because it can do nothing else.
    #[default]
    LocalReply,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// As in metrics: its name, or `VirtualService.namespace/index`.
    pub name: String,
    /// `namespace/name` of the VirtualService that it is written in, which may be one that was delegated to.
    pub virtual_service: String,
    /// Where in it: `http[2]`.
    pub place: String,
    /// Which of its matches holds; `None`: it has none and is for every request, or it is delegated to: then its matches are
    /// those of both documents together, which have no place in either.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    pub rule: Rule,
    /// One for each match: the first of its predicates that does not hold.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    pub host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub subset: String,
    pub weight: u32,
    /// Percent.
    pub share: f64,
    /// As in metrics and in `/clusters`; empty: there is none.
    pub cluster: String,
    /// That an endpoint of the subset has.
    pub labels: BTreeMap<String, String>,
    pub endpoints: Vec<Endpoint>,
    /// `namespace/name` of those in force for this client, merged into one; empty: there is none.
    #[serde(default)]
    pub destination_rules: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// What requests get that are sent here, where they cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub address: String,
    /// Of a name: the addresses that the proxies which have used it know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<String>,
    /// `HEALTHY`, `DRAINING` or `UNHEALTHY`, as proxies are told; `EJECTED`, `PROBING` or `AWAITING_PROBE`, the worst that a
    /// proxy says of one that is told healthy. A name is `UNKNOWN` as long as no proxy has used it, and `UNRESOLVED` where it
    /// has no address for any that did.
    pub state: String,
    pub weight: u32,
    pub locality: String,
    /// The proxies that send it no requests, or not their share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_by: Vec<Seen>,
}

/// How one proxy sees an endpoint of the destination.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub node_id: String,
    pub namespace: String,
    /// Of an endpoint that is a name: that address of it. Empty: the whole endpoint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// ejected, probing, awaiting probe
    pub state: String,
    /// Why it was ejected.
    pub reason: String,
}

/// Of a destination's cluster: its blocks as a DestinationRule calls them, each by the names of its fields. What is not set
/// is left out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// `CONSISTENT_HASH` beside the names of `simple`.
    pub load_balancer: String,
    pub consistent_hash: BTreeMap<String, String>,
    pub locality_lb_setting: BTreeMap<String, String>,
    pub warmup: BTreeMap<String, String>,
    pub connection_pool: BTreeMap<String, String>,
    pub outlier_detection: BTreeMap<String, String>,
    pub retry_budget: BTreeMap<String, String>,
    pub tls: BTreeMap<String, String>,
    pub proxy_protocol: BTreeMap<String, String>,
}

impl TrafficPolicy {
    /// By name, those that say something.
    pub fn blocks(&self) -> impl Iterator<Item = (&'static str, &BTreeMap<String, String>)> {
        let all = [
            ("consistentHash", &self.consistent_hash),
            ("localityLbSetting", &self.locality_lb_setting),
            ("warmup", &self.warmup),
            ("connectionPool", &self.connection_pool),
            ("outlierDetection", &self.outlier_detection),
            ("retryBudget", &self.retry_budget),
            ("tls", &self.tls),
            ("proxyProtocol", &self.proxy_protocol),
        ];
        all.into_iter().filter(|(_, fields)| !fields.is_empty())
    }
}

/// Of the rule. What is not set is left out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    pub retries: String,
    /// `10 % of requests: 500 FI`, `100 % of requests: delayed by 2s`.
    pub faults: Vec<String>,
    pub mirrors: Vec<Mirror>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<String>,
    /// The request's path, with its query, and authority as an endpoint gets them, where a rewrite changes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// `set x-a`, the rule's first.
    pub request_headers: Vec<String>,
    pub response_headers: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    pub host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub subset: String,
    pub percentage: f64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// 0: there is none, the client's stream or connection is reset.
    pub status: u16,
    /// Of an abort, for a gRPC request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// As in the access log; empty: none.
    pub flags: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Reply {
    pub(super) fn new(status: u16, flags: &str, reason: impl Into<String>) -> Self {
        Self {
            status,
            flags: flags.to_owned(),
            reason: reason.into(),
            ..Self::default()
        }
    }
}
