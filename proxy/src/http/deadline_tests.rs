//! Tests of `deadline`: what is said is read strictly, the smaller limit holds, and time stands still while the client sends.

use std::task::Context;

use super::*;
use crate::codec::{BodyLength, Source, Step, Whole};
use crate::http::request_body::Attempted;

const SECOND: Duration = Duration::from_secs(1);

fn headers(grpc_timeout: Option<&'static str>) -> Headers {
    let mut headers = Headers::default();
    if let Some(value) = grpc_timeout {
        headers.append(Known::GrpcTimeout.name(), &HeaderValue::from_static(value));
    }
    headers
}

fn deadline(timeout: Option<Duration>, grpc_timeout: Option<&'static str>, grpc: bool) -> Deadline {
    Deadline::new(timeout, &headers(grpc_timeout), grpc, Instant::now().into_std())
}

fn left(deadline: &Deadline) -> Option<Duration> {
    deadline.at().map(|at| at - Instant::now())
}

#[test]
fn a_grpc_timeout_is_a_number_of_at_most_eight_digits_and_a_unit() {
    for (text, time) in [
        ("1n", Duration::from_nanos(1)),
        ("20u", Duration::from_micros(20)),
        ("300m", Duration::from_millis(300)),
        ("4S", 4 * SECOND),
        ("00000005S", 5 * SECOND),
        ("6M", 360 * SECOND),
        ("7H", 25_200 * SECOND),
        ("99999999H", 99_999_999 * (3600 * SECOND)),
    ] {
        assert_eq!(parse_grpc_timeout(text.as_bytes()), Some(time), "{text}");
    }
    for wrong in [
        "",
        "S",
        "1",
        "1s",
        "1h",
        "1ms",
        "-1S",
        "+1S",
        " 1S",
        "1S ",
        "1.5S",
        "0S",
        "00000000n",
        "123456789n",
        "1,1S",
        "é",
    ] {
        assert_eq!(parse_grpc_timeout(wrong.as_bytes()), None, "{wrong:?}");
    }
}

#[test]
fn what_is_written_is_read_as_no_more_than_it_was() {
    for time in [
        Duration::from_millis(1),
        Duration::from_millis(1500),
        99_999_999 * SECOND,
        99_999_999 * (3600 * SECOND),
    ] {
        let read = parse_grpc_timeout(grpc_timeout(time).as_bytes()).unwrap();
        assert!(read <= time && time - read < 3600 * SECOND, "{time:?} {read:?}");
    }
    // None would be for ever.
    assert_eq!(grpc_timeout(Duration::ZERO), "1m");
    assert_eq!(grpc_timeout(Duration::MAX), "99999999H");
}

