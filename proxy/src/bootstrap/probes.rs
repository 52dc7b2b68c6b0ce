//! `--app-probes`: what the kubelet would ask the application, had injection not led its probes through the sidecar. JSON
//! by path, with the names that Kubernetes has for the fields; checked whole before anything starts. Asked by `admin`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// As many as injection writes.
const MOST_PROBES: usize = 200;
const PREFIX: &str = "/app-health/";

/// Probes by the path that the kubelet asks for. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct AppProbes(Arc<BTreeMap<String, AppProbe>>);

#[derive(Debug, Clone)]
pub struct AppProbe {
    pub question: Question,
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum Question {
    Http {
        port: u16,
        path: PathAndQuery,
        headers: HeaderMap,
    },
    Tcp {
        port: u16,
    },
    Grpc {
        port: u16,
        service: String,
    },
}

impl AppProbes {
    pub fn get(&self, path: &str) -> Option<&AppProbe> {
        self.0.get(path)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    #[serde(default = "one")]
    timeout_seconds: u32,
}

/// Kubernetes' default.
fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpGet {
    port: u16,
    path: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSocket {
    port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: String,
}

impl FromStr for AppProbes {
    type Err = String;

    fn from_str(text: &str) -> Result<AppProbes, String> {
        if text.is_empty() {
            return Ok(AppProbes::default());
        }
        let written: BTreeMap<String, Written> =
            serde_json::from_str(text).map_err(|error| format!("not the JSON of probes: {error}"))?;
        if written.len() > MOST_PROBES {
            return Err(format!("more than {MOST_PROBES} probes"));
        }
        let read = |(path, written): (String, Written)| match probe(&path, written) {
            Ok(probe) => Ok((path, probe)),
            Err(reason) => Err(format!("{path}: {reason}")),
        };
        let probes: Result<BTreeMap<_, _>, String> = written.into_iter().map(read).collect();
        Ok(AppProbes(Arc::new(probes?)))
    }
}

fn probe(path: &str, written: Written) -> Result<AppProbe, String> {
    if !path.starts_with(PREFIX) {
        return Err(format!("the path must begin with {PREFIX}"));
    }
    let question = match (written.http_get, written.tcp_socket, written.grpc) {
        (Some(http), None, None) => Question::Http {
            port: port(http.port)?,
            path: http.path.parse().map_err(|error| format!("path: {error}"))?,
            headers: headers(http.http_headers)?,
        },
        (None, Some(tcp), None) => Question::Tcp { port: port(tcp.port)? },
        (None, None, Some(grpc)) => Question::Grpc {
            port: port(grpc.port)?,
            service: grpc.service,
        },
        _ => return Err("must be one of httpGet, tcpSocket and grpc".to_owned()),
    };
    if !(1..=3600).contains(&written.timeout_seconds) {
        return Err("timeoutSeconds must be 1 to 3600".to_owned());
    }
    let timeout = Duration::from_secs(written.timeout_seconds.into());
    Ok(AppProbe { question, timeout })
}

fn port(port: u16) -> Result<u16, String> {
    if port == 0 {
        Err("the port must not be 0".to_owned())
    } else {
        Ok(port)
    }
}

fn headers(written: Vec<Header>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for Header { name, value } in written {
        let header: HeaderName = name
            .parse()
            .map_err(|_| format!("{name:?} is not the name of a header"))?;
        let value =
            HeaderValue::from_str(&value).map_err(|_| format!("the header {name} has a value that HTTP has not"))?;
        headers.append(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_probe_is_read() {
        let text = r#"{
            "/app-health/web/livez": {"httpGet": {"port": 80, "path": "/a?b", "httpHeaders": [{"name": "Host", "value": "w"}]}, "timeoutSeconds": 3},
            "/app-health/web/readyz": {"tcpSocket": {"port": 81}},
            "/app-health/web/startupz": {"grpc": {"port": 82, "service": "s"}}}"#;
        let probes: AppProbes = text.parse().expect("good probes");
        let http = probes.get("/app-health/web/livez").expect("there");
        assert_eq!(http.timeout, Duration::from_secs(3));
        assert!(
            matches!(&http.question, Question::Http { port: 80, path, headers } if path == "/a?b" && headers["host"] == "w")
        );
        let tcp = probes.get("/app-health/web/readyz").expect("there");
        assert_eq!(tcp.timeout, Duration::from_secs(1));
        assert!(matches!(tcp.question, Question::Tcp { port: 81 }));
        assert!(probes.get("/app-health/web/startupz").is_some() && probes.get("/app-health/other/livez").is_none());
        assert!("".parse::<AppProbes>().is_ok());
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_its_path() {
        for (probe, named) in [
            (r#"{}"#, "one of"),
            (r#"{"tcpSocket": {"port": 0}}"#, "port"),
            (r#"{"tcpSocket": {"port": 1}, "grpc": {"port": 1}}"#, "one of"),
            (r#"{"httpGet": {"port": 1, "path": "a b"}}"#, "path"),
            (
                r#"{"httpGet": {"port": 1, "path": "/", "httpHeaders": [{"name": "a b", "value": ""}]}}"#,
                "a b",
            ),
            (r#"{"httpGet": {"port": 1, "path": "/", "scheme": "HTTPS"}}"#, "scheme"),
            (r#"{"tcpSocket": {"port": 1}, "timeoutSeconds": 0}"#, "timeoutSeconds"),
        ] {
            let refused = format!(r#"{{"/app-health/a/livez": {probe}}}"#)
                .parse::<AppProbes>()
                .map(drop)
                .expect_err(probe);
            assert!(refused.contains(named), "{refused}");
        }
        for text in ["[]", "{", r#"{"/livez": {"tcpSocket": {"port": 1}}}"#] {
            assert!(text.parse::<AppProbes>().is_err(), "{text}");
        }
    }
}
