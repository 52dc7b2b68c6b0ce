//! To the first address of a name that answers ("happy eyeballs", RFC 8305 section 5): the next one is tried when one fails,
//! and beside it when it has not answered for a while. Envoy does so for its clusters of names. Called by `upstream`.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

/// Envoy's; RFC 8305 recommends 250 ms.
const HEAD_START: Duration = Duration::from_millis(300);
/// Of one name, for one connection.
const MOST_TRIED: usize = 16;

/// In this order. The last error, where all fail; `None`: there is no address. Dropping the future gives all attempts up.
pub async fn first_of<S, E, Connecting>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> Connecting,
) -> Option<Result<(SocketAddr, S), E>>
where
    Connecting: Future<Output = Result<S, E>>,
{
    let attempt = |address: SocketAddr| {
        let connecting = connect(address);
        async move { connecting.await.map(|stream| (address, stream)) }
    };
    let mut others = addresses.iter().copied().take(MOST_TRIED).peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failed = None;
    loop {
        attempts.extend(others.next().map(attempt));
        let ended = if others.peek().is_none() {
            attempts.next().await
        } else {
            match timeout(HEAD_START, attempts.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(found)) => return Some(Ok(found)),
            Some(Err(error)) => failed = Some(Err(error)),
            None => return failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Of these, by their last number: 1 answers at once, 2 after a second, 3 refuses, 4 never answers.
    async fn first(addresses: &[u8]) -> (Option<Result<u8, u8>>, Duration) {
        let started = Instant::now();
        let addresses: Vec<SocketAddr> = addresses
            .iter()
            .map(|number| ([10, 0, 0, *number], 80).into())
            .collect();
        let connect = |address: SocketAddr| async move {
            let SocketAddr::V4(address) = address else {
                unreachable!()
            };
            let number = address.ip().octets()[3];
            match number {
                1 => Ok(number),
                2 => {
                    sleep(SECOND).await;
                    Ok(number)
                }
                3 => Err(number),
                _ => std::future::pending().await,
            }
        };
        let found = first_of(&addresses, connect).await;
        let found = found.map(|found| {
            found.map(|(address, number)| {
                assert!(addresses.contains(&address));
                number
            })
        });
        (found, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_costs_nothing_and_one_that_is_silent_its_head_start() {
        assert_eq!(first(&[1, 2]).await, (Some(Ok(1)), Duration::ZERO));
        assert_eq!(first(&[3, 3, 1]).await, (Some(Ok(1)), Duration::ZERO));
        assert_eq!(first(&[4, 3, 1]).await, (Some(Ok(1)), HEAD_START));
        assert_eq!(first(&[4, 4, 1]).await, (Some(Ok(1)), 2 * HEAD_START));
        // Who is slow may still be the first.
        assert_eq!(first(&[2, 4, 3]).await, (Some(Ok(2)), SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_fail_the_last_error_is_told_and_not_all_of_many_are_tried() {
        assert_eq!(first(&[3, 3]).await, (Some(Err(3)), Duration::ZERO));
        assert_eq!(first(&[]).await, (None, Duration::ZERO));
        let mut many = [3; MOST_TRIED + 1];
        many[MOST_TRIED] = 1;
        assert_eq!(first(&many).await.0, Some(Err(3)));
        assert_eq!(first(&many[1..]).await.0, Some(Ok(1)));
    }
}
