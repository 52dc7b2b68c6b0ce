//! What the formatters in header values stand for, of one request. Source: Envoy's custom request and response headers; what
//! there is not (an endpoint before one is chosen, a header that was not sent) is empty.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode, Version};
use tsunagi_proto::model::{AddressPart, FieldText, Formatter, Peer, RequestField};

use super::downstream::DownstreamConnection;
use crate::codec::{Headers, Known, RequestHead, ResponseHead, Target};
use crate::telemetry::Flags;

/// What is known whatever message is being written.
pub struct Formatted<'a> {
    pub downstream: &'a DownstreamConnection,
    pub started: Instant,
    pub route: &'a str,
    pub cluster: &'a str,
}

/// The request, and what is known of its answer.
pub struct Message<'a> {
    of: &'a Formatted<'a>,
    method: &'a Method,
    version: Version,
    target: &'a Target,
    request: &'a Headers,
    response: Option<Answered<'a>>,
}

#[derive(Clone, Copy)]
pub struct Answered<'a> {
    pub status: StatusCode,
    pub headers: &'a Headers,
    pub upstream: Option<SocketAddr>,
    pub flags: Flags,
    pub details: &'static str,
}

static HOSTNAME: LazyLock<String> = LazyLock::new(|| {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
});

impl<'a> Formatted<'a> {
    /// While its headers are being changed.
    pub fn of_request(
        &'a self,
        method: &'a Method,
        version: Version,
        target: &'a Target,
        request: &'a Headers,
    ) -> Message<'a> {
        Message {
            of: self,
            method,
            version,
            target,
            request,
            response: None,
        }
    }

    pub fn of_response(&'a self, head: &'a RequestHead, response: Answered<'a>) -> Message<'a> {
        Message {
            response: Some(response),
            ..self.of_request(&head.method, head.version, &head.target, &head.headers)
        }
    }
}

/// Applies a rule's operations to the response.
pub fn edit_response(
    route: &super::route::Route<'_>,
    formatted: &Formatted<'_>,
    request: &RequestHead,
    response: &mut ResponseHead,
    upstream: Option<SocketAddr>,
    (flags, details): (Flags, &'static str),
) {
    let status = response.status;
    route.edit_response(&mut response.headers, |formatter, headers, out| {
        let answered = Answered {
            status,
            headers,
            upstream,
            flags,
            details,
        };
        formatted.of_response(request, answered).write(formatter, out);
    });
}

impl Message<'_> {
    pub fn write(&self, formatter: &Formatter, out: &mut Vec<u8>) {
        match formatter {
            Formatter::Request(text) => cut(text, out, |name| self.request_field(name)),
            Formatter::Response(text) => {
                let headers = self.response.map(|response| response.headers);
                cut(text, out, |name| headers.and_then(|headers| headers.get(name)));
            }
            Formatter::Address(peer, part) => {
                let address = match peer {
                    Peer::DownstreamRemote => self.of.downstream.remote,
                    Peer::DownstreamLocal => {
                        let downstream = self.of.downstream;
                        downstream.original_destination.or(downstream.called_at)
                    }
                    Peer::Upstream => self.response.and_then(|response| response.upstream),
                };
                if let Some(address) = address {
                    out.extend_from_slice(shown(address, *part).as_bytes());
                }
            }
            Formatter::Protocol => out.extend_from_slice(match self.version {
                Version::HTTP_10 => b"HTTP/1.0",
                Version::HTTP_2 => b"HTTP/2",
                _ => b"HTTP/1.1",
            }),
            Formatter::StartTime(format) => {
                let started = SystemTime::now().checked_sub(self.of.started.elapsed());
                let since_epoch = started.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                format.write(since_epoch.unwrap_or_default(), out);
            }
            Formatter::Hostname => out.extend_from_slice(HOSTNAME.as_bytes()),
            Formatter::RouteName => out.extend_from_slice(self.of.route.as_bytes()),
            Formatter::UpstreamCluster => out.extend_from_slice(self.of.cluster.as_bytes()),
            Formatter::ResponseCode => self.response(out, |response| response.status.as_str().to_owned()),
            Formatter::ResponseFlags => self.response(out, |response| match response.flags.is_empty() {
                true => "-".to_owned(),
                false => response.flags.to_string(),
            }),
            Formatter::ResponseCodeDetails => self.response(out, |response| response.details.to_owned()),
        }
    }

    fn response(&self, out: &mut Vec<u8>, text: impl Fn(Answered<'_>) -> String) {
        if let Some(response) = self.response {
            out.extend_from_slice(text(response).as_bytes());
        }
    }

    fn request_field(&self, field: &RequestField) -> Option<&[u8]> {
        match field {
            RequestField::Method => Some(self.method.as_str().as_bytes()),
            RequestField::Path => Some(self.target.path_and_query().as_bytes()),
            RequestField::Scheme => Some(self.target.scheme().as_bytes()),
            RequestField::Authority => match self.target.authority() {
                Some(authority) => Some(authority.as_bytes()),
                None => self.request.known(Known::Host),
            },
            RequestField::Header(name) => self.request.get(name),
        }
    }
}

fn cut<'f, N>(text: &FieldText<N>, out: &mut Vec<u8>, field: impl Fn(&N) -> Option<&'f [u8]>) {
    let found = field(&text.name).or_else(|| field(text.otherwise.as_ref()?));
    let found = found.unwrap_or_default();
    out.extend_from_slice(&found[..found.len().min(text.longest_bytes.unwrap_or(usize::MAX))]);
}

