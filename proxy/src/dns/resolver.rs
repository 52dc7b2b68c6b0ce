//! Asking DNS, as the pod's `/etc/resolv.conf` and `/etc/hosts` say: servers, search list, `ndots`. UDP first, TCP where an
//! answer is truncated; what is in the answers is checked by hickory-resolver, which follows at most eight aliases.
//!
//! The search list is walked here: a server that fails for one of a name's forms and knows nothing of another has not said
//! that there is no such name.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver, system_conf};

use super::names::Outcome;

/// Of one question; a resolv.conf may say less.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Clones ask the same servers, which are read at the first question: few sidecars ever ask one.
#[derive(Clone)]
pub struct Resolver {
    /// In the place of those of resolv.conf.
    server: Option<SocketAddr>,
    families: &'static [RecordType],
    servers: Arc<OnceLock<Servers>>,
}

/// Whom to ask, and for which forms of a name.
struct Servers {
    /// Why there is none, in the place of it.
    hickory: Result<TokioResolver, String>,
    search: Vec<Name>,
    ndots: usize,
}

/// What one form of a name brought for one family of addresses.
enum Found {
    Addresses(Vec<IpAddr>, Duration),
    Absent(Option<Duration>, String),
    Failed(String),
}

impl Resolver {
    /// `server` in the place of those of resolv.conf; `own` are the addresses of this machine.
    pub fn new(server: Option<SocketAddr>, own: &[IpAddr]) -> Self {
        Self {
            server,
            families: families(own),
            servers: Arc::default(),
        }
    }

    /// The addresses of a name. Dropping the future gives the questions up.
    pub async fn ask(self, name: Arc<str>) -> Outcome {
        let servers = self.servers.get_or_init(|| Servers::read(self.server));
        let hickory = match &servers.hickory {
            Ok(hickory) => hickory,
            Err(reason) => return Outcome::Failed(reason.clone()),
        };
        let mut last = Outcome::Failed(format!("{name:?} is not a name of DNS"));
        let mut failed = None;
        for form in forms(&name, servers.ndots, &servers.search) {
            last = ask_all(hickory, &form, self.families).await;
            match &last {
                Outcome::Addresses { .. } => return last,
                Outcome::Failed(_) => failed = Some(last.clone()),
                Outcome::Absent { .. } => {}
            }
        }
        failed.unwrap_or(last)
    }
}

impl Servers {
    fn read(server: Option<SocketAddr>) -> Self {
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|error| {
            if server.is_none() {
                tracing::warn!(%error, "/etc/resolv.conf names no server: only names in /etc/hosts have addresses");
            }
            (ResolverConfig::default(), ResolverOpts::default())
        });
        Self::with(config, options, server)
    }

    fn with(mut config: ResolverConfig, mut options: ResolverOpts, server: Option<SocketAddr>) -> Self {
        if let Some(server) = server {
            config.name_servers = vec![name_server(server)];
        }
        let search = config.search.clone();
        let ndots = options.ndots;
        // Names are kept by their time to live, in `names`.
        options.cache_size = 0;
        options.timeout = options.timeout.min(LONGEST_TIMEOUT);
        let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let hickory = builder.build();
        Self {
            hickory: hickory.map_err(|error| format!("there is no resolver: {error}")),
            search,
            ndots,
        }
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

/// Addresses that this machine cannot reach are no use: IPv6 ones are asked for where it has such an address itself.
fn families(own: &[IpAddr]) -> &'static [RecordType] {
    let reachable = |address: &&IpAddr| !address.is_loopback();
    let has_v6 = own.iter().filter(reachable).any(IpAddr::is_ipv6);
    let has_v4 = own.iter().filter(reachable).any(IpAddr::is_ipv4);
    match (has_v4, has_v6) {
        (_, false) => &[RecordType::A],
        (true, true) => &[RecordType::A, RecordType::AAAA],
        (false, true) => &[RecordType::AAAA],
    }
}

/// What a name may mean, in order: as it stands first where it has at least `ndots` dots, last where it has not.
fn forms(name: &str, ndots: usize, search: &[Name]) -> Vec<Name> {
    let Ok(mut written) = Name::from_str(name.trim_end_matches('.')) else {
        return Vec::new();
    };
    let dots = name.matches('.').count();
    let mut forms: Vec<Name> = Vec::new();
    if !name.ends_with('.') {
        forms.extend(search.iter().filter_map(|domain| {
            let mut form = written.clone().append_domain(domain).ok()?;
            form.set_fqdn(true);
            Some(form)
        }));
    }
    written.set_fqdn(true);
    if dots >= ndots {
        forms.insert(0, written);
    } else {
        forms.push(written);
    }
    forms
}

/// Of one form of the name, in all families.
async fn ask_all(hickory: &TokioResolver, name: &Name, families: &[RecordType]) -> Outcome {
    let ask = |family: Option<&RecordType>| {
        let (name, family) = (name.clone(), family.copied());
        async move {
            match family {
                Some(family) => Some(found(hickory.lookup(name, family).await)),
                None => None,
            }
        }
    };
    let (one, other) = tokio::join!(ask(families.first()), ask(families.get(1)));
    together(one.into_iter().chain(other))
}

/// Some addresses are enough; that there are none is certain only where no question failed.
fn together(found: impl Iterator<Item = Found>) -> Outcome {
    let mut all: Option<(Vec<IpAddr>, Duration)> = None;
    let (mut absent, mut failed) = (None, None);
    for found in found {
        match found {
            Found::Addresses(addresses, ttl) => {
                let (known, least) = all.get_or_insert((Vec::new(), ttl));
                known.extend(addresses);
                *least = ttl.min(*least);
            }
            Found::Absent(ttl, reason) => absent = Some(Outcome::Absent { ttl, reason }),
            Found::Failed(reason) => failed = Some(Outcome::Failed(reason)),
        }
    }
    match all {
        Some((addresses, ttl)) => Outcome::Addresses { addresses, ttl },
        None => failed
            .or(absent)
            .unwrap_or_else(|| Outcome::Failed("nothing was asked".to_owned())),
    }
}

fn found(lookup: Result<hickory_resolver::lookup::Lookup, NetError>) -> Found {
    match lookup {
        Ok(lookup) => {
            let records = lookup.answers().iter();
            let addresses: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
            let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
            if addresses.is_empty() {
                return Found::Absent(Some(ttl), "it has no address".to_owned());
            }
            // What is left of a second that is counted from the answer is the whole second.
            Found::Addresses(addresses, Duration::from_secs(ttl.as_secs_f64().round() as u64))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
            Found::Absent(ttl, format!("DNS answers {}", none.response_code))
        }
        Err(error) => Found::Failed(error.to_string()),
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
