//! One TCP connection in the access log: a line when it has ended.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use super::Target;
use crate::codec::Passed;
use crate::telemetry::access_log::Entry;
use crate::telemetry::{AccessLog, Direction, Flags, GrpcCode};

/// What is known from its start.
#[derive(Debug)]
pub(super) struct Recorded {
    direction: Direction,
    /// That serves it. Small, because every connection's state has it.
    pub worker: u16,
    pub remote: Option<SocketAddr>,
    start_time: SystemTime,
    started: Instant,
    /// That a TLS client asks for.
    pub server_name: Option<Box<str>>,
}

/// How it ended.
pub(super) struct End<'a> {
    pub flags: Flags,
    pub details: &'a str,
    pub upstream: Option<SocketAddr>,
    pub attempts: u32,
    pub passed: &'a Passed,
}

impl Recorded {
    pub fn begin(direction: Direction, remote: Option<SocketAddr>, worker: usize) -> Self {
        Self {
            direction,
            worker: worker as u16,
            remote,
            start_time: SystemTime::now(),
            started: Instant::now(),
            server_name: None,
        }
    }

    pub fn log(&self, access_log: &AccessLog, target: &Target, end: End<'_>) {
        if !access_log.enabled() {
            return;
        }
        access_log.log(&Entry {
            start_time: self.start_time,
            direction: self.direction,
            method: "",
            path: "",
            protocol: None,
            response_code: 0,
            response_flags: end.flags,
            grpc_status: GrpcCode::NONE,
            response_code_details: end.details,
            upstream_transport_failure_reason: "",
            bytes_received: end.passed.received,
            bytes_sent: end.passed.sent,
            duration: self.started.elapsed(),
            upstream_host: end.upstream,
            upstream_cluster: target.cluster_name(),
            route_name: target.route(),
            requested_server_name: self.server_name.as_deref().unwrap_or_default(),
            authority: b"",
            request_id: b"",
            user_agent: b"",
            downstream_remote_address: self.remote,
            attempt_count: end.attempts,
        });
    }
}
