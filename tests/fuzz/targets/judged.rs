//! What must hold of every decision: the index answers what the scan answers, however header fields are stored, and what
//! was decided can be carried out. Called by the targets that have a route table.

use http::{HeaderMap, HeaderName, HeaderValue};
use tsunagi_proto::decide::{
    ConnectionHead, Fields, RequestHead, choose_destination, decide, decide_by_scan, decide_connection, matched_item,
};
use tsunagi_proto::model::{ConnectionRule, HttpMatch, NamedMatch, RouteTable, SniMatch, Source, StringMatch};

/// How much of a table is turned into requests: what one input costs is bounded.
const MOST_REQUESTS: usize = 24;

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub scheme: String,
    pub path: String,
    pub query: Option<String>,
    pub authority: String,
    /// As sent: in any case, in any order.
    pub headers: Spelled,
    pub port: u16,
}

/// Fields in the sender's spelling, with values that no map would take.
#[derive(Clone, Debug, Default)]
pub struct Spelled(pub Vec<(String, Vec<u8>)>);

impl Fields for Spelled {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a {
        let own = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_str()));
        own.map(|(_, value)| value.as_slice())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| name.as_bytes())
    }
}

impl Spelled {
    /// `None`: not all of it is what a map takes.
    fn to_map(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.0 {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            map.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(map)
    }
}

impl Request {
    fn head<'a, F: Fields>(&'a self, headers: &'a F) -> RequestHead<'a, F> {
        RequestHead {
            method: &self.method,
            scheme: &self.scheme,
            path: &self.path,
            query: self.query.as_deref(),
            authority: &self.authority,
            headers,
            port: self.port,
        }
    }

    /// Made to meet the match. Where it asks for nothing, a plain request.
    pub fn after(item: &HttpMatch) -> Self {
        let text = |wanted: &Option<StringMatch>, other: &str| {
            wanted
                .as_ref()
                .map_or_else(|| other.to_owned(), |wanted| meeting(wanted).to_owned())
        };
        let header = |wanted: &NamedMatch<HeaderName>| {
            let value = wanted.value.as_ref().map_or("", meeting);
            (wanted.name.as_str().to_ascii_uppercase(), value.as_bytes().to_vec())
        };
        let pair = |wanted: &NamedMatch<String>| {
            let value = wanted.value.as_ref().map_or("", meeting);
            format!("{}={value}", wanted.name)
        };
        let query: Vec<String> = item.query_params.iter().map(pair).collect();
        Self {
            method: text(&item.method, "GET"),
            scheme: text(&item.scheme, "http"),
            path: text(&item.uri, "/"),
            query: (!query.is_empty()).then(|| query.join("&")),
            authority: text(&item.authority, "a.test"),
            headers: Spelled(item.headers.iter().map(header).collect()),
            port: item.port.unwrap_or(80),
        }
    }
}

/// A value that exact and prefix take; for a regex its own text, which some take.
fn meeting(wanted: &StringMatch) -> &str {
    match wanted {
        StringMatch::Exact(text) | StringMatch::Prefix(text) => text,
        StringMatch::Regex(regex) => {
            let pattern = regex.as_str();
            pattern.strip_prefix(r"\A(?:").unwrap_or(pattern)
        }
    }
}

/// Does the request meet a rule?
pub fn request(table: &RouteTable, request: &Request) -> bool {
    let head = request.head(&request.headers);
    let decided = decide_by_scan(table, &head);
    assert_eq!(
        decide(table, &head),
        decided,
        "the index answers otherwise: {request:?}"
    );
    if let Some(map) = request.headers.to_map() {
        let of_map = decide(table, &request.head(&map));
        assert_eq!(of_map, decided, "a map is read otherwise: {request:?}");
    }
    let Some(number) = decided else { return false };
    let rule = &table.rules[number];
    let item = matched_item(rule, &head);
    assert_eq!(item.is_none(), rule.matches.is_empty(), "{request:?}");
    if let Some(route) = rule.route() {
        for random in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let chosen = choose_destination(&route.destinations, route.total_weight, random);
            assert!(
                route.destinations[chosen].weight > 0,
                "a destination of weight 0 is drawn"
            );
        }
    }
    true
}

/// Requests made after the table's own matches, by every client that it speaks of: how many meet a rule.
pub fn table(table: &RouteTable) -> usize {
    let mut met = requests(table);
    if table.depends_on_source() {
        for source in sources(table) {
            let own = table.clone().for_source(&source);
            assert!(own.rules.len() <= table.rules.len());
            met += requests(&own);
            connections(&own.tls);
            connections(&own.tcp);
        }
    }
    connections(&table.tls);
    connections(&table.tcp);
    met
}

fn requests(table: &RouteTable) -> usize {
    let items = table.rules.iter().flat_map(|rule| &rule.matches).take(MOST_REQUESTS);
    let mut met = usize::from(request(table, &Request::after(&HttpMatch::default())));
    for item in items {
        let like = Request::after(item);
        let longer = Request {
            path: format!("{}/B", like.path.to_uppercase()),
            ..like.clone()
        };
        met += usize::from(request(table, &like)) + usize::from(request(table, &longer));
    }
    met
}

/// One that has nothing, and one for each match that asks for something.
fn sources(table: &RouteTable) -> Vec<Source> {
    let asked = table.rules.iter().flat_map(|rule| &rule.matches).map(|item| Source {
        namespace: item.source.namespace.clone().unwrap_or_default(),
        labels: item.source.labels.clone(),
    });
    std::iter::once(Source::default()).chain(asked).take(4).collect()
}

fn connections(rules: &[ConnectionRule]) {
    for item in rules.iter().flat_map(|rule| &rule.matches).take(MOST_REQUESTS) {
        let sni = item.sni_hosts.first().map(|wanted| match wanted {
            SniMatch::Exact(name) => name.clone(),
            SniMatch::Suffix(suffix) => format!("a{suffix}"),
        });
        for sni in [None, sni.as_deref(), Some("")] {
            let head = ConnectionHead {
                port: item.port.unwrap_or(443),
                destination: item.destination_subnets.first().map(|subnet| subnet.addr()),
                source: item.source_subnet.map(|subnet| subnet.addr()),
                sni,
            };
            assert!(decide_connection(rules, &head).is_none_or(|number| number < rules.len()));
        }
    }
}
