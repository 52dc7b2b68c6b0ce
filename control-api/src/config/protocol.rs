//! What the endpoints of a port speak, by the port's declared protocol or its name.

/// What the endpoints of a port speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing known is declared: detected.
    Detect,
    Http1,
    Http2,
    Tcp,
    Tls,
}

impl Protocol {
    /// May requests come to the port?
    pub fn has_requests(self) -> bool {
        matches!(self, Self::Detect | Self::Http1 | Self::Http2)
    }
}

/// By the `appProtocol` of a Service's port, else by its name up to the first `-`.
pub(super) fn of_port(application: Option<&str>, name: &str) -> Protocol {
    match application
        .filter(|text| !text.is_empty())
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        Some("kubernetes.io/h2c") => Protocol::Http2,
        Some("kubernetes.io/ws") => Protocol::Http1,
        Some("kubernetes.io/wss") => Protocol::Tls,
        Some(declared) => of_prefix(declared),
        None => of_prefix(&name.to_ascii_lowercase()),
    }
}

/// `http2-admin` is `http2`.
fn of_prefix(text: &str) -> Protocol {
    let prefix = text.split_once('-').map_or(text, |(prefix, _)| prefix);
    of_word(prefix).unwrap_or(Protocol::Detect)
}

/// `None`: not a protocol that is known.
fn of_word(word: &str) -> Option<Protocol> {
    match word {
        "http" => Some(Protocol::Http1),
        "http2" | "grpc" => Some(Protocol::Http2),
        "tcp" | "mongo" | "mysql" | "redis" | "postgres" | "postgresql" | "mariadb" | "cassandra" | "kafka"
        | "memcached" | "amqp" => Some(Protocol::Tcp),
        "https" | "tls" => Some(Protocol::Tls),
        _ => None,
    }
}

/// The `protocol` of a ServiceEntry's port.
pub(super) enum Declared {
    Supported(Protocol),
    Later,
    Unknown,
}

pub(super) fn of_service_entry(text: &str) -> Declared {
    match text.to_ascii_lowercase().as_str() {
        "grpc-web" => Declared::Supported(Protocol::Http2),
        "udp" | "http_proxy" | "hbone" => Declared::Later,
        word => of_word(word).map_or(Declared::Unknown, Declared::Supported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_speaks_what_its_app_protocol_or_its_name_says() {
        for (application, name, protocol) in [
            (None, "http", Protocol::Http1),
            (None, "http-admin", Protocol::Http1),
            (None, "HTTP2-x", Protocol::Http2),
            (None, "grpc-web", Protocol::Http2),
            (None, "mysql", Protocol::Tcp),
            (None, "https", Protocol::Tls),
            (None, "httpx", Protocol::Detect),
            (None, "", Protocol::Detect),
            (Some("http"), "tcp", Protocol::Http1),
            (Some("kubernetes.io/h2c"), "x", Protocol::Http2),
            (Some("example.com/odd"), "http", Protocol::Detect),
            (Some(""), "http", Protocol::Http1),
        ] {
            assert_eq!(of_port(application, name), protocol, "{application:?} {name}");
        }
    }
}
