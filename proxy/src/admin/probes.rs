//! The kubelet's probes of the application, asked on its behalf: by the health door, for the paths that injection wrote.
//!
//! The question goes to where the kubelet would have sent it, the pod's own address, which is the one its connection came
//! to. It leaves from 127.0.0.6 (`::6`), as everything that the inbound path sends to the application, so that the packet
//! filter lets it through to the application itself: a probe tells about the application, whatever the sidecar limits.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::answer::{Answer, Methods, not_found, text, wrong_method};
use crate::bootstrap::{AppProbe, AppProbes, Question};

/// What begins with this is a probe.
pub(super) const PREFIX: &str = "/app-health/";
/// The health door faces the network: whoever asks, the application is asked by no more than these at once.
const AT_ONCE: usize = 32;
/// An answer of `grpc.health.v1` has a few bytes.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;

const AGENT: HeaderValue = HeaderValue::from_static("kube-probe/tsunagi");

pub(super) struct Probes {
    known: AppProbes,
    room: Semaphore,
}

/// Why the application is not well.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("cannot connect to the application: {0}")]
    Connect(#[from] io::Error),
    #[error("the application does not answer in HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the application does not answer in gRPC: {0}")]
    Http2(#[from] h2::Error),
    #[error("the application answers {0}")]
    Status(StatusCode),
    #[error("the application's health service answers with gRPC status {0}")]
    Grpc(String),
    #[error("the application's health service says {0}")]
    NotServing(&'static str),
    #[error("the application's health service gives no answer that can be read")]
    Unreadable,
}

impl Probes {
    pub(super) fn new(known: AppProbes) -> Probes {
        Probes {
            known,
            room: Semaphore::new(AT_ONCE),
        }
    }

    /// Asks the application at `local`, the address that the kubelet asked. Dropping the future ends the question.
    pub(super) async fn answer(&self, request: &Parts, local: IpAddr) -> Answer {
        let path = request.uri.path();
        let Some(probe) = self.known.get(path) else {
            return not_found("those of --app-probes");
        };
        if !Methods::Get.allow(&request.method) {
            return wrong_method(Methods::Get);
        }
        let Ok(_room) = self.room.try_acquire() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many probes at once");
        };
        let agent = request.headers.get(USER_AGENT).cloned().unwrap_or(AGENT);
        match tokio::time::timeout(probe.timeout, ask(probe, local, agent)).await {
            Ok(Ok(status)) => text(status, "the application is well"),
            // As the application said it: a prober may show the number.
            Ok(Err(ProbeError::Status(status))) => text(status, ProbeError::Status(status).to_string()),
            Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Err(_) => {
                let reason = format!("the application does not answer within {:?}", probe.timeout);
                text(StatusCode::SERVICE_UNAVAILABLE, reason)
            }
        }
    }
}

async fn ask(probe: &AppProbe, local: IpAddr, agent: HeaderValue) -> Result<StatusCode, ProbeError> {
    match &probe.question {
        Question::Tcp { port } => connect(local, *port).await.map(|_| StatusCode::OK).map_err(Into::into),
        Question::Http { port, path, headers } => {
            let address = SocketAddr::new(local, *port);
            let stream = connect(local, *port).await?;
            ask_http(stream, address, path, headers, agent).await
        }
        Question::Grpc { port, service } => {
            let stream = connect(local, *port).await?;
            ask_grpc(stream, SocketAddr::new(local, *port), service, agent).await
        }
    }
}

/// From the address that is never redirected. Where this machine has no such address (`::6` comes with the redirection)
/// nothing is redirected either, and any will do.
async fn connect(local: IpAddr, port: u16) -> io::Result<TcpStream> {
    let (socket, source) = match local {
        IpAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6))),
        IpAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))),
    };
    if let Err(error) = socket.bind(SocketAddr::new(source, 0)) {
        tracing::debug!(%error, %source, "a probe leaves from an ordinary address");
    }
    socket.connect(SocketAddr::new(local, port)).await
}

