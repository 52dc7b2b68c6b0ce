//! The few kinds of answer that the doors give.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn typed(status: StatusCode, content_type: HeaderValue, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// One line, or a page that ends with a line feed already.
pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut body = body.into();
    if !body.ends_with('\n') {
        body.push('\n');
    }
    typed(status, TEXT, body)
}

pub(super) fn json(value: &Value) -> Answer {
    typed(StatusCode::OK, JSON, format!("{value:#}\n"))
}

/// What a page may be asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Methods {
    Get,
    Post,
    GetAndPost,
}

impl Methods {
    pub(super) fn allow(self, method: &Method) -> bool {
        let reads = *method == Method::GET || *method == Method::HEAD;
        match self {
            Methods::Get => reads,
            Methods::Post => *method == Method::POST,
            Methods::GetAndPost => reads || *method == Method::POST,
        }
    }

    fn list(self) -> &'static str {
        match self {
            Methods::Get => "GET, HEAD",
            Methods::Post => "POST",
            Methods::GetAndPost => "GET, HEAD, POST",
        }
    }
}

/// 405 with the methods that would do.
pub(super) fn wrong_method(methods: Methods) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {}", methods.list()));
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods.list()));
    answer
}

pub(super) fn not_found(pages: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("no such page; there are {pages}"))
}
