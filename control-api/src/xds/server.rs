//! The discovery service on the wire: one task a stream, which feeds a session and sends what it decides.
//!
//! Called by the gRPC server that `app` sets up. A stream ends when the client half-closes it, when the client breaks
//! the protocol, and when the control plane stops publishing worlds. Nothing is queued for a slow client: a session has
//! one response in flight, and only an acknowledgement brings the next. A client that talks fast is read at a steady
//! pace, and others get their turn between two of its requests.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming};
use tsunagi_proto::wire::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::debounce::Debounce;
use super::departures::{self, Departures};
use super::pace::Pace;
use super::request;
use super::resources::Resources;
use super::session::{Misuse, Session};
use crate::snapshot::{Encoded, Node};
use crate::status::{Reporter, Span, Status};

/// A first request names everything that a proxy holds: room for 10,000 hosts with names of 100 characters, and for their
/// endpoints. A stream's read buffer stays as large as its largest request.
const LARGEST_REQUEST_BYTES: usize = 4 << 20;
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The discovery service, to be added to a tonic server. It follows `world`, reports to `status` and tells `departures`
/// who leaves.
pub fn service<W: Resources + Send + Sync + 'static>(
    world: watch::Receiver<Arc<W>>,
    status: Arc<Status>,
    departures: impl Departures,
) -> AggregatedDiscoveryServiceServer<impl AggregatedDiscoveryService> {
    let service = Discovery {
        world,
        status,
        departures,
        meters: Meters::new(),
    };
    AggregatedDiscoveryServiceServer::new(service)
        .max_decoding_message_size(LARGEST_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX)
}

struct Discovery<W, D> {
    world: watch::Receiver<Arc<W>>,
    status: Arc<Status>,
    departures: D,
    meters: Meters,
}

#[derive(Clone)]
struct Meters {
    streams: Gauge,
    responses: Counter,
    resources: Counter,
    acknowledged: Counter,
    refused: Counter,
    /// From sending a response to its answer.
    answer_seconds: Histogram,
}

impl Meters {
    fn new() -> Self {
        Self {
            streams: gauge!("tsunagi_connected_proxies"),
            responses: counter!("tsunagi_push_responses_total"),
            resources: counter!("tsunagi_push_resources_total"),
            acknowledged: counter!("tsunagi_push_answers_total", "result" => "acknowledged"),
            refused: counter!("tsunagi_push_answers_total", "result" => "refused"),
            answer_seconds: histogram!("tsunagi_push_answer_duration_seconds"),
        }
    }
}

type Reply = Result<DeltaDiscoveryResponse, tonic::Status>;

#[tonic::async_trait]
impl<W: Resources + Send + Sync + 'static, D: Departures> AggregatedDiscoveryService for Discovery<W, D> {
    type DeltaAggregatedResourcesStream = ReceiverStream<Reply>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, tonic::Status> {
        let (replies, stream) = mpsc::channel(1);
        let (world, status, meters) = (self.world.clone(), Arc::clone(&self.status), self.meters.clone());
        let departures = self.departures.clone();
        let mut client = Client {
            address: request.remote_addr().map(|address| address.ip().to_canonical()),
            leaving: None,
        };
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = serve(&mut client, &mut requests, world, &status, &departures, &meters, &replies) => outcome,
                () = replies.closed() => Ok(()),
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "a discovery stream ends");
                // A client that is not there to read it does not need it.
                let _ = replies.try_send(Err(error));
            }
            drop((replies, requests));
            if let Some(node) = client.leaving {
                departures::forget(departures, status, node).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Who is at the other end of a stream.
struct Client {
    /// Every TCP connection has one.
    address: Option<IpAddr>,
    /// Once it has said that it leaves.
    leaving: Option<Node>,
}

/// One connected proxy.
struct Stream<'a, W> {
    session: Session<W>,
    reporter: Reporter,
    replies: &'a mpsc::Sender<Reply>,
    meters: &'a Meters,
    /// When the response in flight was sent.
    sent: Option<Instant>,
}

