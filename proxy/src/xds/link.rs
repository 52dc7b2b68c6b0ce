//! The connection to the control plane in each of its states. Called by `client` alone.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::Uri;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tsunagi_proto::wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Until the control plane has accepted the stream.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// A control plane that vanished without a word is noticed within the sum of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(5);
const LARGEST_RESPONSE_BYTES: usize = 64 << 20;
const REQUESTS_QUEUED: usize = 4;

type Opening = Pin<Box<dyn Future<Output = Result<Stream, String>> + Send>>;

pub(super) enum Link {
    /// Until it is time for the next attempt.
    Waiting(Instant),
    Opening(Opening),
    Open(Box<Stream>),
}

pub(super) struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    since: Instant,
    /// The connection ends with its last handle.
    channel: Channel,
}

pub(super) enum Event {
    TimeToConnect,
    Opened(Box<Stream>),
    Response(DeltaDiscoveryResponse),
    /// A request can be sent now.
    Writable,
    Lost {
        reason: String,
        lasted: Duration,
    },
}

impl Link {
    /// The host name is resolved anew for each connection.
    pub(super) fn open(control_plane: &Uri, first: Option<DeltaDiscoveryRequest>) -> Self {
        let opening = open(control_plane.clone(), first);
        Self::Opening(Box::pin(async move {
            let opened = tokio::time::timeout(OPEN_LIMIT, opening).await;
            opened.unwrap_or_else(|_| Err(format!("no answer within {OPEN_LIMIT:?}")))
        }))
    }

    /// What happens next. Dropping it loses nothing.
    pub(super) async fn event(&mut self, has_request: bool) -> Event {
        match self {
            Self::Waiting(until) => {
                tokio::time::sleep_until(*until).await;
                Event::TimeToConnect
            }
            Self::Opening(opening) => match opening.as_mut().await {
                Ok(stream) => Event::Opened(Box::new(stream)),
                Err(reason) => Event::Lost {
                    reason,
                    lasted: Duration::ZERO,
                },
            },
            Self::Open(stream) => stream.event(has_request).await,
        }
    }

    /// Gives the request back when there is no stream, or no room on it.
    pub(super) fn send(&mut self, request: DeltaDiscoveryRequest) {
        if let Self::Open(stream) = self {
            // Without room it is only called after `Writable`; a closed stream shows in the next event.
            let _ = stream.requests.try_send(request);
        }
    }

    /// For calls beside the stream.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Open(stream) => Some(&stream.channel),
            Self::Waiting(_) | Self::Opening(_) => None,
        }
    }

    pub(super) fn is_writable(&self) -> bool {
        matches!(self, Self::Open(stream) if stream.requests.capacity() > 0)
    }
}

impl Stream {
    async fn event(&mut self, has_request: bool) -> Event {
        tokio::select! {
            response = self.responses.message() => match response {
                Ok(Some(response)) => Event::Response(response),
                Ok(None) => self.lost("the control plane ended the stream".to_owned()),
                Err(status) => self.lost(status.to_string()),
            },
            // Its error is the stream's, which tells the reason.
            Ok(_) = self.requests.reserve(), if has_request => Event::Writable,
        }
    }

    fn lost(&self, reason: String) -> Event {
        Event::Lost {
            reason,
            lasted: self.since.elapsed(),
        }
    }
}

async fn open(control_plane: Uri, first: Option<DeltaDiscoveryRequest>) -> Result<Stream, String> {
    let endpoint = Endpoint::from(control_plane)
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect().await.map_err(|error| with_causes(&error))?;
    let (requests, outgoing) = mpsc::channel(REQUESTS_QUEUED);
    if let Some(first) = first {
        requests.try_send(first).map_err(|error| error.to_string())?;
    }
    let mut client =
        AggregatedDiscoveryServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_RESPONSE_BYTES);
    let responses = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await;
    let responses = responses.map_err(|status| status.to_string())?.into_inner();
    Ok(Stream {
        requests,
        responses,
        since: Instant::now(),
        channel,
    })
}

/// tonic's errors say "transport error" and keep the cause to themselves. A cause that repeats what is said is left out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let reason = inner.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn why_there_is_no_connection_is_said_once() {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let uri: Uri = format!("http://{address}").parse().unwrap();
        let Event::Lost { reason, .. } = Link::open(&uri, None).event(false).await else {
            unreachable!("nobody listens there")
        };
        assert_eq!(reason.matches("tcp connect error").count(), 1, "{reason}");
        assert!(reason.contains("refused"), "{reason}");
    }
}
