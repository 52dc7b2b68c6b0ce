//! The service as a tonic server calls it, without sockets: what it refuses, how fast it reads and what it logs.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Mutex;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tokio::task::LocalSet;
use tonic::codegen::Service;
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::Node;
use tsunagi_proto::wire::google::rpc;

use super::*;
use crate::snapshot::Encoded;
use crate::status::{Identity, Progress};

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Has every host, always the same.
struct Anything;

impl Resources for Anything {
    fn revision(&self) -> u64 {
        1
    }
    fn host(&self, fqdn: &str, _: &str) -> Option<Arc<Encoded>> {
        Some(encoded(names::host(fqdn)))
    }
    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        Some(encoded(names::endpoints(fqdn)))
    }
    fn reaches(&self, fqdn: &str, _: &str) -> Arc<[String]> {
        Arc::new([fqdn.to_owned()])
    }
    fn workload(&self, node: &crate::snapshot::Node) -> Arc<Encoded> {
        encoded(names::workload(&node.namespace, &node.node_id))
    }
}

/// Keeps what it is told, and who leaves waiting until it is let go.
#[derive(Clone, Default)]
struct Pending {
    told: Arc<Mutex<Vec<String>>>,
    go: Arc<tokio::sync::Notify>,
}

impl Departures for Pending {
    async fn leave(&self, node: crate::snapshot::Node) -> Option<u64> {
        self.told.lock().unwrap().push(format!("{} leaves", node.node_id));
        self.go.notified().await;
        None
    }
    async fn stay(&self, node: crate::snapshot::Node) {
        self.told.lock().unwrap().push(format!("{} stays", node.node_id));
    }
    async fn forget(&self, node: crate::snapshot::Node, is_leaving: impl Fn() -> bool + Send) {
        let again = if is_leaving() { "again elsewhere" } else { "forgotten" };
        self.told.lock().unwrap().push(format!("{} {again}", node.node_id));
    }
}

fn encoded(name: String) -> Arc<Encoded> {
    Arc::new(Encoded {
        name,
        version: "v1".to_owned(),
        bytes: Bytes::from_static(b"x"),
        change: None,
    })
}

fn request() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn first(node_id: &str, subscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: node_id.to_owned(),
            ..Node::default()
        }),
        resource_names_subscribe: subscribe.iter().map(|&name| name.to_owned()).collect(),
        ..request()
    }
}

fn refusal(nonce: &str, message: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        error_detail: Some(rpc::Status {
            code: 3,
            message,
            ..rpc::Status::default()
        }),
        ..request()
    }
}

/// A client that says all this at once, then half-closes its side; returns how the stream ended.
async fn outcome(requests: &[DeltaDiscoveryRequest]) -> tonic::Code {
    outcome_at(&Status::new(), requests).await
}

