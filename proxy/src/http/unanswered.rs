//! What a sidecar says to the caller's sidecar of a request that its application did not answer, so that the two together
//! repeat no more and no less than the caller's alone would without the other in between. Called by `request_path`.
//!
//! `x-tsunagi-unprocessed: 1`: the application cannot have had it, so it may go elsewhere, whatever its method. `0`: the
//! application broke off, as if its connection had been reset: only what may be repeated is. Clients never see it.

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
            | Failure::TryTimeout
            | Failure::Timeout
            | Failure::BrokenRequestBody
            | Failure::ClientGone => None,
        }
    }

    /// What the endpoint's sidecar says; an application's own answer says nothing.
    pub fn read(response: &ResponseHead) -> Option<Self> {
        let word = response.headers.known(Known::XTsunagiUnprocessed)?;
        let unavailable = response.status == StatusCode::SERVICE_UNAVAILABLE
            || response.headers.known(Known::GrpcStatus) == Some(b"14");
        match word {
            b"1" if unavailable => Some(Self::Unprocessed),
            b"0" if unavailable => Some(Self::BrokenOff),
            _ => None,
        }
    }

    pub fn write(self, response: &mut ResponseHead) {
        let word = match self {
            Self::Unprocessed => HeaderValue::from_static("1"),
            Self::BrokenOff => HeaderValue::from_static("0"),
        };
        response.headers.set(Known::XTsunagiUnprocessed.name(), &word);
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
    fn only_the_answer_that_nobody_was_there_carries_the_word() {
        let mut response = ResponseHead::default();
        Unanswered::BrokenOff.write(&mut response);
        assert_eq!(Unanswered::read(&response), None, "200");
        response.status = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(Unanswered::read(&response), Some(Unanswered::BrokenOff));
        Unanswered::Unprocessed.write(&mut response);
        assert_eq!(Unanswered::read(&response), Some(Unanswered::Unprocessed));
    }
}