fn shown(address: SocketAddr, part: AddressPart) -> String {
    match part {
        AddressPart::Whole => address.to_string(),
        AddressPart::Ip => address.ip().to_string(),
        AddressPart::Port => address.port().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use tsunagi_proto::model::HeaderTemplate;

    use super::*;
    use crate::codec::parse_request;
    use crate::telemetry::Direction;

    #[test]
    fn every_formatter_says_what_the_request_has() {
        let downstream = DownstreamConnection {
            direction: Direction::Outbound,
            remote: "10.0.0.1:4000".parse().ok(),
            original_destination: "10.9.9.9:80".parse().ok(),
            called_at: None,
            tunnelled: false,
            by_upgrade: false,
        };
        let formatted = Formatted {
            downstream: &downstream,
            started: Instant::now(),
            route: "users",
            cluster: "outbound|80||users",
        };
        let mut head = RequestHead::default();
        parse_request(
            b"PUT /a?b HTTP/1.1\r\nHost: users:80\r\nX-Long: 123456\r\n\r\n",
            &mut head,
        )
        .unwrap();
        let mut response = Headers::default();
        let name = HeaderName::from_static("x-version");
        response.set(&name, &HeaderValue::from_static("v2"));
        let answered = Answered {
            status: StatusCode::NOT_FOUND,
            headers: &response,
            upstream: "10.0.0.2:8080".parse().ok(),
            flags: Flags::DI,
            details: "via_upstream",
        };
        let value = |text: &str, message: &Message<'_>| {
            let template = HeaderTemplate::parse(text).unwrap();
            let value = template.value(|formatter, out| message.write(formatter, out));
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let message = formatted.of_response(&head, answered);
        for (text, wanted) in [
            (
                "%REQ(:METHOD)% %REQ(:path)% %REQ(:scheme)%://%REQ(:authority)%",
                "PUT /a?b http://users:80",
            ),
            ("%REQ(x-none?x-long):3%", "123"),
            ("%RESP(x-version)%", "v2"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.1:4000"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1"),
            ("%DOWNSTREAM_REMOTE_PORT%", "4000"),
            ("%DOWNSTREAM_LOCAL_ADDRESS%", "10.9.9.9:80"),
            ("%UPSTREAM_HOST%", "10.0.0.2:8080"),
            (
                "%PROTOCOL% %ROUTE_NAME% %UPSTREAM_CLUSTER%",
                "HTTP/1.1 users outbound|80||users",
            ),
            (
                "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%",
                "404 DI via_upstream",
            ),
        ] {
            assert_eq!(value(text, &message).as_deref(), Some(wanted), "{text}");
        }
        assert!(value("%HOSTNAME%", &message).is_some());
        assert!(value("%START_TIME(%Y)%", &message).is_some_and(|year| year.len() == 4));
        let request = formatted.of_request(&head.method, head.version, &head.target, &head.headers);
        for empty in [
            "%UPSTREAM_HOST%",
            "%RESPONSE_CODE%",
            "%RESP(x-version)%",
            "%REQ(x-none)%",
        ] {
            assert_eq!(value(empty, &request), None, "{empty}");
        }
    }
}
