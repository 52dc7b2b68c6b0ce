//! `tsunagi-proxy redirect` in network namespaces, with the real tools: which connections of a pod arrive at the sidecar's
//! ports, which do not, and that nothing is left when it is undone.

#[path = "redirect/pod.rs"]
mod pod;
#[path = "redirect/rules.rs"]
mod rules;

use std::net::SocketAddr;

use pod::{APPLICATION_UID, Arrived, Meshed};
use tsunagi_tests::{
    Bridge, Connection, ControlPlane, PROXY_UID, Sidecar, SidecarOptions, Version, request, require_root_and,
};

/// Every writer, whatever this machine prefers.
const WRITERS: [&str; 3] = ["nft", "iptables", "iptables-legacy"];

/// Says so, loudly, if this machine cannot run these tests.
fn able() -> bool {
    let iptables = ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];
    require_root_and(&[&iptables[..], &["nft", "curl", "setpriv", "unshare"]].concat())
}

/// A test of each writer, over IPv4 and, where there is one, IPv6.
fn everywhere(flags: &[&str], test: impl Fn(&Meshed, &dyn Fn(&tsunagi_tests::Pod, u16) -> SocketAddr)) {
    if !able() {
        return;
    }
    for writer in WRITERS {
        let bridge = Bridge::new();
        let meshed = Meshed::new(&bridge);
        let installed = meshed.redirect("install", writer, flags);
        assert_eq!(installed.code, 0, "{writer}: {}", installed.stderr);
        test(&meshed, &|pod, port| SocketAddr::new(pod.address(), port));
        if meshed.pod.has_ipv6() {
            test(&meshed, &|pod, port| SocketAddr::new(pod.address_v6(), port));
        }
    }
}

#[test]
fn what_the_application_opens_arrives_at_the_outbound_port_with_its_destination() {
    everywhere(&[], |meshed, at| {
        let destination = at(&meshed.other, 8080);
        assert_eq!(
            meshed.connect(APPLICATION_UID, destination),
            Arrived::Outbound(destination)
        );
        assert_eq!(
            meshed.connect(0, destination),
            Arrived::Outbound(destination),
            "root is no exception"
        );
    });
}

#[test]
fn what_comes_to_the_pod_arrives_at_the_inbound_port_with_its_destination() {
    everywhere(&[], |meshed, at| {
        let destination = at(&meshed.pod, 8080);
        assert_eq!(meshed.connect_from_outside(destination), Arrived::Inbound(destination));
        for own in [15021, 15090] {
            assert_eq!(
                meshed.connect_from_outside(at(&meshed.pod, own)),
                Arrived::InPerson(own)
            );
        }
    });
}

#[test]
fn what_the_sidecar_opens_is_left_alone() {
    everywhere(&[], |meshed, at| {
        let destination = at(&meshed.other, 8080);
        assert_eq!(meshed.connect(PROXY_UID, destination), Arrived::Elsewhere);
    });
}

#[test]
fn loopback_and_the_pod_itself_are_the_applications_own() {
    everywhere(&[], |meshed, at| {
        let own = at(&meshed.pod, 8080);
        assert_eq!(meshed.connect(APPLICATION_UID, own), Arrived::InPerson(8080));
        for uid in [APPLICATION_UID, PROXY_UID] {
            assert_eq!(
                meshed.connect(uid, meshed.loopback(own)),
                Arrived::InPerson(8080),
                "user {uid}"
            );
        }
    });
}

#[test]
fn a_call_of_its_own_service_goes_through_the_inbound_port_once() {
    everywhere(&["--exclude-inbound-ports=8081"], |meshed, at| {
        let own = at(&meshed.pod, 8080);
        assert_eq!(meshed.connect(PROXY_UID, own), Arrived::Inbound(own));
        // What the inbound path sends on is not taken again.
        assert_eq!(meshed.connect_from_inbound_source(own), Arrived::InPerson(8080));
        let excluded = at(&meshed.pod, 8081);
        assert_eq!(meshed.connect(PROXY_UID, excluded), Arrived::InPerson(8081));
    });
}

