//! The pool of HTTP/2 connections, against endpoints of the `h2` crate.

use std::future::poll_fn;

use h2::Reason;
use http::{Request, StatusCode};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tsunagi_proto::model::LoadBalancer;

use super::super::beginning::Origin;
use super::super::queue::ConnectionPermit;
use super::super::testing::{cluster, policy};
use super::super::{Members, UpstreamError};
use super::*;
use crate::codec::http2_testing::{DATA, GOAWAY, HEADERS, MAX_CONCURRENT_STREAMS, OK, RST_STREAM, Raw};
use crate::codec::{BodyError, BodyLength, RequestHead, Sink, Source, Step, Transfer, Whole};

const TIMEOUT: Duration = Duration::from_secs(5);

struct Setting {
    cluster: Arc<Cluster>,
    members: Arc<Members>,
    policy: Arc<model::Cluster>,
}

impl Setting {
    fn new() -> Self {
        let policy = policy(LoadBalancer::RoundRobin, None);
        let (cluster, members) = cluster(&policy, &[1]);
        Self {
            cluster,
            members,
            policy,
        }
    }

    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.members.list[0].endpoint
    }

    /// A connection to an endpoint that the test plays.
    async fn establish(&self, stream: DuplexStream) -> Result<Arc<Http2>, ConnectError> {
        let permit = ConnectionPermit::try_open(&self.cluster).expect("no limit");
        let open = OpenConnection::new(self.endpoint(), permit, None);
        let origin = Origin {
            generation: self.cluster.beginning.generation(),
            binding: Binding::default(),
        };
        let connection = Connection::new(&self.cluster, self.endpoint(), 0, origin);
        let http2 = establish(stream, connection, open, &self.policy.connection_pool).await?;
        self.endpoint().shard(0).multiplexed.ready.push(Arc::clone(&http2));
        Ok(http2)
    }

    async fn open(&self, settings: &[(u16, u32)]) -> Result<(Arc<Http2>, Raw), ConnectError> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let plays = async {
            let mut raw = Raw::server(theirs).await;
            raw.settings(settings).await;
            raw
        };
        let (http2, raw) = tokio::join!(self.establish(ours), plays);
        Ok((http2?, raw))
    }

    fn lease(&self) -> Option<Http2Lease> {
        match take_ready(self.endpoint(), &self.policy, 0, &Binding::default()) {
            Some(Lease::Http2(lease)) => Some(lease),
            _ => None,
        }
    }

    fn sent(&self, body: BodyLength) -> Http2Lease {
        let mut lease = self.lease().expect("room");
        lease.send_head(&head(), body).expect("it can be sent");
        lease
    }
}

fn head() -> RequestHead {
    let request = Request::post("http://user/path").header("x-a", "1").body(());
    RequestHead::from_http2(request.expect("a request").into_parts().0)
}

async fn answered(lease: &mut Http2Lease) -> Result<StatusCode, UpstreamError> {
    timeout(TIMEOUT, poll_fn(|cx| lease.poll_response_head(cx)))
        .await
        .expect("an answer")?;
    Ok(lease.response().status)
}

async fn body(lease: &mut Http2Lease) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while poll_fn(|cx| lease.poll_data(cx)).await? == Step::Data {
        body.extend_from_slice(&lease.take(usize::MAX));
    }
    Ok(body)
}

/// Lets the connection's task run until it has nothing more to do.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_and_its_body_leave_at_once_and_the_answer_comes_whole() {
    let setting = Setting::new();
    let (_http2, mut raw) = setting.open(&[]).await.expect("a connection");
    let mut lease = setting.sent(BodyLength::Exact(5));
    let (mut request, mut transfer) = (Whole(Bytes::from_static(b"hello")), Transfer::default());
    poll_fn(|cx| transfer.poll_flushed(&mut request, &mut lease, cx))
        .await
        .expect("it is sent");
    let (head, data) = (raw.next().await.expect("a head"), raw.next().await.expect("data"));
    assert_eq!((head.kind, head.ends_stream()), (HEADERS, false));
    assert_eq!(
        (data.kind, data.ends_stream(), &data.payload[..]),
        (DATA, true, &b"hello"[..])
    );
    raw.head(head.stream, OK, false).await;
    raw.data(head.stream, b"world", true).await;
    assert_eq!(answered(&mut lease).await, Ok(StatusCode::OK));
    assert_eq!(body(&mut lease).await.expect("it is whole"), b"world");
    assert!(lease.is_end());
}

