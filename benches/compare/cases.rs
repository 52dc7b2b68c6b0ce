//! What is measured, and what may not be exceeded. Mutual TLS is no case yet: Tsunagi does not have it.

use crate::figures::{Against, Bound, Check, Figure};
use crate::load::Load;
use crate::plan::{Plan, Protocol, Rules, rule_path};
use crate::upstreams::{GRPC_PATH, SMALL_BODY_BYTES, grpc_frame};

pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    pub work: Work,
    /// Every peer takes part in each of them that it can; all of them share the rounds.
    pub variants: Vec<Variant>,
    pub checks: Vec<Check>,
}

pub enum Work {
    Load(Load),
    Memory,
}

#[derive(Clone)]
pub struct Variant {
    /// Empty where there is only one.
    pub name: &'static str,
    pub plan: Plan,
    pub path: String,
    pub body_bytes: u64,
}

pub const NAMES: &[&str] = &[
    "h1",
    "h1-one",
    "paced",
    "h2",
    "grpc",
    "body-100k",
    "body-10m",
    "new-connection",
    "two-in-line",
    "routes",
    "clusters",
    "one-slow",
    "memory",
];

pub fn all() -> Vec<Case> {
    let many = Load::Wrk { connections: 64 };
    vec![
        Case {
            checks: vec![
                at_most(Figure::Cpu, "envoy", 0.40),
                at_most(Figure::Cpu, "nginx", 1.05),
                at_most(Figure::Cpu, "haproxy", 1.05),
                Check {
                    figure: Figure::Rate,
                    against: Against::Peer("envoy"),
                    bound: Bound::AtLeast(2.5),
                },
            ],
            ..loaded("h1", "HTTP/1.1, 64 connections, 1 KiB", many, small(Plan::USER_SERVICE))
        },
        Case {
            checks: vec![
                at_most(Figure::P50, "envoy", 0.85),
                at_most(Figure::P99, "envoy", 0.85),
                at_most(Figure::P50, "haproxy", 1.05),
                at_most(Figure::P99, "haproxy", 1.05),
            ],
            ..loaded(
                "h1-one",
                "HTTP/1.1, one connection, 1 KiB",
                Load::OneConnection,
                small(Plan::USER_SERVICE),
            )
        },
        Case {
            checks: vec![at_most(Figure::Cpu, "envoy", 0.40)],
            ..loaded(
                "paced",
                "HTTP/1.1, 1,000 requests a second over 16 connections, 1 KiB, 2 workers on one core",
                Load::Paced {
                    rate: 1000,
                    connections: 16,
                },
                small(Plan {
                    workers: 2,
                    ..Plan::USER_SERVICE
                }),
            )
        },
        Case {
            checks: vec![
                at_most(Figure::Cpu, "envoy", 0.80),
                at_most(Figure::Cpu, "haproxy", 1.00),
            ],
            ..loaded(
                "h2",
                "HTTP/2 to HTTP/2, 16 connections of 10 streams, 1 KiB",
                Load::H2load {
                    clients: 16,
                    streams: 10,
                    grpc: false,
                },
                small(Plan {
                    protocol: Protocol::Http2,
                    ..Plan::USER_SERVICE
                }),
            )
        },
        loaded(
            "grpc",
            "gRPC unary, 16 connections of 10 streams, 1 KiB each way",
            Load::H2load {
                clients: 16,
                streams: 10,
                grpc: true,
            },
            Variant {
                name: "",
                plan: Plan {
                    protocol: Protocol::Grpc,
                    ..Plan::USER_SERVICE
                },
                path: GRPC_PATH.to_owned(),
                body_bytes: grpc_frame().len() as u64,
            },
        ),
        loaded(
            "body-100k",
            "HTTP/1.1, 16 connections, 100 KB",
            Load::Wrk { connections: 16 },
            Variant {
                path: "/100k".to_owned(),
                body_bytes: 100_000,
                ..small(Plan::USER_SERVICE)
            },
        ),
        loaded(
            "body-10m",
            "HTTP/1.1, 8 connections, 10 MB",
            Load::Wrk { connections: 8 },
            Variant {
                path: "/10m".to_owned(),
                body_bytes: 10_000_000,
                ..small(Plan::USER_SERVICE)
            },
        ),
        loaded(
            "new-connection",
            "HTTP/1.1, a new connection for each request (the proxy closes), 64 clients, 1 KiB",
            Load::WrkNewConnections { clients: 64 },
            small(Plan::USER_SERVICE),
        ),
        loaded(
            "two-in-line",
            "HTTP/1.1, 64 connections, 1 KiB, two of the same in line, both on one core",
            many,
            small(Plan {
                two_in_line: true,
                ..Plan::USER_SERVICE
            }),
        ),
        Case {
            variants: many_rules(),
            checks: vec![Check {
                figure: Figure::Cpu,
                against: Against::Variants("10000 rules", "10 rules"),
                bound: Bound::AtMost(1.10),
            }],
            ..loaded(
                "routes",
                "HTTP/1.1, 64 connections, 1 KiB: the last of many rules by path",
                many,
                small(Plan::USER_SERVICE),
            )
        },
        Case {
            variants: many_services(),
            ..loaded(
                "clusters",
                "HTTP/1.1, 64 connections, 1 KiB: one of many services",
                many,
                small(Plan::USER_SERVICE),
            )
        },
        Case {
            checks: vec![at_most(Figure::P99, "envoy", 1.00), at_most(Figure::P50, "envoy", 1.00)],
            ..loaded(
                "one-slow",
                "HTTP/1.1, 32 connections, 1 KiB: ten endpoints by least request, one of them ten times slower (50 ms)",
                Load::Wrk { connections: 32 },
                small(Plan {
                    rules: Rules::OneSlow,
                    ..Plan::USER_SERVICE
                }),
            )
        },
        Case {
            name: "memory",
            title: "resident memory: idle after one request, and each of 1,000 idle connections after one request",
            work: Work::Memory,
            variants: vec![small(Plan::USER_SERVICE)],
            checks: vec![
                at_most(Figure::Idle, "envoy", 0.12),
                Check {
                    figure: Figure::Idle,
                    against: Against::Nothing,
                    bound: Bound::AtMost(8e6),
                },
                at_most(Figure::PerConnection, "envoy", 0.5),
                Check {
                    figure: Figure::PerConnection,
                    against: Against::Nothing,
                    bound: Bound::AtMost(8e3),
                },
            ],
        },
    ]
}

