//! What a sidecar says to the caller's sidecar of a request that its application did not answer, so that the two together
//! repeat no more and no less than the caller's alone would without the other in between. Called by `request_path`.
//!
//! `x-tsunagi-unprocessed: 1 ADDRESS`: the application cannot have had it, so it may go elsewhere, whatever its method. `0`:
//! the application broke off, as if its connection had been reset: only what may be repeated is. The address is the one that
//! the caller connected to, as the endpoint's sidecar knows it: whoever passes on the headers of an answer that he got
//! himself says nothing of the request that he was sent. Who calls through a sidecar never sees it.

use std::net::SocketAddr;

use http::{HeaderValue, StatusCode};

use super::forward::Failure;
use crate::codec::{Known, ResponseHead};

/// Why the application gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    Unprocessed,
    BrokenOff,
}

impl Unanswered {
    /// The last attempt failed with `failure`. `unprocessed`: of no attempt can the application have processed anything.
    pub fn of(failure: &Failure, unprocessed: bool) -> Option<Self> {
        match failure {
            Failure::Connect(_) | Failure::Stale | Failure::ResetBeforeRequest | Failure::Refused if unprocessed => {
                Some(Self::Unprocessed)
            }
            Failure::Connect(_)
            | Failure::Stale
            | Failure::ResetBeforeRequest
            | Failure::Refused
            | Failure::Reset { .. } => Some(Self::BrokenOff),
            Failure::NoEndpoint
            | Failure::Overflow(_)
            | Failure::Protocol
            | Failure::TryTimeout { .. }
            | Failure::Timeout
            | Failure::BrokenRequestBody
            | Failure::ClientGone => None,
        }
    }

    /// What the sidecar of the endpoint at this address says; an application's own answer says nothing.
    pub fn read(response: &ResponseHead, endpoint: SocketAddr) -> Option<Self> {
        let word = response.headers.known(Known::XTsunagiUnprocessed)?;
        let unavailable = response.status == StatusCode::SERVICE_UNAVAILABLE
            || response.headers.known(Known::GrpcStatus) == Some(b"14");
        let (word, address) = str::from_utf8(word).ok()?.split_once(' ')?;
        if !unavailable || address.parse() != Ok(endpoint) {
            return None;
        }
        match word {
            "1" => Some(Self::Unprocessed),
            "0" => Some(Self::BrokenOff),
            _ => None,
        }
    }

    /// `called_at`: where the caller connected to.
    pub fn write(self, response: &mut ResponseHead, called_at: SocketAddr) {
        let word = match self {
            Self::Unprocessed => '1',
            Self::BrokenOff => '0',
        };
        if let Ok(value) = HeaderValue::from_str(&format!("{word} {called_at}")) {
            response.headers.set(Known::XTsunagiUnprocessed.name(), &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_after_the_request_was_sent_is_never_called_unprocessed() {
        let reset = Failure::Reset { remote: true };
        assert_eq!(Unanswered::of(&reset, true), Some(Unanswered::BrokenOff));
        assert_eq!(Unanswered::of(&Failure::Refused, true), Some(Unanswered::Unprocessed));
        // An earlier attempt may have been processed.
        assert_eq!(Unanswered::of(&Failure::Refused, false), Some(Unanswered::BrokenOff));
        assert_eq!(Unanswered::of(&Failure::Timeout, true), None);
    }

    #[test]
    fn only_the_answer_that_nobody_was_there_carries_the_word_and_only_of_the_endpoint_itself() {
        let (endpoint, other) = (
            SocketAddr::from(([10, 0, 0, 7], 8080)),
            SocketAddr::from(([10, 0, 0, 8], 8080)),
        );
        let mut response = ResponseHead::default();
        Unanswered::BrokenOff.write(&mut response, endpoint);
        assert_eq!(Unanswered::read(&response, endpoint), None, "200");
        response.status = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(Unanswered::read(&response, endpoint), Some(Unanswered::BrokenOff));
        assert_eq!(Unanswered::read(&response, other), None, "passed on by another");
        Unanswered::Unprocessed.write(&mut response, endpoint);
        assert_eq!(Unanswered::read(&response, endpoint), Some(Unanswered::Unprocessed));
        for forged in ["1", "1 ", "1 10.0.0.7", "2 10.0.0.7:8080"] {
            response
                .headers
                .set(Known::XTsunagiUnprocessed.name(), &HeaderValue::from_static(forged));
            assert_eq!(Unanswered::read(&response, endpoint), None, "{forged}");
        }
    }
}