#[tokio::test]
async fn a_request_without_a_body_is_one_frame() {
    let setting = Setting::new();
    let (_http2, mut raw) = setting.open(&[]).await.expect("a connection");
    for length in [BodyLength::None, BodyLength::Exact(0)] {
        let mut lease = setting.sent(length);
        lease.finish(None).expect("it has ended already");
        let frame = raw.next().await.expect("a head");
        assert!(frame.ends_stream(), "{length:?}");
        raw.head(frame.stream, OK, true).await;
        assert_eq!(answered(&mut lease).await, Ok(StatusCode::OK));
        assert!(lease.is_end());
    }
}

#[tokio::test]
async fn no_more_streams_are_leased_than_the_endpoint_allows_now() {
    let setting = Setting::new();
    let (_http2, mut raw) = setting
        .open(&[(MAX_CONCURRENT_STREAMS, 2)])
        .await
        .expect("a connection");
    let first = setting.sent(BodyLength::None);
    let second = setting.sent(BodyLength::None);
    assert!(setting.lease().is_none());
    raw.settings(&[(MAX_CONCURRENT_STREAMS, 3)]).await;
    settle().await;
    let third = setting.sent(BodyLength::None);
    assert!(setting.lease().is_none());
    raw.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await;
    settle().await;
    drop((first, second));
    assert!(setting.lease().is_none(), "one more than is allowed");
    drop(third);
    let last = setting.lease().expect("room again");
    // Settings that do not speak of it change nothing.
    raw.settings(&[]).await;
    settle().await;
    assert!(setting.lease().is_none());
    drop(last);
    assert!(setting.lease().is_some());
}

