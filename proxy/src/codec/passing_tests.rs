//! Tests of passing bytes: order, ends, aborts, idleness.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::telemetry::{Direction, Telemetry};

const LONG: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(10);

fn series() -> Arc<TcpSeries> {
    Telemetry::new("test").tcp_series(Direction::Outbound, "s", "")
}

fn quiet_for(idle: Duration) -> Box<Lifetime> {
    Box::new(Lifetime { idle, ends_at: None })
}

/// Client and server, with a task that passes between them.
fn passing(read: &'static [u8]) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<(Passed, Ending)>) {
    let (client, mut downstream) = duplex(1024);
    let (mut upstream, server) = duplex(64);
    let task = tokio::spawn(async move {
        pass(
            &mut downstream,
            &mut upstream,
            Bytes::from_static(read),
            quiet_for(LONG),
            &series(),
        )
        .await
    });
    (client, server, task)
}

#[tokio::test]
async fn bytes_arrive_in_order_behind_those_read_before_and_are_counted() {
    let (mut client, mut server, task) = passing(b"early ");
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let expected = [b"early ", &sent[..]].concat();
    let writer = tokio::spawn(async move {
        client.write_all(&sent).await.expect("passed on");
        client.shutdown().await.expect("open");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("an end");
        answer
    });
    let mut arrived = Vec::new();
    server.read_to_end(&mut arrived).await.expect("an end");
    assert!(arrived == expected);
    // The other direction outlives this one's end.
    server.write_all(b"answer").await.expect("half open");
    drop(server);
    assert_eq!(writer.await.expect("no panic"), b"answer");
    let (passed, ending) = task.await.expect("no panic");
    assert_eq!(ending, Ending::Closed);
    assert_eq!((passed.received, passed.sent), (expected.len() as u64, 6));
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_only_when_nothing_has_passed_for_the_whole_idle_time() {
    let (mut client, mut downstream) = duplex(64);
    let (mut upstream, mut server) = duplex(64);
    let idle = Duration::from_secs(60);
    let started = Instant::now();
    let task =
        tokio::spawn(
            async move { pass(&mut downstream, &mut upstream, Bytes::new(), quiet_for(idle), &series()).await },
        );
    sleep(Duration::from_secs(50)).await;
    client.write_all(b"x").await.expect("open");
    server.read_exact(&mut [0]).await.expect("passed on");
    let (_, ending) = task.await.expect("no panic");
    assert_eq!(ending, Ending::Idle);
    assert_eq!(started.elapsed(), Duration::from_secs(110));
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), accepted.expect("accepted").0)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let read = timeout(LIMIT, stream.read(&mut [0; 16])).await.expect("an ending");
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn an_abort_of_either_side_aborts_the_other_also_behind_a_half_close() {
    for (client_aborts, half_closed) in [(true, false), (false, false), (true, true), (false, true)] {
        let (mut client, mut downstream) = pair().await;
        let (mut upstream, mut server) = pair().await;
        let task = tokio::spawn(async move {
            let (_, ending) = pass(&mut downstream, &mut upstream, Bytes::new(), quiet_for(LONG), &series()).await;
            // Both are dropped here.
            ending
        });
        let (aborting, other) = if client_aborts {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        if half_closed {
            aborting.shutdown().await.expect("open");
            assert_eq!(other.read(&mut [0; 16]).await.expect("an end"), 0);
        }
        aborting.set_zero_linger().expect("a socket");
        let expected = if client_aborts {
            drop(client);
            Ending::DownstreamReset
        } else {
            drop(server);
            Ending::UpstreamReset
        };
        let ending = timeout(LIMIT, task).await.expect("noticed").expect("no panic");
        assert_eq!(ending, expected, "half closed: {half_closed}");
    }
}

#[tokio::test]
async fn the_other_side_of_an_abort_sees_an_abort_and_no_end() {
    let (client, mut downstream) = pair().await;
    let (mut upstream, mut server) = pair().await;
    let task =
        tokio::spawn(
            async move { pass(&mut downstream, &mut upstream, Bytes::new(), quiet_for(LONG), &series()).await },
        );
    client.set_zero_linger().expect("a socket");
    drop(client);
    assert!(is_reset(&mut server).await);
    assert_eq!(task.await.expect("no panic").1, Ending::DownstreamReset);
}

#[tokio::test]
async fn an_abort_behind_a_full_buffer_is_noticed() {
    let (mut client, mut downstream) = pair().await;
    let (mut upstream, server) = pair().await;
    let task =
        tokio::spawn(
            async move { pass(&mut downstream, &mut upstream, Bytes::new(), quiet_for(LONG), &series()).await },
        );
    // The server reads nothing: in time nobody does.
    let piece = vec![7; 1 << 20];
    while timeout(Duration::from_millis(200), client.write_all(&piece))
        .await
        .is_ok()
    {}
    client.set_zero_linger().expect("a socket");
    drop(client);
    let (_, ending) = timeout(LIMIT, task).await.expect("noticed").expect("no panic");
    assert_eq!(ending, Ending::DownstreamReset);
    drop(server);
}

#[test]
fn an_idle_direction_holds_no_buffer() {
    let counter = Counter::noop();
    let mut flow = Flow::new(&[], &counter);
    let (mut from, mut to) = (duplex(16).0, duplex(16).0);
    let (_peer, mut open) = duplex(16);
    std::mem::swap(&mut from, &mut open);
    let polled = flow.poll(&mut from, &mut to, &mut Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_pending() && flow.input.is_empty() && flow.input.bytes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_lasted_for_as_long_as_it_may_ends_whatever_passes_and_says_so() {
    for idle in [LONG, Duration::MAX] {
        let (mut client, mut downstream) = duplex(64);
        let (mut upstream, mut server) = duplex(64);
        let started = Instant::now();
        let lifetime = Box::new(Lifetime {
            idle,
            ends_at: Some(started + Duration::from_secs(60)),
        });
        let task = tokio::spawn(async move {
            let series = series();
            pass(&mut downstream, &mut upstream, Bytes::new(), lifetime, &series).await
        });
        let mut read = [0; 1];
        while client.write_all(b"x").await.is_ok() && server.read_exact(&mut read).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
        let (passed, ending) = task.await.expect("it ends");
        assert_eq!((ending, ending.flags()), (Ending::TooLong, Flags::DT));
        assert!((8..=9).contains(&passed.received), "{passed:?}");
        // The last write found it closed.
        let expected = Duration::from_secs(60)..Duration::from_secs(70);
        assert!(expected.contains(&started.elapsed()), "{:?}", started.elapsed());
    }
}
