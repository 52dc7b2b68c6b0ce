//! One request and its answer, as metrics and the access log see them. Whatever ends the request, it is recorded once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderName, HeaderValue, Method, Version, header};

use super::downstream::DownstreamConnection;
use super::explained::Explained;
use super::local_reply::is_grpc;
use super::request_path::Proxy;
use super::unanswered::Unanswered;
use crate::codec::{Known, RequestHead, ResponseHead};
use crate::telemetry::access_log::Entry;
use crate::telemetry::{Direction, Flags, GrpcCode, PrefixSeries, RequestSeries};
use crate::upstream::{ClientAddresses, Endpoint};

#[derive(Debug)]
pub struct Exchange<'p> {
    proxy: &'p Proxy,
    direction: Direction,
    method: Method,
    started: Instant,
    pub series: Arc<RequestSeries>,
    /// What the downstream is sent; 0: nothing yet.
    pub status: u16,
    pub flags: Flags,
    /// The request is a gRPC call.
    pub grpc: bool,
    pub grpc_status: GrpcCode,
    /// What the response says besides, whoever it is from: for the page that asked.
    pub cors: Vec<(HeaderName, HeaderValue)>,
    /// The family that the rule counts its requests in, too.
    pub prefixed: Option<Arc<PrefixSeries>>,
    /// Inbound: where the caller connected to.
    pub called_at: Option<SocketAddr>,
    /// Between whom the client's connection is.
    pub client: Option<ClientAddresses>,
    /// What the caller's sidecar is told, where this one is the application's.
    pub unanswered: Option<Unanswered>,
    /// Only of a request that asks.
    pub explained: Option<Box<Explained>>,
    /// Only with the access log on.
    log: Option<Box<Log>>,
    recorded: bool,
}

/// What only the access log needs.
#[derive(Debug)]
struct Log {
    start_time: SystemTime,
    path: String,
    protocol: Version,
    authority: Vec<u8>,
    request_id: Vec<u8>,
    user_agent: Vec<u8>,
    remote: Option<SocketAddr>,
    details: &'static str,
    transport_failure: String,
    route: String,
    cluster: String,
    upstream: Option<SocketAddr>,
    attempts: u32,
    received_bytes: u64,
}

impl<'p> Exchange<'p> {
    pub fn begin(proxy: &'p Proxy, downstream: &DownstreamConnection, head: &RequestHead) -> Self {
        let header = |name: &HeaderName| head.headers.get(name).unwrap_or_default().to_vec();
        let log = proxy.access_log.enabled().then(|| {
            Box::new(Log {
                start_time: SystemTime::now(),
                path: head.path_and_query().to_owned(),
                protocol: head.version,
                authority: head
                    .authority()
                    .map_or_else(|| header(&header::HOST), |authority| authority.as_bytes().to_vec()),
                request_id: header(Known::XRequestId.name()),
                user_agent: header(&header::USER_AGENT),
                remote: downstream.remote,
                details: "via_upstream",
                transport_failure: String::new(),
                route: String::new(),
                cluster: String::new(),
                upstream: None,
                attempts: 0,
                received_bytes: 0,
            })
        });
        Self {
            proxy,
            direction: downstream.direction,
            method: head.method.clone(),
            started: Instant::now(),
            series: Arc::clone(&proxy.unrouted),
            status: 0,
            flags: Flags::NONE,
            grpc: is_grpc(&head.headers),
            grpc_status: GrpcCode::NONE,
            cors: Vec::new(),
            prefixed: None,
            called_at: downstream
                .called_at
                .filter(|_| downstream.direction == Direction::Inbound),
            client: downstream.addresses(),
            unanswered: None,
            explained: None,
            log,
            recorded: false,
        }
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    pub fn direction(&self) -> Direction {
        self.direction
    }

    pub fn proxy(&self) -> &Proxy {
        self.proxy
    }

    pub fn routed(&mut self, series: &Arc<RequestSeries>, route: &str, cluster: &str) {
        self.series = Arc::clone(series);
        if let Some(log) = &mut self.log {
            log.route = route.to_owned();
            log.cluster = cluster.to_owned();
        }
    }

    /// The access log says it behind the route's name, as Istio's.
    pub fn matched(&mut self, name: &str) {
        if let Some(log) = self.log.as_mut().filter(|_| !name.is_empty()) {
            log.route.push('.');
            log.route.push_str(name);
        }
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// Takes note of how a gRPC call ended, if its response says that at once.
    pub fn answered(&mut self, response: &ResponseHead) {
        self.status = response.status.as_u16();
        if self.grpc {
            self.grpc_status = response
                .headers
                .known(Known::GrpcStatus)
                .map_or(GrpcCode::NONE, GrpcCode::of);
        }
    }

    /// `asked`: the request got as far as the endpoint, or would have if that could be connected to.
    pub fn attempted(&mut self, endpoint: &Endpoint, asked: bool) {
        if let Some(log) = &mut self.log {
            log.attempts += 1;
            log.upstream = asked.then(|| endpoint.shown_address());
        }
        if let Some(explained) = &mut self.explained {
            explained.attempted(endpoint);
        }
    }

    /// What a page may see of the response.
    pub fn show_to_page(&self, head: &mut ResponseHead) {
        for (name, value) in &self.cors {
            head.headers.set(name, value);
        }
    }

    /// Why there is no connection.
    pub fn connect_failed(&mut self, reason: &str) {
        if let Some(log) = &mut self.log {
            reason.clone_into(&mut log.transport_failure);
        }
    }

    pub fn details(&mut self, details: &'static str) {
        if let Some(log) = &mut self.log {
            log.details = details;
        }
    }

    pub fn received(&mut self, bytes: impl FnOnce() -> u64) {
        if let Some(log) = &mut self.log {
            log.received_bytes = bytes();
        }
    }

    /// Records the request; once, further calls do nothing.
    pub fn finish(&mut self, sent_bytes: u64) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        if self.flags.contains(Flags::DC) && self.proxy.drain.is_over() {
            // It was not the client that left.
            self.details("drain_time_over");
        }
        let elapsed = self.started.elapsed();
        self.series
            .record_call(&self.method, self.status, self.grpc_status, self.flags, elapsed);
        if let Some(prefixed) = &self.prefixed {
            prefixed.count(self.status);
        }
        let Some(log) = &self.log else { return };
        self.proxy.access_log.log(&Entry {
            start_time: log.start_time,
            direction: self.direction,
            method: self.method.as_str(),
            path: &log.path,
            protocol: Some(log.protocol),
            response_code: self.status,
            response_flags: self.flags,
            grpc_status: self.grpc_status,
            response_code_details: log.details,
            upstream_transport_failure_reason: &log.transport_failure,
            bytes_received: log.received_bytes,
            bytes_sent: sent_bytes,
            duration: elapsed,
            upstream_host: log.upstream,
            upstream_cluster: &log.cluster,
            route_name: &log.route,
            requested_server_name: "",
            authority: &log.authority,
            request_id: &log.request_id,
            user_agent: &log.user_agent,
            downstream_remote_address: log.remote,
            attempt_count: log.attempts,
        });
    }
}

impl Drop for Exchange<'_> {
    /// Nobody waited for the end: the client went away, or the proxy does.
    fn drop(&mut self) {
        if !self.recorded {
            self.flags.insert(Flags::DC);
            self.details("downstream_remote_disconnect");
            self.finish(0);
        }
    }
}
