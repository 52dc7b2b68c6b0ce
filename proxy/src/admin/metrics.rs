//! The metrics door: `/metrics`, and `/stats/prometheus` for those who come from Envoy.
//!
//! OpenMetrics for who asks for it at least as much as for text, Prometheus text for everybody else.

use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Answer, Methods, not_found, typed, wrong_method};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) fn answer(request: &Parts, exposition: &dyn Fn(bool) -> String) -> Answer {
    if !matches!(request.uri.path(), "/metrics" | "/stats/prometheus") {
        return not_found("/metrics and /stats/prometheus");
    }
    if !Methods::Get.allow(&request.method) {
        return wrong_method(Methods::Get);
    }
    let openmetrics = prefers_openmetrics(&request.headers);
    let content_type = if openmetrics { OPENMETRICS } else { TEXT };
    typed(StatusCode::OK, content_type, exposition(openmetrics))
}

/// A wildcard is no wish for OpenMetrics: browsers and `curl` send it.
fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let (mut openmetrics, mut text) = (0.0_f32, 0.0_f32);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let (mut quality, mut version) = (1.0, None);
        for parameter in parts {
            match parameter.split_once('=') {
                Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                Some(("version", value)) => version = Some(value),
                _ => {}
            }
        }
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") && matches!(version, None | Some("1.0.0")) {
            openmetrics = openmetrics.max(quality);
        } else if media_type.eq_ignore_ascii_case("text/plain") {
            text = text.max(quality);
        }
    }
    openmetrics > 0.0 && openmetrics >= text
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::CONTENT_TYPE;

    use super::*;

    fn content_type(accept: Option<&str>) -> String {
        let mut request = Request::get("/metrics");
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let request = request.body(()).expect("a request");
        let answer = answer(&request.into_parts().0, &|openmetrics| format!("{openmetrics}"));
        answer.headers()[CONTENT_TYPE].to_str().expect("text").to_owned()
    }

    #[test]
    fn prometheus_gets_openmetrics_and_curl_gets_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(content_type(Some(prometheus)).starts_with("application/openmetrics-text; version=1.0.0"));
        for accept in [
            None,
            Some("*/*"),
            Some("text/plain"),
            Some("application/openmetrics-text;q=0.1,text/plain"),
        ] {
            assert!(
                content_type(accept).starts_with("text/plain; version=0.0.4"),
                "{accept:?}"
            );
        }
        let unknown_version = Some("application/openmetrics-text;version=9.0.0");
        assert!(content_type(unknown_version).starts_with("text/plain"));
    }

    #[test]
    fn both_paths_serve_and_others_do_not() {
        let status = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).expect("a request");
            answer(&request.into_parts().0, &|openmetrics| format!("{openmetrics}"))
                .status()
                .as_u16()
        };
        assert_eq!(status("GET", "/metrics"), 200);
        assert_eq!(status("GET", "/stats/prometheus?usedonly"), 200);
        assert_eq!(status("POST", "/metrics"), 405);
        assert_eq!(status("GET", "/"), 404);
    }
}