#[tokio::test]
async fn an_endpoint_that_names_no_limit_has_none() {
    let setting = Setting::new();
    let (http2, _raw) = setting.open(&[]).await.expect("a connection");
    assert_eq!(http2.maximum.load(Ordering::Acquire), u32::MAX);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_of_no_use_is_told_apart() {
    let setting = Setting::new();
    let refused = setting.open(&[(MAX_CONCURRENT_STREAMS, 0)]).await.map(drop);
    assert!(matches!(refused, Err(ConnectError::NoStreams)), "{refused:?}");

    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    theirs
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .expect("room");
    let refused = setting.establish(ours).await.map(drop);
    assert!(matches!(refused, Err(ConnectError::NotHttp2)), "{refused:?}");

    let (ours, _silent) = tokio::io::duplex(1 << 20);
    let refused = setting.establish(ours).await.map(drop);
    assert!(matches!(refused, Err(ConnectError::TimedOut(_))), "{refused:?}");
    settle().await;
    assert_eq!(setting.cluster.open_connections(), 0, "a permit is lost");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_answers_no_ping_before_its_first_word_is_silent_rather_than_strange() {
    let mut setting = Setting::new();
    let mut policy = model::Cluster::clone(&setting.policy);
    policy.connection_pool.http2_keepalive = Some(model::Http2Keepalive {
        interval: Duration::from_millis(500),
        timeout: Duration::from_millis(300),
    });
    setting.policy = Arc::new(policy);
    let (ours, _silent) = tokio::io::duplex(1 << 20);
    let error = setting.establish(ours).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("PING within 300ms"), "{error}");
}

#[tokio::test]
async fn the_end_of_a_stream_says_whether_it_was_processed() {
    let setting = Setting::new();
    let (_http2, mut raw) = setting.open(&[]).await.expect("a connection");
    for (reason, expected) in [
        (Reason::REFUSED_STREAM, UpstreamError::Refused),
        (Reason::CANCEL, UpstreamError::Reset { remote: true }),
        (Reason::PROTOCOL_ERROR, UpstreamError::Reset { remote: true }),
    ] {
        let mut lease = setting.sent(BodyLength::None);
        let stream = raw.next().await.expect("a head").stream;
        raw.reset(stream, reason).await;
        assert_eq!(answered(&mut lease).await, Err(expected), "{reason:?}");
    }
    // `content-length: 7` and nothing follows; what only HTTP/1 may say.
    for (malformed, end) in [(&b"\x88\x5c\x017"[..], true), (b"\x88\x00\x0aconnection\x01x", false)] {
        let mut lease = setting.sent(BodyLength::None);
        let stream = raw.next().await.expect("a head").stream;
        raw.head(stream, malformed, end).await;
        assert_eq!(
            answered(&mut lease).await,
            Err(UpstreamError::Protocol),
            "{malformed:?}"
        );
        if !end {
            assert_eq!(raw.next().await.map(|frame| frame.kind), Some(RST_STREAM));
        }
    }
    let mut read = setting.sent(BodyLength::None);
    assert_eq!(raw.next().await.map(|frame| frame.kind), Some(HEADERS));
    // The connection ends before the next one leaves.
    drop(raw);
    let mut unread = setting.sent(BodyLength::None);
    assert_eq!(answered(&mut read).await, Err(UpstreamError::Reset { remote: false }));
    assert_eq!(answered(&mut unread).await, Err(UpstreamError::Unsent));
}

#[tokio::test]
async fn a_goaway_refuses_what_came_too_late_and_lets_the_rest_finish() {
    let setting = Setting::new();
    let (http2, mut raw) = setting.open(&[]).await.expect("a connection");
    let mut early = setting.sent(BodyLength::None);
    let mut late = setting.sent(BodyLength::None);
    let (first, _second) = (raw.next().await.expect("a head"), raw.next().await.expect("a head"));
    let mut unsent = setting.lease().expect("room");
    raw.go_away(first.stream, Reason::NO_ERROR).await;
    // It crossed the end of a connection that others had used, and goes elsewhere at once.
    assert_eq!(answered(&mut late).await, Err(UpstreamError::Unsent));
    assert!(setting.lease().is_none() && http2.is_over());
    assert_eq!(unsent.send_head(&head(), BodyLength::None), Err(UpstreamError::Unsent));
    raw.head(first.stream, OK, true).await;
    assert_eq!(answered(&mut early).await, Ok(StatusCode::OK));
    drop((early, late, unsent, http2));
    while raw.any().await.is_some() {}
    settle().await;
    assert_eq!(setting.cluster.open_connections(), 0);
}

#[tokio::test]
async fn a_request_on_a_connection_that_has_ended_is_unsent() {
    let setting = Setting::new();
    let (http2, raw) = setting.open(&[]).await.expect("a connection");
    let mut lease = setting.lease().expect("room");
    drop(raw);
    settle().await;
    assert_eq!(lease.send_head(&head(), BodyLength::None), Err(UpstreamError::Unsent));
    assert!(http2.is_over() && setting.lease().is_none());
    assert!(setting.endpoint().shard(0).multiplexed.ready.is_empty());
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_says_nothing_about_the_connection() {
    let setting = Setting::new();
    let (_http2, _raw) = setting.open(&[]).await.expect("a connection");
    let mut bad = head();
    bad.headers
        .append(&http::header::UPGRADE, &http::HeaderValue::from_static("x"));
    let mut lease = setting.lease().expect("room");
    assert_ne!(lease.send_head(&bad, BodyLength::None), Err(UpstreamError::Unsent));
    drop(lease);
    assert!(setting.lease().is_some());
}

#[tokio::test]
async fn a_lease_that_is_dropped_cancels_its_stream_before_another_takes_its_place() {
    let setting = Setting::new();
    let (http2, mut raw) = setting
        .open(&[(MAX_CONCURRENT_STREAMS, 1)])
        .await
        .expect("a connection");
    let first = setting.sent(BodyLength::None);
    assert_eq!(raw.next().await.map(|frame| frame.kind), Some(HEADERS));
    drop(first);
    assert_eq!(http2.streams.load(Ordering::Acquire), 0);
    let _second = setting.sent(BodyLength::None);
    let cancelled = raw.next().await.expect("a reset");
    assert_eq!(
        (cancelled.kind, cancelled.number()),
        (RST_STREAM, u32::from(Reason::CANCEL))
    );
    let head = raw.next().await.expect("a head");
    assert_eq!((head.kind, head.stream), (HEADERS, cancelled.stream + 2));
}

#[tokio::test]
async fn a_request_that_was_answered_whole_cancels_nothing() {
    let setting = Setting::new();
    let (http2, mut raw) = setting.open(&[]).await.expect("a connection");
    let mut lease = setting.sent(BodyLength::None);
    let stream = raw.next().await.expect("a head").stream;
    raw.head(stream, OK, false).await;
    raw.data(stream, b"world", true).await;
    assert_eq!(answered(&mut lease).await, Ok(StatusCode::OK));
    assert_eq!(body(&mut lease).await.expect("it is whole"), b"world");
    lease.give_back();
    assert_eq!(http2.streams.load(Ordering::Acquire), 0);
    let _next = setting.sent(BodyLength::None);
    assert_eq!(raw.next().await.map(|frame| frame.kind), Some(HEADERS));
}

#[tokio::test]
async fn a_connection_closes_when_its_last_allowed_request_is_over_or_nobody_wants_it() {
    for retired in [false, true] {
        let mut setting = Setting::new();
        if !retired {
            Arc::make_mut(&mut setting.policy)
                .connection_pool
                .max_requests_per_connection = 1;
        }
        let (http2, mut raw) = setting.open(&[]).await.expect("a connection");
        drop(http2);
        let mut lease = setting.sent(BodyLength::None);
        let stream = raw.next().await.expect("a head").stream;
        if retired {
            setting.endpoint().retire();
        } else {
            assert!(setting.endpoint().shard(0).multiplexed.ready[0].is_over());
        }
        raw.head(stream, OK, true).await;
        assert_eq!(answered(&mut lease).await, Ok(StatusCode::OK));
        lease.give_back();
        let mut kinds = Vec::new();
        while let Some(frame) = raw.any().await {
            kinds.push(frame.kind);
        }
        assert_eq!(kinds.last(), Some(&GOAWAY), "{kinds:?}");
        drop(raw);
        settle().await;
        assert_eq!(setting.cluster.open_connections(), 0, "a permit is lost");
    }
}

#[tokio::test]
async fn the_response_to_a_body_that_the_endpoint_does_not_read_arrives() {
    let setting = Setting::new();
    let (_http2, mut raw) = setting.open(&[]).await.expect("a connection");
    let mut lease = setting.sent(BodyLength::Chunked);
    let stream = raw.next().await.expect("a head").stream;
    raw.head(stream, OK, false).await;
    raw.data(stream, b"enough", true).await;
    raw.reset(stream, Reason::NO_ERROR).await;
    settle().await;
    let (mut request, mut transfer) = (Whole(Bytes::from_static(b"more")), Transfer::default());
    let sent = poll_fn(|cx| transfer.poll_flushed(&mut request, &mut lease, cx)).await;
    assert!(sent.is_err());
    assert_eq!(answered(&mut lease).await, Ok(StatusCode::OK));
    assert_eq!(body(&mut lease).await.expect("it is whole"), b"enough");
}