fn loaded(name: &'static str, title: &'static str, load: Load, variant: Variant) -> Case {
    Case {
        name,
        title,
        work: Work::Load(load),
        variants: vec![variant],
        checks: Vec::new(),
    }
}

fn small(plan: Plan) -> Variant {
    Variant {
        name: "",
        plan,
        path: "/".to_owned(),
        body_bytes: SMALL_BODY_BYTES,
    }
}

/// Each request hits the last rule.
fn many_rules() -> Vec<Variant> {
    let rules = [
        ("1 rule", 1),
        ("10 rules", 10),
        ("100 rules", 100),
        ("10000 rules", 10_000),
    ];
    let variant = |(name, count)| Variant {
        name,
        path: rule_path(count),
        ..small(Plan {
            rules: Rules::Paths(count),
            ..Plan::USER_SERVICE
        })
    };
    rules.map(variant).into()
}

fn many_services() -> Vec<Variant> {
    let variant = |(name, count)| Variant {
        name,
        ..small(Plan {
            rules: Rules::AmongServices(count),
            ..Plan::USER_SERVICE
        })
    };
    [("1 service", 1), ("10000 services", 10_000)].map(variant).into()
}

fn at_most(figure: Figure, peer: &'static str, ratio: f64) -> Check {
    Check {
        figure,
        against: Against::Peer(peer),
        bound: Bound::AtMost(ratio),
    }
}