/// Until the client half-closes its side, or an error. Dropping it disconnects the proxy.
async fn serve<W: Resources>(
    client: &mut Client,
    requests: &mut Streaming<DeltaDiscoveryRequest>,
    mut world: watch::Receiver<Arc<W>>,
    status: &Arc<Status>,
    departures: &impl Departures,
    meters: &Meters,
    replies: &mpsc::Sender<Reply>,
) -> Result<(), tonic::Status> {
    let Some(session) = begin(requests, &mut world).await? else {
        return Ok(());
    };
    tracing::info!(
        node = session.identity().node_id,
        namespace = session.identity().namespace,
        "a proxy connected"
    );
    let progress = session.progress();
    let missed = status.missed(progress.seen).filter(|_| session.is_behind());
    let reporter = status.connect(session.identity().clone(), progress);
    reporter.describe(session.node().labels.clone());
    let _connected = Connected::new(&meters.streams);
    let node = Node {
        peer: client.address,
        ..session.node().clone()
    };
    let mut stream = Stream {
        session,
        reporter,
        replies,
        meters,
        sent: None,
    };
    if !stream.session.is_leaving() {
        let (departures, node) = (departures.clone(), node.clone());
        tokio::spawn(async move { departures.stay(node).await });
    }
    let mut departing: Option<Departing> = None;
    let mut debounce = Debounce::default();
    let mut pace = Pace::default();
    stream.step(missed)?;
    loop {
        if stream.session.take_departure() {
            client.leaving = Some(node.clone());
            departing = Some(Box::pin(departures::depart(
                departures.clone(),
                Arc::clone(status),
                node.clone(),
                stream.reporter.has_namesake(),
            )));
        }
        tokio::select! {
            request = next_request(requests, pace.due()) => match request? {
                Some(request) => {
                    pace.read(names_in(&request), Instant::now());
                    stream.request(&request)?;
                    drop(request);
                    // Requests may be there without end: the worker's other streams come first.
                    tokio::task::yield_now().await;
                }
                None => return Ok(()),
            },
            changed = world.changed() => match changed {
                Ok(()) => {
                    debounce.changed(Instant::now());
                    stream.session.notice(&world.borrow_and_update());
                }
                // The control plane is stopping.
                Err(_) => return Ok(()),
            },
            departure = departed(&mut departing) => {
                departing = None;
                stream.session.depart(departure);
                stream.step(None)?;
            }
            () = until(debounce.due()) => {
                debounce.pushed(Instant::now());
                let newest = Arc::clone(&world.borrow_and_update());
                let concern = stream.session.world(newest);
                stream.step(concern)?;
            }
        }
    }
}

/// `None`: the client left without a word. The first request is large, and does not outlive this.
async fn begin<W: Resources>(
    requests: &mut Streaming<DeltaDiscoveryRequest>,
    world: &mut watch::Receiver<Arc<W>>,
) -> Result<Option<Session<W>>, tonic::Status> {
    let first = tokio::time::timeout(FIRST_REQUEST_LIMIT, requests.message()).await;
    let first = first.map_err(|_| tonic::Status::deadline_exceeded("no request came on the stream"))?;
    let Some(first) = first? else {
        return Ok(None);
    };
    let newest = Arc::clone(&world.borrow_and_update());
    Session::new(newest, &first).map(Some).map_err(refuse)
}

/// Not before it is due. `None`: the client has half-closed the stream. Dropping the future loses nothing.
async fn next_request(
    requests: &mut Streaming<DeltaDiscoveryRequest>,
    due: Option<Instant>,
) -> Result<Option<DeltaDiscoveryRequest>, tonic::Status> {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
    requests.message().await
}

fn names_in(request: &DeltaDiscoveryRequest) -> usize {
    request.resource_names_subscribe.len() + request.resource_names_unsubscribe.len()
}

type Departing = Pin<Box<dyn Future<Output = Encoded> + Send>>;

/// Dropping the future loses nothing: the departure goes on when it is asked again.
async fn departed(departing: &mut Option<Departing>) -> Encoded {
    match departing {
        Some(departing) => departing.await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn refuse(misuse: Misuse) -> tonic::Status {
    tonic::Status::invalid_argument(misuse.to_string())
}

impl<W: Resources> Stream<'_, W> {
    fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), tonic::Status> {
        if self.session.is_answered_by(request) {
            self.count_answer(request);
        }
        self.session.request(request).map_err(refuse)?;
        self.step(None)
    }

    fn count_answer(&mut self, request: &DeltaDiscoveryRequest) {
        if let Some(sent) = self.sent.take() {
            self.meters.answer_seconds.record(sent.elapsed());
        }
        match &request.error_detail {
            None => self.meters.acknowledged.increment(1),
            Some(error) => {
                self.meters.refused.increment(1);
                let identity = self.session.identity();
                let (node, namespace) = (&identity.node_id, &identity.namespace);
                tracing::warn!(
                    node,
                    namespace,
                    reason = request::shortened(&error.message),
                    "a proxy refused what it was sent"
                );
            }
        }
    }

    /// Sends what the session wants to send now, and reports.
    fn step(&mut self, concern: Option<Span>) -> Result<(), tonic::Status> {
        if let Some(response) = self.session.response() {
            self.meters.responses.increment(1);
            self.meters.resources.increment(response.resources.len() as u64);
            self.sent = Some(Instant::now());
            // There is room when the client tells the truth about what it has received.
            let sent = self.replies.try_send(Ok(response));
            sent.map_err(|_| tonic::Status::resource_exhausted("responses are acknowledged but not read"))?;
        }
        // Whoever waits for proxies is woken by each report.
        if let Some(progress) = self.session.news() {
            self.reporter.report(progress, concern);
        }
        Ok(())
    }
}

/// Counts a proxy as connected as long as it lives.
struct Connected<'a>(&'a Gauge);

impl<'a> Connected<'a> {
    fn new(streams: &'a Gauge) -> Self {
        streams.increment(1.0);
        Self(streams)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests;
