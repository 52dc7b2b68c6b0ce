//! Answers that this proxy gives because a rule says so, and how any answer of its own is sent.
//!
//! Source: Envoy's Utility::prepareLocalReply: a gRPC request is answered with a status in the head and no body.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tsunagi_proto::decide::grpc_status_of_rule;

use super::downstream::Downstream;
use super::exchange::Exchange;
use super::local_reply::percent_encoded;
use super::request_path::show_flags;
use crate::codec::{BodyLength, ResponseHead, Transfer, Whole};

/// An answer with this status and text, as the client wants it. `code`: of gRPC, where it does not follow from the status.
pub fn own_answer(status: StatusCode, body: &Bytes, grpc: bool, code: Option<u8>) -> (ResponseHead, Bytes) {
    if grpc {
        let mut head = ResponseHead::local(StatusCode::OK);
        let headers = &mut head.headers;
        headers.set(&header::CONTENT_TYPE, &HeaderValue::from_static("application/grpc"));
        let code = code.map_or_else(|| grpc_status_of_rule(status), u16::from);
        headers.set(&HeaderName::from_static("grpc-status"), &HeaderValue::from(code));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&String::from_utf8_lossy(body)))
            && !message.is_empty()
        {
            headers.set(&HeaderName::from_static("grpc-message"), &message);
        }
        return (head, Bytes::new());
    }
    let mut head = ResponseHead::local(status);
    if !body.is_empty() {
        head.headers
            .set(&header::CONTENT_TYPE, &HeaderValue::from_static("text/plain"));
    }
    (head, body.clone())
}

/// Sends it, and records the request.
pub async fn send_own<D: Downstream>(mut head: ResponseHead, body: Bytes, client: &mut D, exchange: &mut Exchange<'_>) {
    exchange.answered(&head);
    show_flags(exchange, &mut head);
    client.abandon_body();
    let bodiless = *exchange.method() == Method::HEAD
        || head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED;
    let whole = body.len() as u64;
    let mut body = Whole(if bodiless { Bytes::new() } else { body });
    exchange.finish(body.0.len() as u64);
    // To `HEAD`, the length that a `GET` would get.
    let told = *exchange.method() == Method::HEAD && whole > 0;
    if told {
        head.headers.set(&header::CONTENT_LENGTH, &HeaderValue::from(whole));
    }
    let length = match (told, bodiless) {
        (true, _) => BodyLength::None,
        (false, true) if *exchange.method() != Method::HEAD => BodyLength::None,
        (false, _) => BodyLength::Exact(body.0.len() as u64),
    };
    if client.respond(&mut head, length, body.0.is_empty()).is_err() {
        return client.abort();
    }
    let mut transfer = Transfer::default();
    if poll_fn(|cx| transfer.poll_flushed(&mut body, client, cx))
        .await
        .is_err()
    {
        client.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(head: &'a ResponseHead, name: &'static str) -> Option<&'a [u8]> {
        head.headers.get(&HeaderName::from_static(name))
    }

    #[test]
    fn a_text_is_plain_and_no_text_has_no_type() {
        let (head, body) = own_answer(StatusCode::IM_A_TEAPOT, &Bytes::from_static(b"tea"), false, None);
        assert_eq!((head.status.as_u16(), &body[..]), (418, &b"tea"[..]));
        assert_eq!(field(&head, "content-type"), Some(&b"text/plain"[..]));
        let (head, _) = own_answer(StatusCode::OK, &Bytes::new(), false, None);
        assert_eq!(field(&head, "content-type"), None);
    }

    #[test]
    fn a_grpc_client_is_told_a_grpc_status() {
        let text = Bytes::from_static(b"50% off");
        for (status, code, wanted) in [(503, None, "14"), (200, None, "0"), (503, Some(9), "9")] {
            let status = StatusCode::from_u16(status).unwrap();
            let (head, body) = own_answer(status, &text, true, code);
            assert!(head.status == 200 && body.is_empty());
            assert_eq!(field(&head, "grpc-status"), Some(wanted.as_bytes()));
            assert_eq!(field(&head, "grpc-message"), Some(&b"50%25 off"[..]));
        }
    }
}