async fn outcome_at(status: &Arc<Status>, requests: &[DeltaDiscoveryRequest]) -> tonic::Code {
    let mut body = BytesMut::new();
    for request in requests {
        body.put_u8(0);
        body.put_u32(request.encoded_len() as u32);
        request.encode(&mut body).unwrap();
    }
    let (_sender, world) = watch::channel(Arc::new(Anything));
    let mut service = service(world, Arc::clone(status), Pending::default());
    let call = http::Request::post(METHOD).header("content-type", "application/grpc");
    let response = service.call(call.body(Full::new(body.freeze())).unwrap()).await;
    let answer = response.unwrap().into_body().collect().await.unwrap();
    let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status"));
    tonic::Code::from_bytes(status.unwrap().as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_large_node_and_a_large_request_are_refused() {
    let node = "x".repeat(64 << 10);
    assert_eq!(outcome(&[first(&node, &[])]).await, tonic::Code::InvalidArgument);
    let large = "x".repeat(LARGEST_REQUEST_BYTES);
    assert_eq!(outcome(&[first("a", &[&large])]).await, tonic::Code::OutOfRange);
    let most = "x".repeat(LARGEST_REQUEST_BYTES - 1_000);
    assert_eq!(outcome(&[first("a", &[&most])]).await, tonic::Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_talks_without_end_is_read_at_a_steady_pace() {
    let requests = |count: usize| {
        let later = std::iter::repeat_n(request(), count);
        [first("a", &[])].into_iter().chain(later).collect::<Vec<_>>()
    };
    let started = Instant::now();
    assert_eq!(outcome(&requests(50)).await, tonic::Code::Ok);
    assert_eq!(started.elapsed(), Duration::ZERO, "a burst is read at once");
    assert_eq!(outcome(&requests(2_000)).await, tonic::Code::Ok);
    assert!(started.elapsed() >= Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn others_get_their_turn_between_two_requests() {
    const REQUESTS: usize = 90;
    let turns = Rc::new(Cell::new(0));
    let local = LocalSet::new();
    let counted = Rc::clone(&turns);
    local.spawn_local(async move {
        loop {
            counted.set(counted.get() + 1);
            tokio::task::yield_now().await;
        }
    });
    let mut requests = vec![request(); REQUESTS];
    requests.insert(0, first("a", &[]));
    assert_eq!(local.run_until(outcome(&requests)).await, tonic::Code::Ok);
    assert!(turns.get() > REQUESTS / 2, "{} turns", turns.get());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Of this thread, from now on.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_proxy_of_one_name_is_warned_of() {
    let log = Log::default();
    let _logging = log.listen();
    let status = Status::new();
    let identity = |node_id: &str| Identity {
        namespace: "default".to_owned(),
        node_id: node_id.to_owned(),
    };
    let _connected = status.connect(identity("a"), Progress::default());
    let advice = "give each sidecar a --node-id of its own";
    outcome_at(&status, &[first("b", &[])]).await;
    assert!(!log.text().contains(advice), "{}", log.text());
    outcome_at(&status, &[first("a", &[])]).await;
    assert_eq!(log.text().matches(advice).count(), 1, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_logged_once_and_short() {
    let log = Log::default();
    let _logging = log.listen();
    let text = "bad regex ".repeat(100_000);
    let stale = refusal("77", text.clone());
    let requests = [first("a", &["host/a"]), stale, refusal("1", text)];
    assert_eq!(outcome(&requests).await, tonic::Code::Ok);
    let logged = log.text();
    let lines: Vec<&str> = logged.lines().filter(|line| line.contains("bad regex")).collect();
    assert_eq!(lines.len(), 1, "{}", logged.len());
    assert!(lines[0].len() < 1_500, "{}", lines[0].len());
}

/// A stream that stays open; what it is sent, and what is said of its proxy.
struct Live {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: tonic::body::Body,
    departures: Pending,
    status: Arc<Status>,
    _world: watch::Sender<Arc<Anything>>,
}

impl Live {
    async fn open(first: DeltaDiscoveryRequest) -> Self {
        Self::open_at(first, &Status::new(), &Pending::default()).await
    }

    async fn open_at(first: DeltaDiscoveryRequest, status: &Arc<Status>, departures: &Pending) -> Self {
        let (world, receiver) = watch::channel(Arc::new(Anything));
        let mut service = service(receiver, Arc::clone(status), departures.clone());
        let (requests, mut stream) = mpsc::channel::<DeltaDiscoveryRequest>(8);
        let frames = tonic::codegen::tokio_stream::wrappers::ReceiverStream::new({
            let (sender, frames) = mpsc::channel(8);
            tokio::spawn(async move {
                while let Some(request) = stream.recv().await {
                    let mut body = BytesMut::new();
                    body.put_u8(0);
                    body.put_u32(request.encoded_len() as u32);
                    request.encode(&mut body).unwrap();
                    let frame = hyper::body::Frame::data(body.freeze());
                    sender.send(Ok::<_, tonic::Status>(frame)).await.unwrap();
                }
            });
            frames
        });
        requests.send(first).await.unwrap();
        let call = http::Request::post(METHOD).header("content-type", "application/grpc");
        let body = http_body_util::StreamBody::new(frames);
        let answers = service.call(call.body(body).unwrap()).await.unwrap().into_body();
        Self {
            requests,
            answers,
            departures: departures.clone(),
            status: Arc::clone(status),
            _world: world,
        }
    }

    /// Names of the resources of the next response.
    async fn next(&mut self) -> Vec<String> {
        let frame = self.answers.frame().await.unwrap().unwrap().into_data().unwrap();
        let response = DeltaDiscoveryResponse::decode(&frame[5..]).unwrap();
        let names = response.resources.into_iter().map(|resource| resource.name);
        names.chain(response.removed_resources).collect()
    }

    async fn told(&self, wanted: &[&str]) {
        let limit = tokio::time::timeout(Duration::from_secs(1), async {
            while *self.departures.told.lock().unwrap() != wanted {
                tokio::task::yield_now().await;
            }
        });
        let found = limit.await;
        assert!(found.is_ok(), "{:?}", self.departures.told.lock().unwrap());
    }
}

#[tokio::test]
async fn a_proxy_that_leaves_is_served_on_and_told_once_its_callers_know() {
    let mut live = Live::open(first("a", &["host/a"])).await;
    assert_eq!(live.next().await, ["endpoints/a", "host/a"]);
    live.told(&["a stays"]).await;
    let answer = |nonce: &str, subscribe: &[&str]| DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        resource_names_subscribe: subscribe.iter().map(|&name| name.to_owned()).collect(),
        ..request()
    };
    live.requests.send(answer("1", &["departure/default/a"])).await.unwrap();
    live.told(&["a stays", "a leaves"]).await;
    assert!(live.status.proxies()[0].leaving);
    live.requests.send(answer("", &["host/b"])).await.unwrap();
    assert_eq!(live.next().await, ["endpoints/b", "host/b"]);
    live.requests.send(answer("2", &[])).await.unwrap();
    live.departures.go.notify_one();
    assert_eq!(live.next().await, ["departure/default/a"]);
}

#[tokio::test]
async fn a_stream_that_begins_with_a_departure_is_not_back() {
    let mut live = Live::open(first("a", &["departure/default/a"])).await;
    live.told(&["a leaves"]).await;
    live.departures.go.notify_one();
    assert_eq!(live.next().await, ["departure/default/a"]);
    assert_eq!(*live.departures.told.lock().unwrap(), ["a leaves"]);
}

#[tokio::test]
async fn a_proxy_that_left_is_forgotten_after_its_stream_has_ended() {
    let live = Live::open(first("a", &["departure/default/a"])).await;
    live.told(&["a leaves"]).await;
    let Live {
        requests,
        answers,
        departures,
        status,
        _world,
    } = live;
    drop((requests, answers));
    let forgotten = tokio::time::timeout(Duration::from_secs(1), async {
        while *departures.told.lock().unwrap() != ["a leaves", "a forgotten"] {
            tokio::task::yield_now().await;
        }
    });
    assert!(forgotten.await.is_ok(), "{:?}", departures.told.lock().unwrap());
    assert_eq!(status.count(), 0);
}

#[tokio::test]
async fn where_a_namesake_stays_nothing_is_marked_and_the_departure_is_there_at_once() {
    let (status, departures) = (Status::new(), Pending::default());
    let identity = Identity {
        namespace: "default".to_owned(),
        node_id: "a".to_owned(),
    };
    let namesake = status.connect(identity.clone(), Progress::default());
    let mut live = Live::open_at(first("a", &["departure/default/a"]), &status, &departures).await;
    assert_eq!(live.next().await, ["departure/default/a"]);
    assert_eq!(*departures.told.lock().unwrap(), [""; 0]);
    // One that leaves too is no reason to stay.
    let leaving = Progress {
        leaving: true,
        ..Progress::default()
    };
    namesake.report(leaving, None);
    let other = Live::open_at(first("a", &["departure/default/a"]), &status, &departures).await;
    other.told(&["a leaves"]).await;
}
