//! `hyper`'s server and client connections, fed the same bytes.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Message, Understood};
use crate::codec::head::MAX_HEAD_BYTES;

/// Such a trailer never reaches the other side.
const NO_TRAILERS: [&str; 11] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "te",
    "upgrade",
    "http2-settings",
    "trailer",
    "expect",
];

async fn read_body(mut body: Incoming) -> Option<(Vec<u8>, HeaderMap)> {
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    for name in NO_TRAILERS {
        trailers.remove(name);
    }
    Some((data, trailers))
}

fn refusal(ended: &hyper::Result<()>) -> Option<&'static str> {
    match ended {
        Err(error) if error.is_parse() => Some("hyper refuses"),
        _ => None,
    }
}

pub(super) async fn requests(input: &[u8]) -> Understood {
    let messages = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path(), parts.uri.query());
        let authority = parts.uri.authority().map_or("-", |authority| authority.as_str());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let message = Message {
            line: format!("{} {path}{query} {authority}", parts.method),
            version: parts.version,
            headers: parts.headers,
            body: read_body(body).await,
            // A bare authority is one for CONNECT only.
            proper_target: parts.uri.scheme().is_some() == parts.uri.authority().is_some()
                || parts.method == Method::CONNECT,
        };
        messages.borrow_mut().push(message);
        let mut response = Response::new(Empty::<Bytes>::new());
        // So that CONNECT ends nothing.
        *response.status_mut() = StatusCode::BAD_REQUEST;
        Ok::<_, Infallible>(response)
    });
    let (mut client, server) = tokio::io::duplex(input.len() + 64 * 1024);
    let connection = hyper::server::conn::http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(server), service);
    let feed = async {
        client.write_all(input).await.unwrap();
        client.shutdown().await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let (ended, ()) = tokio::join!(connection, feed);
    Understood {
        refused: refusal(&ended),
        messages: messages.into_inner(),
    }
}

pub(super) async fn response(input: &[u8], method: &Method) -> Understood {
    let (client, mut server) = tokio::io::duplex(input.len() + 64 * 1024);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(client))
        .await
        .unwrap();
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    let exchange = async {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return (Vec::new(), error.is_parse().then_some("hyper refuses")),
        };
        let (parts, body) = response.into_parts();
        let own = parts.extensions.get::<hyper::ext::ReasonPhrase>();
        let reason = own.map_or_else(
            || parts.status.canonical_reason().unwrap_or_default().to_owned(),
            |reason| String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        );
        let message = Message {
            line: format!("{} {reason}", parts.status.as_u16()),
            version: parts.version,
            headers: parts.headers,
            body: read_body(body).await,
            proper_target: true,
        };
        drop(sender);
        (vec![message], None)
    };
    let feed = async {
        // The request comes first, or the response would answer nothing.
        let _ = server.read(&mut [0; 1024]).await;
        let _ = server.write_all(input).await;
        let _ = server.shutdown().await;
        let _ = server.read_to_end(&mut Vec::new()).await;
    };
    let (_, (messages, refused), ()) = tokio::join!(connection, exchange, feed);
    Understood { messages, refused }
}
