//! Tests of finding a host by its names and addresses.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tsunagi_proto::model;

use super::super::reader::{Lookup, Snapshot};
use super::*;
use crate::telemetry::{Direction, Telemetry};

#[test]
fn a_service_is_called_by_its_short_name_only_in_its_own_namespace() {
    let fqdn = "user.shop.svc.cluster.local";
    assert_eq!(
        short_names(fqdn, "shop", "cluster.local"),
        ["user.shop", "user.shop.svc", "user"]
    );
    assert_eq!(
        short_names(fqdn, "web", "cluster.local"),
        ["user.shop", "user.shop.svc"]
    );
    assert!(short_names("api.example.com", "shop", "cluster.local").is_empty());
}

const USER: &str = "user.shop.svc.cluster.local";
const OTHER: &str = "other.shop.svc.cluster.local";

/// A host that has this address, or is one and stands for another.
fn host(fqdn: &str, address: &str, alias_of: Option<&str>) -> (String, Option<Arc<Host>>) {
    made(fqdn, address, alias_of, Instant::now())
}

fn host_since(fqdn: &str, alias_of: Option<&str>, epoch: Instant) -> (String, Option<Arc<Host>>) {
    made(fqdn, "", alias_of, epoch)
}

fn made(fqdn: &str, address: &str, alias_of: Option<&str>, epoch: Instant) -> (String, Option<Arc<Host>>) {
    let told = model::Host {
        fqdn: fqdn.to_owned(),
        namespace: String::new(),
        ports: Vec::new(),
        routes: None,
        clusters: Vec::new(),
        addresses: address.parse().into_iter().collect(),
        alias_of: alias_of.map(str::to_owned),
    };
    let series = Telemetry::new("test").request_series(Direction::Outbound, "", fqdn, "");
    let host = Host::new(Arc::new(told), Vec::new(), series, epoch);
    (fqdn.to_owned(), Some(Arc::new(host)))
}

fn snapshot(hosts: &[(String, Option<Arc<Host>>)]) -> Snapshot {
    let mut naming = Naming::new("shop", "cluster.local");
    hosts.iter().for_each(|(fqdn, known)| naming.set(fqdn, known.clone()));
    Snapshot {
        names: naming.means().clone(),
        hosts: naming.hosts().clone(),
        ..Snapshot::default()
    }
}

fn found(hosts: &[(String, Option<Arc<Host>>)], name: &str) -> Result<String, Option<Vec<String>>> {
    match snapshot(hosts).find(name, "shop") {
        Lookup::Found(host) => Ok(host.told.fqdn.clone()),
        Lookup::Absent => Err(None),
        Lookup::Unknown(names) => Err(Some(names)),
    }
}

#[test]
fn an_address_means_the_service_that_has_it_and_that_is_asked_for_in_turn() {
    let alias = host("10.96.0.10", "", Some(USER));
    let address = "10.96.0.10";
    assert_eq!(found(&[], address), Err(Some(vec![address.to_owned()])));
    assert_eq!(
        found(std::slice::from_ref(&alias), address),
        Err(Some(vec![USER.to_owned()]))
    );
    assert_eq!(
        found(&[alias.clone(), host(USER, "", None)], address),
        Ok(USER.to_owned())
    );
    assert_eq!(found(&[alias, (USER.to_owned(), None)], address), Err(None));
    assert_eq!(found(&[(address.to_owned(), None)], address), Err(None));
}

#[test]
fn of_several_services_that_claim_an_address_the_one_that_the_control_plane_names_has_it() {
    let address = "10.96.0.10";
    for winner in [USER, OTHER] {
        let hosts = [
            host(USER, address, None),
            host(OTHER, address, None),
            host(address, "", Some(winner)),
        ];
        assert_eq!(found(&hosts, address), Ok(winner.to_owned()));
    }
}

#[test]
fn addresses_that_stand_for_each_other_lead_nowhere() {
    let hosts = [
        host("10.96.0.1", "", Some("10.96.0.2")),
        host("10.96.0.2", "", Some("10.96.0.1")),
    ];
    assert_eq!(found(&hosts, "10.96.0.1"), Err(None));
}

const WILDCARD: &str = "*.shop";

#[test]
fn a_name_that_a_wildcard_covers_leads_there_and_a_service_that_it_may_mean_comes_first() {
    let alias = host("user.shop", "", Some(WILDCARD));
    let absent = (USER.to_owned(), None);
    assert_eq!(
        found(&[alias.clone(), absent.clone()], "user.shop"),
        Err(Some(vec![WILDCARD.to_owned()]))
    );
    let wildcard = host(WILDCARD, "", None);
    let covered = [alias.clone(), absent, wildcard.clone()];
    assert_eq!(found(&covered, "user.shop"), Ok(WILDCARD.to_owned()));
    let both = [alias, host(USER, "", None), wildcard];
    assert_eq!(found(&both, "user.shop"), Ok(USER.to_owned()));
}

#[test]
fn a_name_is_kept_as_long_as_it_is_called_itself() {
    let long_ago = Instant::now()
        .checked_sub(std::time::Duration::from_secs(3600))
        .unwrap();
    let (name, alias) = host_since("a.example.com", Some("*.example.com"), long_ago);
    let (_, other) = host_since("b.example.com", Some("*.example.com"), long_ago);
    let hosts = [
        (name.clone(), alias.clone()),
        ("b.example.com".to_owned(), other.clone()),
        host("*.example.com", "", None),
    ];
    let forget = |host: &Option<Arc<Host>>| host.as_ref().unwrap().forget_use();
    forget(&alias);
    forget(&other);
    let snapshot = snapshot(&hosts);
    assert_eq!(snapshot.known(&name).unwrap().told.fqdn, "*.example.com");
    let idle = |host: &Option<Arc<Host>>| host.as_ref().unwrap().idle_seconds();
    assert!(
        idle(&alias) < 60 && idle(&other) >= 3600,
        "{} {}",
        idle(&alias),
        idle(&other)
    );
}

/// Of every name: the host and what stands for it.
fn meanings(naming: &Naming) -> BTreeSet<String> {
    let of = |named: &Named| {
        let alias = named.alias.as_ref().map(|alias| &alias.told.fqdn);
        format!("{} as {alias:?}", named.host.told.fqdn)
    };
    let means = naming.means().iter();
    means
        .map(|(name, named)| format!("{name}: {:?}", named.as_ref().map(of)))
        .collect()
}

#[test]
fn however_hosts_come_and_go_every_name_means_what_the_hosts_that_are_there_make_of_it() {
    let mut random = StdRng::seed_from_u64(7);
    let services = [USER, OTHER, "user.shop", "user.web.svc.cluster.local", "*.shop"];
    let standing = ["10.0.0.1", "10.0.0.2", "user.shop", "user.web", "a.shop"];
    let mut naming = Naming::new("shop", "cluster.local");
    for step in 0..3000 {
        let service = services[random.random_range(0..services.len())];
        let name = standing[random.random_range(0..standing.len())];
        let (fqdn, known) = match random.random_range(0..6) {
            0 | 1 => host(service, name, None),
            2 | 3 => host(name, "", Some(service)),
            4 => (service.to_owned(), None),
            _ => {
                naming.remove(if step % 2 == 0 { service } else { name });
                continue;
            }
        };
        naming.set(&fqdn, known);
        assert_eq!(
            meanings(&naming),
            meanings(&naming.in_domain("cluster.local")),
            "step {step}"
        );
    }
    for name in services.iter().chain(&standing) {
        naming.remove(name);
    }
    assert!(meanings(&naming).is_empty() && naming.claims.is_empty() && naming.standing.is_empty());
}
