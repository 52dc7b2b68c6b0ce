//! A sample service that does as it is told: HTTP/1.1 and HTTP/2 (prior knowledge) on one port, answers with its name,
//! counts connections and requests live and at their peak, and can fail in every way that a proxy must survive.
//!
//! Paths: `/head` shows the request's head, `/echo` streams the body and its trailers back, `/bytes/N` and `/endless`
//! send, `/swallow` counts what it is sent, `/trailers` and `/status/N` do what they say; anything else is the name.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::pods::Pod;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    Answer,
    Status(u16),
    /// A status, once the request's body has come.
    Swallow(u16),
    /// A status with one header more and no body.
    Head(u16, &'static str, &'static str),
    Delay(Duration),
    /// Nothing until the behaviour changes, then that.
    Hold,
    /// The connection (HTTP/2: the stream) ends before a response.
    Close,
    /// The connection ends after a part of the body.
    CloseInBody,
}

/// The head of a request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub uri: String,
    pub version: String,
    pub headers: HeaderMap,
    /// Number of the connection, from 0.
    pub connection: u64,
}

/// Ends with the value: its connections are cut.
pub struct Upstream {
    pub address: SocketAddr,
    script: watch::Sender<Behaviour>,
    counts: Arc<Counts>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    name: String,
    /// HTTP/2 streams at once on one connection; `None`: many.
    max_streams: Option<u32>,
    connections: Level,
    group: Group,
    requests: Level,
    bytes: AtomicU64,
    seen: Mutex<VecDeque<Seen>>,
}

#[derive(Default)]
struct Level {
    total: AtomicU64,
    live: AtomicU64,
    peak: AtomicU64,
}

impl Level {
    fn enter(&self) -> u64 {
        let live = self.live.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(live, Ordering::SeqCst);
        self.total.fetch_add(1, Ordering::SeqCst)
    }
}

/// Connections of several upstreams together: what a limit of a cluster counts. Counted exactly, whenever a connection
/// arrives: one whose end has already come in is not there any more, even if nobody has read that yet.
#[derive(Clone, Default)]
pub struct Group(Arc<Mutex<GroupCounts>>);

#[derive(Default)]
struct GroupCounts {
    connections: HashMap<u64, std::net::TcpStream>,
    next: u64,
    peak: usize,
}

impl GroupCounts {
    fn live(&self) -> usize {
        let open = |stream: &&std::net::TcpStream| match stream.peek(&mut [0]) {
            Ok(length) => length > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        self.connections.values().filter(open).count()
    }
}

impl Group {
    pub fn live_connections(&self) -> usize {
        self.lock().live()
    }
    pub fn peak_connections(&self) -> usize {
        self.lock().peak
    }
    fn lock(&self) -> MutexGuard<'_, GroupCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn enter(&self, stream: std::net::TcpStream) -> u64 {
        let mut counts = self.lock();
        counts.next += 1;
        let number = counts.next;
        counts.connections.insert(number, stream);
        counts.peak = counts.peak.max(counts.live());
        number
    }
    fn leave(&self, number: u64) {
        self.lock().connections.remove(&number);
    }
}

struct Inside<F: Fn()>(F);

