//! One line of the access log: the fields, their names and their escaping.
//!
//! Names follow the default JSON access log of Istio's proxies where they have one.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::super::timestamp::Rfc3339;
use super::super::{Direction, Flags, GrpcCode};

/// A text of a client is cut after so many bytes.
pub const LONGEST_TEXT_BYTES: usize = 2048;

/// A finished request, or a TCP connection, which has no method, path and response. Texts and headers are written as far as they are UTF-8, and cut; empty ones are left out.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub start_time: SystemTime,
    pub direction: Direction,
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    /// `None`: a TCP connection.
    pub protocol: Option<http::Version>,
    /// 0: the downstream was sent no response.
    pub response_code: u16,
    pub response_flags: Flags,
    /// What a gRPC call ended with, as far as it was said.
    pub grpc_status: GrpcCode,
    /// Envoy's `RESPONSE_CODE_DETAILS`: `via_upstream`, `route_not_found`, ..
    pub response_code_details: &'a str,
    /// Why there was no connection to an endpoint, where that is why there was no response.
    pub upstream_transport_failure_reason: &'a str,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub duration: Duration,
    pub upstream_host: Option<SocketAddr>,
    /// `outbound|80|v1|users.default.svc.cluster.local`
    pub upstream_cluster: &'a str,
    pub route_name: &'a str,
    /// By a TLS client that is passed on.
    pub requested_server_name: &'a str,
    pub authority: &'a [u8],
    pub request_id: &'a [u8],
    pub user_agent: &'a [u8],
    pub downstream_remote_address: Option<SocketAddr>,
    /// Tries at an upstream, the first included; 0: none was made.
    pub attempt_count: u32,
}

impl Entry<'_> {
    /// Appends the line with its line feed.
    pub(super) fn write_to(&self, line: &mut Vec<u8>) {
        let start = line.len();
        if serde_json::to_writer(&mut *line, self).is_err() {
            // Memory accepts every write and every field is text or a number.
            line.truncate(start);
            return;
        }
        line.push(b'\n');
    }
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("start_time", &Shown(Rfc3339(self.start_time)))?;
        map.serialize_entry("direction", self.direction.as_str())?;
        map.serialize_entry("method", cut(self.method))?;
        map.serialize_entry("path", cut(self.path))?;
        map.serialize_entry("protocol", protocol(self.protocol))?;
        map.serialize_entry("response_code", &self.response_code)?;
        if self.response_flags.is_empty() {
            map.serialize_entry("response_flags", "-")?;
        } else {
            map.serialize_entry("response_flags", &Shown(self.response_flags))?;
        }
        text(&mut map, "grpc_status", self.grpc_status.label().as_bytes())?;
        text(&mut map, "response_code_details", self.response_code_details.as_bytes())?;
        let reason = self.upstream_transport_failure_reason.as_bytes();
        text(&mut map, "upstream_transport_failure_reason", reason)?;
        map.serialize_entry("bytes_received", &self.bytes_received)?;
        map.serialize_entry("bytes_sent", &self.bytes_sent)?;
        map.serialize_entry("duration", &milliseconds(self.duration))?;
        if let Some(address) = self.upstream_host {
            map.serialize_entry("upstream_host", &Shown(address))?;
        }
        text(&mut map, "upstream_cluster", self.upstream_cluster.as_bytes())?;
        text(&mut map, "route_name", self.route_name.as_bytes())?;
        text(&mut map, "requested_server_name", self.requested_server_name.as_bytes())?;
        text(&mut map, "authority", self.authority)?;
        text(&mut map, "request_id", self.request_id)?;
        text(&mut map, "user_agent", self.user_agent)?;
        if let Some(address) = self.downstream_remote_address {
            map.serialize_entry("downstream_remote_address", &Shown(address))?;
        }
        map.serialize_entry("attempt_count", &self.attempt_count)?;
        map.end()
    }
}

/// Written through its `Display`, without a `String` in between.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn text<M: SerializeMap>(map: &mut M, name: &str, bytes: &[u8]) -> Result<(), M::Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let bounded = &bytes[..bytes.len().min(LONGEST_TEXT_BYTES)];
    let text: Cow<'_, str> = String::from_utf8_lossy(bounded);
    map.serialize_entry(name, &*text)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT_BYTES)]
}

