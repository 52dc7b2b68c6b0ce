//! A well-behaved client over HTTP/1.1 or HTTP/2 with prior knowledge, one connection each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::eventually::{LIMIT, within};
use crate::pods::Pod;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Version {
    Http1,
    Http2,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    pub elapsed: Duration,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
    /// The proxy's own findings; empty when it had none.
    pub fn flags(&self) -> &str {
        self.header("x-tsunagi-response-flags").unwrap_or_default()
    }
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

pub struct Connection {
    sender: Sender,
}

impl Connection {
    pub async fn open(address: SocketAddr, version: Version) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the listener accepts");
        Connection::over(stream, version).await
    }

    /// One that starts inside a pod.
    pub async fn open_in(pod: &Pod, address: SocketAddr, version: Version) -> Connection {
        let stream = block_in_place(|| pod.connect(address)).expect("the listener accepts");
        stream.set_nonblocking(true).expect("a socket");
        let stream = TcpStream::from_std(stream).expect("a runtime runs");
        Connection::over(stream, version).await
    }

    pub async fn over(stream: TcpStream, version: Version) -> Connection {
        stream.set_nodelay(true).ok();
        let io = TokioIo::new(stream);
        let sender = match version {
            Version::Http1 => {
                let (sender, driver) = http1::handshake(io).await.expect("a handshake without bytes");
                tokio::spawn(driver);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io).await;
                let (sender, driver) = handshake.expect("the listener speaks HTTP/2");
                tokio::spawn(driver);
                Sender::Http2(sender)
            }
        };
        Connection { sender }
    }

    /// Another handle to the same HTTP/2 connection.
    pub fn share(&self) -> Connection {
        match &self.sender {
            Sender::Http2(sender) => Connection {
                sender: Sender::Http2(sender.clone()),
            },
            Sender::Http1(_) => panic!("an HTTP/1.1 connection carries one request at a time"),
        }
    }

    /// The response's head; its body streams.
    pub async fn start(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                let path = request
                    .uri()
                    .path_and_query()
                    .map_or("/", |path| path.as_str())
                    .to_owned();
                *request.uri_mut() = path.parse::<Uri>().expect("a path is a URI");
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                request.headers_mut().remove(HOST);
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Reply> {
        let started = Instant::now();
        let response = self.start(request).await?;
        let elapsed = started.elapsed();
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
            elapsed,
        })
    }

    pub async fn send(&mut self, request: Request<Body>) -> Reply {
        let what = format!("{} {}", request.method(), request.uri());
        let reply = within(&what, LIMIT, self.try_send(request)).await;
        reply.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    pub async fn get(&mut self, host: &str, path: &str) -> Reply {
        self.send(request("GET", host, path)).await
    }
}

/// A request without a body; `host` is the authority.
pub fn request(method: &str, host: &str, path: &str) -> Request<Body> {
    let built = Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"))
        .header(HOST, host);
    built.body(empty()).expect("a test writes valid requests")
}

pub fn empty() -> Body {
    Empty::new().boxed_unsync()
}

pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// Of a slow client: a pause before each piece.
pub fn slow_body(pieces: &[&'static str], pause: Duration) -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let pieces = pieces.to_vec();
    tokio::spawn(async move {
        for piece in pieces {
            sleep(pause).await;
            // Nobody takes it any more where the answer came first.
            sender.send_data(Bytes::from_static(piece.as_bytes())).await.ok();
        }
    });
    body.boxed_unsync()
}
