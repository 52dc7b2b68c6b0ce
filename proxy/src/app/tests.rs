//! Tests of the wiring inside one process; the whole proxy is tested end to end in the `tests` package.

use std::net::TcpListener;

use clap::Parser;
use tsunagi_proto::model;

use super::*;
use crate::bootstrap::{Command, CommandLine};
use crate::snapshot::Update;
use crate::xds::Sink;

/// Options that ask for free ports only, and `flags`.
fn options(flags: &[&str]) -> Options {
    let addresses =
        ["outbound", "inbound", "admin", "metrics", "health"].map(|name| format!("--{name}-addr=127.0.0.1:0"));
    let line = ["tsunagi-proxy", "run", "--workers=2", "--access-log=off"].map(str::to_owned);
    let line = line
        .into_iter()
        .chain(addresses)
        .chain(flags.iter().map(|flag| (*flag).to_owned()));
    // A later flag must replace an earlier one of the same name.
    let mut last: Vec<String> = Vec::new();
    for word in line {
        let name = word.split('=').next().unwrap_or_default().to_owned();
        last.retain(|known| known.split('=').next() != Some(name.as_str()));
        last.push(word);
    }
    let Command::Run(options) = CommandLine::parse_from(last).command else {
        unreachable!("it was told to run")
    };
    *options
}

#[test]
fn port_0_is_announced_as_the_real_port_and_shared_by_the_workers() {
    let sockets = Sockets::bind(&options(&[])).expect("free ports");
    let announced = sockets.announcement();
    let names: Vec<_> = announced.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["outbound", "inbound", "admin", "metrics", "health"]);
    assert!(announced.iter().all(|(_, address)| address.port() != 0));
    assert_eq!(sockets.workers.len(), 2);
    for worker in &sockets.workers {
        assert_eq!(worker.outbound.local_addr().ok(), Some(announced[0].1));
        assert_eq!(worker.inbound.local_addr().ok(), Some(announced[1].1));
    }
}

#[test]
fn an_address_that_is_taken_is_refused_with_its_flag_also_if_its_owner_would_share_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let flag = format!("--metrics-addr={}", taken.local_addr().expect("bound"));
    let error = Sockets::bind(&options(&[&flag])).err().expect("taken").to_string();
    assert!(error.contains("--metrics-addr"), "{error}");

    let other_proxy = Sockets::bind(&options(&[])).expect("free ports");
    let flag = format!("--outbound-addr={}", other_proxy.workers[0].outbound_addr);
    let error = Sockets::bind(&options(&[&flag])).err().expect("taken").to_string();
    assert!(error.contains("--outbound-addr"), "{error}");
}

#[test]
fn addresses_that_redirected_connections_arrive_at_have_ipv6_companions_on_the_same_port() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    }
    let everywhere = ["inbound", "metrics", "health"].map(|name| format!("--{name}-addr=0.0.0.0:0"));
    let sockets = Sockets::bind(&options(&everywhere.each_ref().map(String::as_str))).expect("free ports");
    let announced = sockets.announcement();
    let port = |wanted: &str| {
        announced
            .iter()
            .find(|(name, _)| *name == wanted)
            .map_or(0, |it| it.1.port())
    };
    let expected: Vec<(&str, SocketAddr)> = [
        ("outbound", "::1"),
        ("inbound", "::"),
        ("metrics", "::"),
        ("health", "::"),
    ]
    .map(|(name, ip)| (name, SocketAddr::new(ip.parse().expect("an address"), port(name))))
    .to_vec();
    assert_eq!(sockets.companions(), expected);
    assert_eq!(
        announced.len(),
        5,
        "companions are not announced: scripts wait for these lines"
    );
    for worker in &sockets.workers {
        assert!(worker.outbound_v6.is_some() && worker.inbound_v6.is_some());
    }
    std::net::TcpStream::connect(expected[0].1).expect("the companion takes connections");
}

#[test]
fn a_companion_whose_port_is_taken_or_whose_address_is_special_is_done_without() {
    let Ok(taken) = TcpListener::bind("[::1]:0") else {
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    };
    let port = taken.local_addr().expect("bound").port();
    let flag = format!("--outbound-addr=127.0.0.1:{port}");
    let sockets = Sockets::bind(&options(&[&flag])).expect("IPv4 is free");
    assert_eq!(sockets.companions(), [], "and 127.0.0.1 for the others has none");
    let sockets = Sockets::bind(&options(&["--outbound-addr=127.0.0.2:0"])).expect("free ports");
    assert_eq!(sockets.companions(), []);
}

/// A host with one port, its own cluster and no endpoint.
fn host(fqdn: &str) -> Arc<model::Host> {
    let key = model::ClusterKey {
        host: fqdn.to_owned(),
        port: 80,
        subset: String::new(),
    };
    Arc::new(model::Host {
        fqdn: fqdn.to_owned(),
        namespace: "default".to_owned(),
        ports: vec![model::Port {
            number: 80,
            name: "http".to_owned(),
            protocol: model::Protocol::Http1,
        }],
        routes: None,
        clusters: vec![model::Cluster {
            labels: vec![("app".to_owned(), "users".to_owned())],
            connection_pool: model::ConnectionPool {
                max_connections: 100,
                ..Default::default()
            },
            ..model::Cluster::new(key, model::Protocol::Http1)
        }],
        addresses: Vec::new(),
        ranges: Vec::new(),
        alias_of: None,
    })
}

#[test]
fn the_first_update_makes_the_proxy_ready_and_shows_on_the_admin_pages() {
    let (parts, _wants) = make_parts(options(&[])).expect("no log file is needed");
    let mut sink = config::sink(&parts, config::publisher(&parts));
    assert!(!parts.readiness.is_configured());
    let hosts = vec![("users".to_owned(), Some(host("users"))), ("nobody".to_owned(), None)];
    sink.apply(Update {
        hosts,
        version: "7".to_owned(),
        ..Update::default()
    });
    sink.settled();
    assert!(parts.readiness.is_configured());

    let pages = pages::sources(&parts, &[("outbound", SocketAddr::from(([127, 0, 0, 1], 15001)))]);
    let dump = (pages.config_dump)();
    assert_eq!(dump["version"], "7");
    assert!(dump["hosts"].get("nobody").is_some_and(serde_json::Value::is_null));
    let users = &dump["hosts"]["users"];
    assert_eq!(users["ports"][0]["number"], 80);
    assert_eq!(users["clusters"][0]["name"], "outbound|80||users");
    assert_eq!(users["clusters"][0]["labels"]["app"], "users");
    assert_eq!(users["clusters"][0]["connection_pool"]["max_connections"], 100);
    assert!(
        users["clusters"][0]["connection_pool"]["max_requests"].is_null(),
        "unlimited"
    );
    assert!((pages.clusters)().contains("outbound|80||users::cx_active::0\n"));
    assert_eq!((pages.listeners)()[0]["address"], "127.0.0.1:15001");
}
