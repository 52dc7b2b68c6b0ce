//! One request and its answer, as metrics and the access log see them. Whatever ends the request, it is recorded once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderName, HeaderValue, Method, Request, Version, header};
use hyper::body::Incoming;

use super::request_path::{Downstream, Proxy};
use crate::telemetry::access_log::Entry;
use crate::telemetry::{Direction, Flags, RequestSeries};
use crate::upstream::Endpoint;

#[derive(Debug)]
pub struct Exchange {
    proxy: Arc<Proxy>,
    direction: Direction,
    method: Method,
    started: Instant,
    pub series: Arc<RequestSeries>,
    /// What the downstream is sent; 0: nothing yet.
    pub status: u16,
    pub flags: Flags,
    /// Only with the access log on.
    log: Option<Box<Log>>,
    recorded: bool,
}

/// What only the access log needs.
#[derive(Debug)]
struct Log {
    start_time: SystemTime,
    path: http::Uri,
    protocol: Version,
    authority: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    remote: Option<SocketAddr>,
    details: &'static str,
    route: String,
    cluster: String,
    upstream: Option<SocketAddr>,
    attempts: u32,
    received_bytes: u64,
}

impl Exchange {
    pub fn begin(proxy: &Arc<Proxy>, downstream: &Downstream, request: &Request<Incoming>) -> Self {
        let header = |name: &HeaderName| request.headers().get(name).cloned();
        let log = proxy.access_log.enabled().then(|| {
            Box::new(Log {
                start_time: SystemTime::now(),
                path: request.uri().clone(),
                protocol: request.version(),
                authority: header(&header::HOST),
                request_id: header(&HeaderName::from_static("x-request-id")),
                user_agent: header(&header::USER_AGENT),
                remote: downstream.remote,
                details: "via_upstream",
                route: String::new(),
                cluster: String::new(),
                upstream: None,
                attempts: 0,
                received_bytes: 0,
            })
        });
        Self {
            proxy: Arc::clone(proxy),
            direction: downstream.direction,
            method: request.method().clone(),
            started: Instant::now(),
            series: Arc::clone(&proxy.unrouted),
            status: 0,
            flags: Flags::NONE,
            log,
            recorded: false,
        }
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    pub fn routed(&mut self, series: &Arc<RequestSeries>, route: &str, cluster: &str) {
        self.series = Arc::clone(series);
        if let Some(log) = &mut self.log {
            log.route = route.to_owned();
            log.cluster = cluster.to_owned();
        }
    }

    pub fn attempted(&mut self, endpoint: &Endpoint) {
        if let Some(log) = &mut self.log {
            log.attempts += 1;
            log.upstream = Some(endpoint.address);
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
        let elapsed = self.started.elapsed();
        self.series.record(&self.method, self.status, self.flags, elapsed);
        let Some(log) = &self.log else { return };
        let text = |value: &Option<HeaderValue>| value.clone().unwrap_or_else(|| HeaderValue::from_static(""));
        let (authority, request_id, agent) = (text(&log.authority), text(&log.request_id), text(&log.user_agent));
        self.proxy.access_log.log(&Entry {
            start_time: log.start_time,
            direction: self.direction,
            method: self.method.as_str(),
            path: log.path.path_and_query().map_or("", |path| path.as_str()),
            protocol: log.protocol,
            response_code: self.status,
            response_flags: self.flags,
            response_code_details: log.details,
            bytes_received: log.received_bytes,
            bytes_sent: sent_bytes,
            duration: elapsed,
            upstream_host: log.upstream,
            upstream_cluster: &log.cluster,
            route_name: &log.route,
            authority: if authority.is_empty() {
                log.path
                    .authority()
                    .map_or(&b""[..], |authority| authority.as_str().as_bytes())
            } else {
                authority.as_bytes()
            },
            request_id: request_id.as_bytes(),
            user_agent: agent.as_bytes(),
            downstream_remote_address: log.remote,
            attempt_count: log.attempts,
        });
    }
}

impl Drop for Exchange {
    /// Nobody waited for the end: the client went away.
    fn drop(&mut self) {
        if !self.recorded {
            self.flags.insert(Flags::DC);
            self.details("downstream_remote_disconnect");
            self.finish(0);
        }
    }
}