impl<F: Fn()> Drop for Inside<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Upstream {
    pub async fn start(name: &str) -> Upstream {
        Upstream::start_at(name, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_in(group: &Group, name: &str) -> Upstream {
        Upstream::bind(name, SocketAddr::from(([127, 0, 0, 1], 0)), group.clone(), None).await
    }

    /// Allows so many HTTP/2 streams at once on one connection.
    pub async fn start_with_streams(name: &str, max_streams: u32) -> Upstream {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Upstream::bind(name, anywhere, Group::default(), Some(max_streams)).await
    }

    pub async fn start_at(name: &str, address: SocketAddr) -> Upstream {
        Upstream::bind(name, address, Group::default(), None).await
    }

    /// Inside a pod, on every address of it; `address` is the pod's.
    pub async fn start_in_pod(name: &str, pod: &Pod, port: u16) -> Upstream {
        let listener = block_in_place(|| pod.listen(port));
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime runs");
        let mut upstream = Upstream::serve(name, listener, Group::default(), None);
        upstream.address.set_ip(pod.address());
        upstream
    }

    async fn bind(name: &str, address: SocketAddr, group: Group, max_streams: Option<u32>) -> Upstream {
        let listener = TcpListener::bind(address).await.expect("a loopback address");
        Upstream::serve(name, listener, group, max_streams)
    }

    fn serve(name: &str, listener: TcpListener, group: Group, max_streams: Option<u32>) -> Upstream {
        let address = listener.local_addr().expect("a bound socket");
        let counts = Arc::new(Counts {
            name: name.to_owned(),
            group,
            max_streams,
            ..Counts::default()
        });
        let (script, behaviour) = watch::channel(Behaviour::Answer);
        let mut server = JoinSet::new();
        server.spawn(accept(listener, counts.clone(), behaviour));
        Upstream {
            address,
            script,
            counts,
            _server: server,
        }
    }

    pub fn set(&self, behaviour: Behaviour) {
        self.script.send_replace(behaviour);
    }
    pub fn connections(&self) -> u64 {
        self.counts.connections.total.load(Ordering::SeqCst)
    }
    pub fn live_connections(&self) -> u64 {
        self.counts.connections.live.load(Ordering::SeqCst)
    }
    pub fn peak_connections(&self) -> u64 {
        self.counts.connections.peak.load(Ordering::SeqCst)
    }
    pub fn requests(&self) -> u64 {
        self.counts.requests.total.load(Ordering::SeqCst)
    }
    pub fn live_requests(&self) -> u64 {
        self.counts.requests.live.load(Ordering::SeqCst)
    }
    pub fn peak_requests(&self) -> u64 {
        self.counts.requests.peak.load(Ordering::SeqCst)
    }
    /// Bytes of bodies sent on `/endless` or taken on `/swallow`.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }
    /// The latest requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.counts
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request arrived")
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>, behaviour: watch::Receiver<Behaviour>) {
    // Owned here, so that ending this task cuts every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, counts.clone(), behaviour.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, counts: Arc<Counts>, behaviour: watch::Receiver<Behaviour>) {
    stream.set_nodelay(true).ok();
    let number = counts.connections.enter();
    let stream = stream.into_std().expect("a socket of this runtime");
    let in_group = counts.group.enter(stream.try_clone().expect("a socket more"));
    let stream = TcpStream::from_std(stream).expect("a socket of this runtime");
    let leaving = counts.clone();
    let _inside = Inside(move || {
        leaving.group.leave(in_group);
        leaving.connections.live.fetch_sub(1, Ordering::SeqCst);
    });
    let max_streams = counts.max_streams.unwrap_or(1000);
    let service = service_fn(move |request| answer(request, number, counts.clone(), behaviour.clone()));
    let mut first = [0; 3];
    while !matches!(stream.peek(&mut first).await, Ok(0 | 3) | Err(_)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let io = TokioIo::new(stream);
    // An error here is a peer that went away or a scripted failure: counted by what the test sees.
    if &first == b"PRI" {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .max_concurrent_streams(max_streams)
            .serve_connection(io, service)
            .await
            .ok();
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await
            .ok();
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: u64,
    counts: Arc<Counts>,
    mut behaviour: watch::Receiver<Behaviour>,
) -> io::Result<Response<Body>> {
    counts.requests.enter();
    let leaving = counts.clone();
    let _inside = Inside(move || {
        leaving.requests.live.fetch_sub(1, Ordering::SeqCst);
    });
    remember(&request, connection, &counts);
    let now = behaviour
        .wait_for(|now| *now != Behaviour::Hold)
        .await
        .map_err(io::Error::other)?
        .clone();
    match now {
        Behaviour::Answer | Behaviour::Hold => Ok(by_path(request, counts.clone()).await),
        Behaviour::Status(status) => Ok(named(status, &counts)),
        Behaviour::Swallow(status) => {
            swallow(request.into_body(), &counts).await;
            Ok(named(status, &counts))
        }
        Behaviour::Head(status, name, value) => {
            let mut response = whole(status, &counts, Bytes::new());
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
            Ok(response)
        }
        Behaviour::Delay(time) => {
            tokio::time::sleep(time).await;
            Ok(by_path(request, counts.clone()).await)
        }
        Behaviour::Close => Err(io::Error::other("told to close")),
        Behaviour::CloseInBody => Ok(streamed(&counts, |mut body| async move {
            body.send_data(Bytes::from_static(b"the beginning")).await.ok();
            tokio::task::yield_now().await;
            body.abort(io::Error::other("told to close in the body"));
        })),
    }
}

fn remember(request: &Request<Incoming>, connection: u64, counts: &Counts) {
    let seen = Seen {
        method: request.method().to_string(),
        uri: request.uri().to_string(),
        version: format!("{:?}", request.version()),
        headers: request.headers().clone(),
        connection,
    };
    let mut all = counts.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() == 256 {
        all.pop_front();
    }
    all.push_back(seen);
}

async fn by_path(request: Request<Incoming>, counts: Arc<Counts>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let number = path
        .rsplit('/')
        .next()
        .and_then(|last| last.parse::<usize>().ok())
        .unwrap_or_default();
    match path.split('/').nth(1).unwrap_or_default() {
        "head" => whole(200, &counts, shown(&request)),
        "echo" => announcing_trailers(respond(
            200,
            &counts,
            request.into_body().map_err(io::Error::other).boxed_unsync(),
        )),
        "status" => named(number as u16, &counts),
        "bytes" => whole(200, &counts, Bytes::from(vec![b'x'; number])),
        "swallow" => {
            let taken = swallow(request.into_body(), &counts).await;
            whole(200, &counts, Bytes::from(taken.to_string()))
        }
        "endless" => {
            let sent = counts.clone();
            streamed(&counts, |mut body| async move {
                while body.send_data(Bytes::from_static(&[b'x'; 16 * 1024])).await.is_ok() {
                    sent.bytes.fetch_add(16 * 1024, Ordering::SeqCst);
                }
            })
        }
        "trailers" => streamed(&counts, |mut body| async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", http::HeaderValue::from_static("42"));
            body.send_data(Bytes::from_static(b"with trailers")).await.ok();
            body.send_trailers(trailers).await.ok();
        }),
        _ => named(200, &counts),
    }
}

async fn swallow(mut body: Incoming, counts: &Counts) -> u64 {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        taken += length;
        counts.bytes.fetch_add(length, Ordering::SeqCst);
    }
    taken
}

/// The head as text: a line for each thing.
fn shown(request: &Request<Incoming>) -> Bytes {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    Bytes::from(text)
}

fn named(status: u16, counts: &Counts) -> Response<Body> {
    whole(status, counts, Bytes::from(counts.name.clone()))
}

fn whole(status: u16, counts: &Counts, body: Bytes) -> Response<Body> {
    let never = |error: Infallible| match error {};
    respond(status, counts, Full::new(body).map_err(never).boxed_unsync())
}

fn streamed<F, A>(counts: &Counts, write: F) -> Response<Body>
where
    F: FnOnce(http_body_util::channel::Sender<Bytes, io::Error>) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let (sender, body) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(write(sender));
    announcing_trailers(respond(200, counts, body.boxed_unsync()))
}

/// Over HTTP/1.1 hyper sends only trailers that the head names.
fn announcing_trailers(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert("trailer", http::HeaderValue::from_static("x-checksum"));
    response
}

fn respond(status: u16, counts: &Counts, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    let name = http::HeaderValue::from_str(&counts.name).expect("an upstream's name is a header value");
    response.headers_mut().insert("x-upstream", name);
    response
}