/// With microseconds as decimals: a proxied request is often faster than one millisecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn protocol(version: Option<http::Version>) -> &'static str {
    match version {
        None => "TCP",
        Some(http::Version::HTTP_10) => "HTTP/1.0",
        Some(http::Version::HTTP_11) => "HTTP/1.1",
        Some(http::Version::HTTP_2) => "HTTP/2",
        Some(_) => "-",
    }
}

#[cfg(test)]
impl Entry<'_> {
    pub(super) fn example() -> Entry<'static> {
        Entry {
            start_time: SystemTime::UNIX_EPOCH,
            direction: Direction::Outbound,
            method: "GET",
            path: "/a?b=c",
            protocol: Some(http::Version::HTTP_11),
            response_code: 200,
            response_flags: Flags::NONE,
            grpc_status: GrpcCode::NONE,
            response_code_details: "via_upstream",
            upstream_transport_failure_reason: "",
            bytes_received: 0,
            bytes_sent: 5,
            duration: Duration::from_micros(1234),
            upstream_host: Some(SocketAddr::from(([127, 0, 0, 1], 9080))),
            upstream_cluster: "outbound|80|v1|users.default.svc.cluster.local",
            route_name: "canary",
            requested_server_name: "users",
            authority: b"users",
            request_id: b"id-1",
            user_agent: b"curl/8",
            downstream_remote_address: Some(SocketAddr::from(([127, 0, 0, 1], 40000))),
            attempt_count: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(entry: Entry<'_>) -> (String, Value) {
        let mut line = Vec::new();
        entry.write_to(&mut line);
        let text = String::from_utf8(line).expect("text");
        let value = serde_json::from_str(&text).expect("JSON");
        (text, value)
    }

    #[test]
    fn a_line_has_every_field_by_its_name() {
        let (text, value) = written(Entry::example());
        assert!(text.ends_with("}\n"));
        let expected = json!({
            "start_time": "1970-01-01T00:00:00.000Z", "direction": "outbound", "method": "GET", "path": "/a?b=c",
            "protocol": "HTTP/1.1", "response_code": 200, "response_flags": "-",
            "response_code_details": "via_upstream", "bytes_received": 0, "bytes_sent": 5, "duration": 1.234,
            "upstream_host": "127.0.0.1:9080",
            "upstream_cluster": "outbound|80|v1|users.default.svc.cluster.local", "route_name": "canary",
            "requested_server_name": "users", "authority": "users", "request_id": "id-1", "user_agent": "curl/8",
            "downstream_remote_address": "127.0.0.1:40000", "attempt_count": 1,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let entry = Entry {
            upstream_host: None,
            upstream_cluster: "",
            requested_server_name: "",
            user_agent: b"",
            response_flags: Flags::NR,
            ..Entry::example()
        };
        let (_, value) = written(entry);
        assert_eq!(value["response_flags"], "NR");
        for name in [
            "requested_server_name",
            "upstream_host",
            "upstream_cluster",
            "user_agent",
        ] {
            assert!(value.get(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_grpc_call_has_its_status() {
        let (_, value) = written(Entry {
            grpc_status: GrpcCode::of(b"14"),
            ..Entry::example()
        });
        assert_eq!(value["grpc_status"], "14");
        assert!(written(Entry::example()).1.get("grpc_status").is_none());
    }

    #[test]
    fn a_hostile_request_cannot_forge_a_line() {
        let entry = Entry {
            path: "/\"}\n{\"response_code\":200,\"x\":\"",
            user_agent: b"\xff\x1b[31m\r\n\0",
            ..Entry::example()
        };
        let (text, value) = written(entry);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.trim_end().contains(|character: char| character.is_control()));
        assert_eq!(value["path"], entry.path);
        assert_eq!(value["user_agent"], "\u{fffd}\u{1b}[31m\r\n\0");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let path = format!("/{}", "é".repeat(LONGEST_TEXT_BYTES));
        let agent = vec![b'a'; 10 * LONGEST_TEXT_BYTES];
        let (_, value) = written(Entry {
            path: &path,
            user_agent: &agent,
            ..Entry::example()
        });
        let length = |name: &str| value[name].as_str().map(str::len);
        assert_eq!(length("path"), Some(LONGEST_TEXT_BYTES - 1));
        assert_eq!(length("user_agent"), Some(LONGEST_TEXT_BYTES));
    }
}
