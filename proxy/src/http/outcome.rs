//! What outlier detection is told of a response: when its head has come, and once more when it has ended.
//!
//! A gRPC status counts as the HTTP status that it stands for, as in Envoy's router; ours on purpose, in trailers too, where
//! a server says it that had already begun to answer. Called by `attempts`, `mirror` and `request_path`.

use super::response::{End, Response};
use crate::codec::{Known, ResponseHead};
use crate::snapshot::Cluster;
use crate::telemetry::GrpcCode;
use crate::upstream::{LateOutcome, Outcome};

/// `grpc`: the request is a gRPC call.
pub fn of_head(response: &ResponseHead, grpc: bool) -> Outcome {
    let said = match grpc {
        true => response.headers.known(Known::GrpcStatus),
        false => None,
    };
    let status = said.and_then(|status| GrpcCode::of(status).as_http());
    Outcome::Status(status.unwrap_or_else(|| response.status.as_u16()))
}

/// `None`: whether it was good is not known, because the client left or the time was up.
fn of_end(end: End, trailers: Option<GrpcCode>) -> Option<LateOutcome> {
    match (end, trailers.and_then(GrpcCode::as_http)) {
        (End::Whole, Some(status)) if status != 200 => Some(LateOutcome::Status(status)),
        (End::Whole, _) => Some(LateOutcome::Whole),
        (End::UpstreamBroke, _) => Some(LateOutcome::BrokenOff),
        (End::RequestBroke | End::ClientGone | End::Late, _) => None,
    }
}

/// To be called before what the response holds is released.
pub fn observe_end(response: &Response, cluster: &Cluster, end: End) {
    if let Some(detection) = &cluster.told.outlier_detection
        && let Some(outcome) = of_end(end, response.grpc_status)
    {
        let active = &response.active;
        active.observe_late(&cluster.learned, detection, response.began, outcome);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, StatusCode};

    use super::*;

    fn head(status: StatusCode, grpc_status: Option<&'static str>) -> ResponseHead {
        let mut head = ResponseHead {
            status,
            ..ResponseHead::default()
        };
        if let Some(grpc_status) = grpc_status {
            let name = HeaderName::from_static("grpc-status");
            head.headers.set(&name, &HeaderValue::from_static(grpc_status));
        }
        head
    }

    #[test]
    fn a_grpc_status_in_the_head_counts_as_the_status_that_it_stands_for() {
        let cases = [
            ("0", 200),
            ("1", 499),
            ("2", 500),
            ("4", 504),
            ("7", 403),
            ("8", 429),
            ("12", 501),
            ("14", 503),
            ("15", 500),
            ("16", 401),
            ("17", 500),
            ("soon", 500),
        ];
        for (said, status) in cases {
            let head = head(StatusCode::OK, Some(said));
            assert_eq!(of_head(&head, true), Outcome::Status(status), "{said}");
            assert_eq!(
                of_head(&head, false),
                Outcome::Status(200),
                "{said}, not called with gRPC"
            );
        }
        let plain = head(StatusCode::BAD_GATEWAY, None);
        assert_eq!(of_head(&plain, true), Outcome::Status(502));
    }

    #[test]
    fn how_a_response_ended_is_told_unless_the_client_ended_it() {
        let unavailable = Some(GrpcCode::of(b"14"));
        assert_eq!(of_end(End::Whole, None), Some(LateOutcome::Whole));
        assert_eq!(of_end(End::Whole, Some(GrpcCode::of(b"0"))), Some(LateOutcome::Whole));
        assert_eq!(of_end(End::Whole, unavailable), Some(LateOutcome::Status(503)));
        assert_eq!(of_end(End::UpstreamBroke, None), Some(LateOutcome::BrokenOff));
        for end in [End::ClientGone, End::RequestBroke, End::Late] {
            assert_eq!(of_end(end, unavailable), None, "{end:?}");
        }
    }
}
