//! What a connection's first HTTP/1 request wants of the connection itself: some clients ask for a tunnel (RFC 9110,
//! 9.3.6), and everything behind such a request is no HTTP.
//!
//! Called by `listener` for redirected connections, before anybody serves them. Nothing is refused here: what is no
//! request is left to whoever serves requests.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::head::{MAX_HEAD_BYTES, ends_head, look_at_request};
use super::head_budget::{HeadBudget, HeadClaim};

/// For the head, from here.
const HEAD_TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An answer, as far as can be known.
    Answers,
    Tunnel,
}

/// Reads the head to its end behind what is in `read`. Dropping the future loses nothing.
pub async fn read_first_request(client: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Wanted {
    if let Some(wanted) = whole(read) {
        return wanted;
    }
    // Boxed: nearly every head is there at once.
    let rest = Box::pin(read_rest(client, read));
    timeout(HEAD_TIME, rest).await.unwrap_or(Wanted::Answers)
}

async fn read_rest(client: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Wanted {
    let mut claim = HeadClaim::of(HeadBudget::of_this_process());
    loop {
        let examined = read.len();
        if examined >= MAX_HEAD_BYTES || !claim.grow_to(examined, read.capacity()) {
            return Wanted::Answers;
        }
        match client.read_buf(read).await {
            Ok(1..) if !ends_head(read, examined) => {}
            Ok(1..) => {
                if let Some(wanted) = whole(read) {
                    return wanted;
                }
            }
            Ok(0) | Err(_) => return Wanted::Answers,
        }
    }
}

/// `None`: there is more to come.
fn whole(read: &[u8]) -> Option<Wanted> {
    look_at_request(read).unwrap_or(Some(Wanted::Answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wanted(sent: &str) -> Wanted {
        for split in [0, 1, sent.len() / 2, sent.len()] {
            let (first, mut rest) = sent.as_bytes().split_at(split);
            let mut read = BytesMut::from(first);
            let wanted = read_first_request(&mut rest, &mut read).await;
            assert_eq!(&*[&read[..], rest].concat(), sent.as_bytes(), "nothing is lost");
            if split == sent.len() {
                return wanted;
            }
            let mut all = sent.as_bytes();
            assert_eq!(read_first_request(&mut all, &mut BytesMut::new()).await, wanted);
        }
        unreachable!("the last split returns")
    }

    #[tokio::test]
    async fn a_tunnel_is_told_from_requests_and_nonsense_is_left_to_others() {
        assert_eq!(
            wanted("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x16\x03").await,
            Wanted::Tunnel
        );
        assert_eq!(wanted("CONNECT a:1 HTTP/1.1\r\nHost").await, Wanted::Answers);
        assert_eq!(wanted("\x16\x03\x01").await, Wanted::Answers);
        assert_eq!(wanted("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n").await, Wanted::Answers);
    }
}
