//! Both ends of a WebSocket: a mesh between them, an endpoint that says everything twice, the library's client, and HTTP/2
//! streams for it to speak on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use tsunagi_tests::{
    ControlPlane, LIMIT, RawConnection, Sidecar, SidecarOptions, Workload, eventually, service, within,
};

/// RFC 6455's own example.
pub(crate) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: echo\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
pub(crate) const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub(crate) type WebSocket = WebSocketStream<TcpStream>;

/// The service `echo` behind a sidecar.
pub(crate) struct Mesh {
    pub(crate) sidecar: Sidecar,
    _control: ControlPlane,
}

impl Mesh {
    pub(crate) async fn start(port_name: &str, endpoints: &[(&str, SocketAddr)], rules: &str) -> Mesh {
        Mesh::with(port_name, endpoints, rules, &SidecarOptions::default()).await
    }

    pub(crate) async fn with(
        port_name: &str,
        endpoints: &[(&str, SocketAddr)],
        rules: &str,
        options: &SidecarOptions,
    ) -> Mesh {
        let workloads = endpoints.iter().map(|(version, address)| Workload {
            version,
            address: *address,
        });
        let workloads: Vec<Workload<'_>> = workloads.collect();
        let control = ControlPlane::start();
        let echo = service("echo", port_name, &workloads);
        control.apply(&format!("{echo}---\n{rules}")).await;
        let sidecar = Sidecar::start_with(control.grpc, options).ready().await;
        Mesh {
            sidecar,
            _control: control,
        }
    }

    /// A WebSocket, and the headers of the answer.
    pub(crate) async fn open(&self, headers: &[(&'static str, &str)]) -> Result<(WebSocket, HeaderMap), Error> {
        let mut request = "ws://echo/chat".into_client_request()?;
        for (name, value) in headers {
            let value = value.parse().expect("a test writes valid headers");
            request.headers_mut().insert(*name, value);
        }
        let stream = TcpStream::connect(self.sidecar.outbound).await?;
        let opened = within("an answer", LIMIT, client_async(request, stream)).await;
        opened.map(|(socket, response)| (socket, response.headers().clone()))
    }

    pub(crate) async fn connect(&self) -> RawConnection {
        RawConnection::open(self.sidecar.outbound).await
    }

    pub(crate) async fn http2(&self) -> h2::client::SendRequest<Bytes> {
        let stream = TcpStream::connect(self.sidecar.outbound)
            .await
            .expect("the listener accepts");
        let (sender, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        // Its settings say whether streams may become anything else.
        eventually("the settings", LIMIT, async || {
            sender.is_extended_connect_protocol_enabled().then_some(())
        })
        .await;
        sender.ready().await.expect("an open connection")
    }

    /// Requests that have ended, with these labels.
    pub(crate) async fn counted(&self, sidecar: &Sidecar, labels: &[(&str, &str)], expected: f64) {
        eventually("they are counted", LIMIT, async || {
            let counted = sidecar.metrics().await.sum("http_requests_total", labels);
            (counted == expected).then_some(())
        })
        .await;
    }

    /// The access log's line of the request that has ended.
    pub(crate) async fn log_line(&self) -> serde_json::Value {
        let process = &self.sidecar.process;
        let line = eventually("a line", LIMIT, async || process.stdout().pop()).await;
        serde_json::from_str(&line).expect("a line is JSON")
    }
}

/// How a WebSocket ended for its endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    Closed,
    Broken,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    ended: Vec<Ended>,
}

/// An endpoint that says everything twice. It ends with the value.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _server: JoinSet<()>,
}

impl Echo {
    pub(crate) async fn start(version: &'static str) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::<Mutex<Seen>>::default();
        let (mut server, shown) = (JoinSet::new(), Arc::clone(&seen));
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, version, Arc::clone(&shown)));
            }
        });
        Echo {
            address,
            seen,
            _server: server,
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.requests.clone()
    }

    pub(crate) async fn ended(&self, expected: &[Ended]) {
        eventually("they end so", LIMIT, async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.ended == expected).then_some(())
        })
        .await;
    }
}

async fn serve(stream: TcpStream, version: &'static str, seen: Arc<Mutex<Seen>>) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    #[allow(clippy::result_large_err, reason = "the library's own signature")]
    let accept = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        lock().requests.push(request.clone());
        let version = http::HeaderValue::from_static(version);
        response.headers_mut().insert("x-version", version);
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, accept).await else {
        return;
    };
    let ended = echo(&mut socket).await;
    lock().ended.push(ended);
}

/// Until the other side closes.
pub(crate) async fn echo<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Ended {
    while let Some(message) = socket.next().await {
        match message {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                if socket.send(message).await.is_err() {
                    return Ended::Broken;
                }
            }
            // The library answers these.
            Ok(_) => {}
            Err(_) => return Ended::Broken,
        }
    }
    Ended::Closed
}

/// Says it and hears it again.
pub(crate) async fn says<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, message: Message) {
    let both = async {
        socket.send(message.clone()).await.expect("an open socket");
        let heard = socket.next().await.expect("an open socket").expect("a message");
        assert!(heard == message, "{} bytes and {}", heard.len(), message.len());
    };
    within("it comes back", LIMIT, both).await;
}

/// Says goodbye, hears it, and then nothing more comes.
pub(crate) async fn closes<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    let goodbye = async {
        socket.close(None).await.expect("an open socket");
        let heard = socket.next().await.expect("an answer").expect("a message");
        assert!(heard.is_close(), "{heard:?}");
        assert!(socket.next().await.is_none());
    };
    within("a goodbye", LIMIT, goodbye).await;
}

/// The bytes of an HTTP/2 stream.
pub(crate) struct StreamBytes {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) receive: RecvStream,
    at_hand: Bytes,
}

impl StreamBytes {
    pub(crate) fn new(send: SendStream<Bytes>, receive: RecvStream) -> StreamBytes {
        StreamBytes {
            send,
            receive,
            at_hand: Bytes::new(),
        }
    }

    /// The reason for which the stream was reset, behind whatever came before.
    pub(crate) async fn reset(&mut self) -> Option<h2::Reason> {
        let until_reset = async {
            loop {
                match self.receive.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.reason(),
                    None => return None,
                }
            }
        };
        within("an ending", LIMIT, until_reset).await
    }
}

impl AsyncRead for StreamBytes {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at_hand.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(data) => self.at_hand = data.map_err(io::Error::other)?,
            }
            let count = self.at_hand.len();
            self.receive.flow_control().release_capacity(count).ok();
        }
        let count = buffer.remaining().min(self.at_hand.len());
        buffer.put_slice(&self.at_hand.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamBytes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(bytes.len());
        if self.send.capacity() == 0 {
            let room = ready!(self.send.poll_capacity(cx));
            room.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
        }
        let count = self.send.capacity().min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..count]);
        self.send.send_data(piece, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