#[test]
fn excluded_ports_users_and_networks_are_left_alone_and_others_are_not() {
    if !able() {
        return;
    }
    for writer in WRITERS {
        let bridge = Bridge::new();
        let meshed = Meshed::new(&bridge);
        let excluded = bridge.pod("excluded");
        pod::stand_elsewhere(&excluded);
        let networks = match meshed.pod.has_ipv6() {
            true => format!("{}/32,{}/128", excluded.address(), excluded.address_v6()),
            false => excluded.address().to_string(),
        };
        let flags = [
            "--exclude-outbound-ports=8082,8090-8099".to_owned(),
            "--exclude-inbound-ports=8081".to_owned(),
            "--exclude-uids=4242,4243".to_owned(),
            format!("--exclude-outbound-cidrs={networks}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let installed = meshed.redirect("install", writer, &flags);
        assert_eq!(installed.code, 0, "{writer}: {}", installed.stderr);
        let mut families: Vec<fn(&tsunagi_tests::Pod) -> std::net::IpAddr> = vec![|pod| pod.address()];
        if meshed.pod.has_ipv6() {
            families.push(|pod| pod.address_v6());
        }
        for address in families {
            let other = |port| SocketAddr::new(address(&meshed.other), port);
            for port in [8082, 8090, 8095, 8099] {
                assert_eq!(
                    meshed.connect(APPLICATION_UID, other(port)),
                    Arrived::Elsewhere,
                    "{writer} {port}"
                );
            }
            for port in [8080, 8089, 8100] {
                let destination = other(port);
                assert_eq!(
                    meshed.connect(APPLICATION_UID, destination),
                    Arrived::Outbound(destination)
                );
            }
            for uid in [4242, 4243] {
                assert_eq!(
                    meshed.connect(uid, other(8080)),
                    Arrived::Elsewhere,
                    "{writer} user {uid}"
                );
            }
            let elsewhere = SocketAddr::new(address(&excluded), 8080);
            assert_eq!(
                meshed.connect(APPLICATION_UID, elsewhere),
                Arrived::Elsewhere,
                "{writer}"
            );
            let inbound = |port| SocketAddr::new(address(&meshed.pod), port);
            assert_eq!(
                meshed.connect_from_outside(inbound(8081)),
                Arrived::InPerson(8081),
                "{writer}"
            );
            assert_eq!(
                meshed.connect_from_outside(inbound(8080)),
                Arrived::Inbound(inbound(8080))
            );
        }
    }
}

#[test]
fn only_included_ports_and_networks_are_redirected_where_some_are_named() {
    let flags = [
        "--include-inbound-ports=8080",
        "--include-outbound-cidrs=192.0.2.0/24,2001:db8::/32",
        "--include-outbound-ports=8085",
    ];
    everywhere(&flags, |meshed, at| {
        let included = at(&meshed.other, 8085);
        assert_eq!(meshed.connect(APPLICATION_UID, included), Arrived::Outbound(included));
        assert_eq!(
            meshed.connect(APPLICATION_UID, at(&meshed.other, 8080)),
            Arrived::Elsewhere
        );
        let named: SocketAddr = match included.is_ipv4() {
            true => "192.0.2.7:80".parse().unwrap(),
            false => "[2001:db8::7]:80".parse().unwrap(),
        };
        assert_eq!(meshed.connect(APPLICATION_UID, named), Arrived::Outbound(named));
        let inbound = at(&meshed.pod, 8080);
        assert_eq!(meshed.connect_from_outside(inbound), Arrived::Inbound(inbound));
        assert_eq!(
            meshed.connect_from_outside(at(&meshed.pod, 8081)),
            Arrived::InPerson(8081)
        );
    });
}

#[test]
fn connections_that_are_older_than_the_rules_live_on() {
    if !able() {
        return;
    }
    for writer in WRITERS {
        let bridge = Bridge::new();
        let meshed = Meshed::new(&bridge);
        let outbound = meshed.pod.connect(SocketAddr::new(meshed.other.address(), 8080));
        let inbound = meshed.other.connect(SocketAddr::new(meshed.pod.address(), 8080));
        let installed = meshed.redirect("install", writer, &[]);
        assert_eq!(installed.code, 0, "{writer}: {}", installed.stderr);
        assert_eq!(pod::ask(outbound.unwrap()), Arrived::Elsewhere, "{writer}");
        assert_eq!(pod::ask(inbound.unwrap()), Arrived::InPerson(8080), "{writer}");
    }
}

#[test]
fn dns_stays_untouched() {
    everywhere(&["--include-outbound-ports=53"], |meshed, at| {
        let dns = at(&meshed.other, 53);
        assert_eq!(meshed.connect(APPLICATION_UID, dns), Arrived::Elsewhere, "over TCP");
        let answer = meshed.pod.run(|| {
            let socket = std::net::UdpSocket::bind(SocketAddr::new(meshed.any(dns), 0)).unwrap();
            socket.set_read_timeout(Some(tsunagi_tests::LIMIT)).unwrap();
            socket.send_to(b"who?", dns).unwrap();
            let mut answer = [0; 16];
            let (length, from) = socket.recv_from(&mut answer).unwrap();
            (answer[..length].to_vec(), from)
        });
        assert_eq!(answer, (b"who?".to_vec(), dns), "over UDP");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_takes_ipv6_connections_where_it_takes_redirected_ones() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    let pod = bridge.pod("web");
    if !pod.has_ipv6() {
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    }
    let control = ControlPlane::start_on(bridge.address());
    let sidecar = Sidecar::start_in(&pod, control.grpc, &SidecarOptions::default());
    let sidecar = sidecar.ready().await;
    let installed = pod::redirect(&pod, "install", "auto", &[]);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    for (port, path) in [(15021, "/healthz/ready"), (15090, "/metrics")] {
        let address = SocketAddr::new(pod.address_v6(), port);
        let reply = Connection::open(address, Version::Http1).await.get("web", path).await;
        assert_eq!(reply.status, 200, "{path}");
    }
    for ip in ["127.0.0.1", "::1"] {
        let outbound = SocketAddr::new(ip.parse().unwrap(), 15001);
        let mut connection = Connection::open_in(&pod, outbound, Version::Http1).await;
        let reply = connection.send(request("GET", "nobody.example", "/")).await;
        assert_eq!(
            (reply.status, reply.flags()),
            (404, "NR"),
            "{outbound}: {}",
            sidecar.process.log()
        );
    }
    let admin = "127.0.0.1:15000".parse().unwrap();
    let mut connection = Connection::open_in(&pod, admin, Version::Http1).await;
    let listeners = connection.get("admin", "/listeners").await.text();
    for address in [
        "127.0.0.1:15001",
        "[::1]:15001",
        "[::]:15006",
        "[::]:15021",
        "[::]:15090",
    ] {
        assert!(
            listeners.contains(&format!("\"{address}\"")),
            "{address} is not in {listeners}"
        );
    }
}
