//! What a peer is asked to be in one case: protocol, rules, limits, workers. Each peer puts it into its own language.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::Outcome;

#[derive(Clone, Copy, PartialEq)]
pub enum Protocol {
    Http1,
    /// Prior knowledge, from the client and to the endpoints.
    Http2,
    Grpc,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Rules {
    /// Those of deploy/demo/user-service.yaml: `version: v2` goes to v2, the rest is split 90 to 10.
    UserService,
    /// This many rules by path, to v1 and v2 in turn; see `rule_path`.
    Paths(usize),
    /// `UserService` among so many other services.
    AmongServices(usize),
    /// The second proxy of two in line: everything to one endpoint.
    Forward,
    /// Everything to the ten endpoints of `slow`, by least request.
    OneSlow,
}

/// Of one cluster, as the DestinationRule counts them.
#[derive(Clone, Copy)]
pub struct Limits {
    pub connections: u32,
    pub pending: u32,
    pub requests: u32,
}

#[derive(Clone, Copy)]
pub struct Plan {
    pub protocol: Protocol,
    pub rules: Rules,
    pub workers: u8,
    pub two_in_line: bool,
}

/// Where the two versions of the service are.
#[derive(Clone)]
pub struct Endpoints {
    pub v1: Vec<SocketAddr>,
    pub v2: Vec<SocketAddr>,
}

impl Plan {
    pub const USER_SERVICE: Plan = Plan {
        protocol: Protocol::Http1,
        rules: Rules::UserService,
        workers: 1,
        two_in_line: false,
    };

    /// Streams are requests: 16 connections of 10 streams are more than the 100 of the demo's rules. For HTTP/2 a second
    /// host has the same rules with larger numbers, and so has each peer.
    pub fn limits(&self) -> Limits {
        match self.protocol {
            Protocol::Http1 => Limits {
                connections: 100,
                pending: 50,
                requests: 100,
            },
            Protocol::Http2 | Protocol::Grpc => Limits {
                connections: 1000,
                pending: 500,
                requests: 1000,
            },
        }
    }

    pub fn host(&self) -> &'static str {
        match self.protocol {
            Protocol::Http1 => "user-service",
            Protocol::Http2 | Protocol::Grpc => "user-service-wide",
        }
    }

    pub fn http2(&self) -> bool {
        self.protocol != Protocol::Http1
    }
}

/// The path of rule `number` from 1: odd ones are exact, even ones are prefixes.
pub fn rule_path(number: usize) -> String {
    if number.is_multiple_of(2) {
        format!("/r/{number}/")
    } else {
        format!("/r/{number}")
    }
}

/// A loopback address that nothing listens on, below the ports that the kernel gives to outgoing connections.
pub fn free_address() -> Outcome<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..8000 {
        let offset = (std::process::id() % 8000) as u16 + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + offset % 12_000));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port between 20000 and 32000".to_owned())
}