#[tokio::test(start_paused = true)]
async fn the_smaller_of_the_rules_timeout_and_the_calls_own_holds() {
    let cases = [
        (None, None, None),
        (Some(2 * SECOND), None, Some(2 * SECOND)),
        (None, Some("1S"), Some(SECOND)),
        (Some(2 * SECOND), Some("1S"), Some(SECOND)),
        (Some(2 * SECOND), Some("3S"), Some(2 * SECOND)),
        (Some(2 * SECOND), Some("soon"), Some(2 * SECOND)),
    ];
    for (timeout, asked, expected) in cases {
        assert_eq!(left(&deadline(timeout, asked, true)), expected, "{timeout:?} {asked:?}");
        // What is no gRPC has no such header.
        let Some(others) = left(&deadline(timeout, asked, false)) else {
            assert_eq!(timeout, None);
            continue;
        };
        assert_eq!(Some(others), timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_is_told_what_is_left_where_the_client_has_not_said_it_so() {
    let said = |deadline: &Deadline, asked, per_try, first| {
        let mut headers = headers(asked);
        deadline.tell(&mut headers, per_try, first);
        headers
            .known(Known::GrpcTimeout)
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    let own = deadline(None, Some("1000000u"), true);
    assert_eq!(
        said(&own, Some("1000000u"), None, true).as_deref(),
        Some("1000000u"),
        "as sent"
    );
    let per_try = Some(SECOND / 4);
    assert_eq!(said(&own, Some("1000000u"), per_try, true).as_deref(), Some("250m"));
    let shorter = deadline(Some(SECOND / 2), Some("1S"), true);
    assert_eq!(said(&shorter, Some("1S"), None, true).as_deref(), Some("500m"));
    let ruled = deadline(Some(SECOND), None, true);
    assert_eq!(said(&ruled, None, None, true).as_deref(), Some("1000m"));
    assert_eq!(said(&deadline(None, None, true), None, None, true), None);
    tokio::time::advance(SECOND * 9 / 10).await;
    assert_eq!(
        said(&own, Some("1000000u"), None, false).as_deref(),
        Some("100m"),
        "a retry"
    );
    assert_eq!(said(&own, Some("1000000u"), per_try, false).as_deref(), Some("100m"));
    tokio::time::advance(SECOND).await;
    assert_eq!(said(&own, Some("1000000u"), None, false).as_deref(), Some("1m"));
}

#[tokio::test(start_paused = true)]
async fn a_try_is_limited_by_what_comes_first() {
    let mut none = deadline(None, None, false);
    assert_eq!(Limits::new(&mut none, None).next(), None);
    let mut some = deadline(Some(2 * SECOND), None, false);
    let at = |seconds: u32| Instant::now() + seconds * SECOND;
    assert_eq!(Limits::new(&mut some, None).next(), Some((at(2), Late::Request)));
    assert_eq!(Limits::new(&mut some, Some(SECOND)).next(), Some((at(1), Late::Try)));
    let longer = Some(3 * SECOND);
    assert_eq!(Limits::new(&mut some, longer).next(), Some((at(2), Late::Request)));
    assert_eq!(Limits::new(&mut none, longer).next(), Some((at(3), Late::Try)));
    // A second try counts from its own beginning, and the request from its own.
    tokio::time::advance(3 * SECOND / 2).await;
    assert_eq!(Limits::new(&mut none, longer).next(), Some((at(3), Late::Try)));
    assert_eq!(
        Limits::new(&mut some, Some(SECOND)).next(),
        Some((Instant::now() + SECOND / 2, Late::Request))
    );
}

/// Something arrives only when a test says so.
struct Client(Whole, bool);

impl Source for Client {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, crate::codec::BodyError>> {
        match self.0.poll_data(cx) {
            Poll::Ready(Ok(Step::End)) if !self.1 => Poll::Pending,
            polled => polled,
        }
    }
    fn data(&self) -> &[u8] {
        self.0.data()
    }
    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
    fn is_end(&self) -> bool {
        self.1 && self.0.is_end()
    }
}

/// Reads what there is.
fn read(body: &mut RequestBody, client: &mut Client) {
    let mut attempted = Attempted { body, client };
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while let Poll::Ready(Ok(Step::Data)) = attempted.poll_data(&mut cx) {
        attempted.take(100);
    }
}

#[tokio::test(start_paused = true)]
async fn time_counts_from_the_clients_last_byte_and_stands_still_while_it_is_waited_for() {
    let mut deadline = deadline(Some(SECOND), None, false);
    let mut client = Client(Whole("ab".into()), false);
    let mut body = RequestBody::new(BodyLength::Chunked, false);
    assert_eq!(left(&deadline), Some(SECOND), "while it waits for a connection");
    read(&mut body, &mut client);
    deadline.follow(&body, false);
    tokio::time::advance(5 * SECOND).await;
    assert_eq!(left(&deadline), None, "a slow client");
    assert_eq!(Limits::new(&mut deadline, Some(SECOND)).next(), None);
    client = Client(Whole("cd".into()), true);
    read(&mut body, &mut client);
    deadline.follow(&body, false);
    assert_eq!(left(&deadline), Some(SECOND));
    tokio::time::advance(SECOND / 2).await;
    deadline.follow(&body, false);
    assert_eq!(left(&deadline), Some(SECOND / 2), "it is the endpoint that is slow now");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_take_what_the_client_has_sent_is_late() {
    let mut deadline = deadline(Some(SECOND), None, false);
    let mut client = Client(Whole("ab".into()), false);
    let mut body = RequestBody::new(BodyLength::Chunked, false);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut attempted = Attempted {
        body: &mut body,
        client: &mut client,
    };
    assert!(attempted.poll_data(&mut cx).is_ready());
    deadline.follow(&body, false);
    tokio::time::advance(SECOND / 2).await;
    assert_eq!(left(&deadline), Some(SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_reads_no_more_has_no_longer_for_its_answer() {
    let mut deadline = deadline(Some(SECOND), None, false);
    let mut body = RequestBody::new(BodyLength::Chunked, false);
    read(&mut body, &mut Client(Whole("ab".into()), false));
    deadline.follow(&body, false);
    assert_eq!(left(&deadline), None);
    deadline.follow(&body, true);
    assert_eq!(left(&deadline), Some(SECOND));
    tokio::time::advance(SECOND / 2).await;
    deadline.follow(&body, true);
    assert_eq!(left(&deadline), Some(SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_came_at_once_counts_from_its_arrival_whatever_it_waited_for() {
    let mut deadline = deadline(Some(SECOND), None, false);
    let mut body = RequestBody::new(BodyLength::Exact(2), false);
    tokio::time::advance(SECOND / 2).await;
    read(&mut body, &mut Client(Whole("ab".into()), true));
    deadline.follow(&body, false);
    assert_eq!(left(&deadline), Some(SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_has_the_same_deadline_while_its_client_streams() {
    let mut deadline = deadline(None, Some("1S"), true);
    let mut body = RequestBody::new(BodyLength::Chunked, false);
    read(&mut body, &mut Client(Whole("ab".into()), false));
    deadline.follow(&body, false);
    tokio::time::advance(SECOND / 4).await;
    deadline.follow(&body, false);
    assert_eq!(left(&deadline), Some(3 * SECOND / 4));
}