/// Success is what the kubelet takes for it, 200 to 399. Redirects are not followed, and so not passed on.
async fn ask_http(
    stream: TcpStream,
    address: SocketAddr,
    path: &PathAndQuery,
    headers: &HeaderMap,
    agent: HeaderValue,
) -> Result<StatusCode, ProbeError> {
    let mut request = Request::get(path.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::Unreadable)?;
    let own = request.headers_mut();
    own.insert(USER_AGENT, agent);
    own.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if let Ok(host) = HeaderValue::from_str(&address.to_string()) {
        own.insert(HOST, host);
    }
    // A header that the probe says replaces ours, and may have several values.
    headers.keys().for_each(|name| {
        own.remove(name);
    });
    own.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    own.insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let response = driven(sender.send_request(request), connection).await?;
    match response.status() {
        status if status.is_success() => Ok(status),
        status if status.is_redirection() => Ok(StatusCode::OK),
        status => Err(ProbeError::Status(status)),
    }
}

/// The result of an exchange on a connection that must be driven for it.
async fn driven<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        result = exchange.as_mut() => return result,
        _ = connection => {}
    }
    // A connection that has ended has told the exchange how.
    exchange.await
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct Check {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct Checked {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

async fn ask_grpc(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
    agent: HeaderValue,
) -> Result<StatusCode, ProbeError> {
    let (client, connection) = h2::client::handshake(stream).await?;
    driven(check(client, address, service, agent), connection).await
}

async fn check(
    client: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
    service: &str,
    agent: HeaderValue,
) -> Result<StatusCode, ProbeError> {
    let mut client = client.ready().await?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, agent);
    let request = request.body(()).map_err(|_| ProbeError::Unreadable)?;
    let (response, mut stream) = client.send_request(request, false)?;
    stream.send_data(framed(service), true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        return Err(ProbeError::Status(response.status()));
    }
    refuse_status(response.headers())?;
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > MAX_MESSAGE_BYTES {
            return Err(ProbeError::Unreadable);
        }
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    if let Some(trailers) = body.trailers().await? {
        refuse_status(&trailers)?;
    }
    match unframed(&bytes).map(|checked| checked.status) {
        Some(SERVING) => Ok(StatusCode::OK),
        Some(0) => Err(ProbeError::NotServing("UNKNOWN")),
        Some(2) => Err(ProbeError::NotServing("NOT_SERVING")),
        Some(3) => Err(ProbeError::NotServing("SERVICE_UNKNOWN")),
        _ => Err(ProbeError::Unreadable),
    }
}

/// A gRPC message: not compressed, its length, its bytes.
fn framed(service: &str) -> Bytes {
    let message = Check {
        service: service.to_owned(),
    }
    .encode_to_vec();
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(&message);
    bytes.freeze()
}

fn unframed(bytes: &[u8]) -> Option<Checked> {
    let (head, message) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    let whole = head[0] == 0 && usize::try_from(length) == Ok(message.len());
    whole.then(|| Checked::decode(message).ok()).flatten()
}

/// A status other than OK, in trailers or in the headers of an answer that has nothing else.
fn refuse_status(headers: &HeaderMap) -> Result<(), ProbeError> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(status) => Err(ProbeError::Grpc(
            String::from_utf8_lossy(status).chars().take(20).collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_framed_as_grpc_frames_it() {
        assert_eq!(&framed("a")[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        assert_eq!(&framed("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(
            unframed(&[0, 0, 0, 0, 2, 8, 1]).map(|checked| checked.status),
            Some(SERVING)
        );
        assert_eq!(unframed(&[0, 0, 0, 0, 0]).map(|checked| checked.status), Some(0));
        for wrong in [
            &[][..],
            &[0, 0, 0],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 0xff],
        ] {
            assert_eq!(unframed(wrong), None, "{wrong:?}");
        }
    }
}
