//! Faults that a rule injects, to see how callers bear them.

use std::time::Duration;

use http::StatusCode;

use super::action::per_million;
use super::{Invalid, duration};
use crate::wire::mesh;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Of a million requests.
    pub per_million: u32,
    pub kind: DelayKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelayKind {
    Fixed(Duration),
    /// The mean of an exponential distribution.
    Exponential(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Of a million requests.
    pub per_million: u32,
    pub kind: AbortKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortKind {
    HttpStatus(StatusCode),
    GrpcStatus(u8),
    /// Error code of RFC 9113, section 7. An HTTP/1 connection is reset.
    Http2Error(u32),
}

impl TryFrom<mesh::Delay> for Delay {
    type Error = Invalid;

    fn try_from(wire: mesh::Delay) -> Result<Self, Invalid> {
        use mesh::delay::Kind;
        let positive = |field: &str, value| {
            duration(field, Some(value))?.ok_or_else(|| Invalid::new(field, "must be longer than zero"))
        };
        Ok(Self {
            per_million: per_million("per_million", wire.per_million)?,
            kind: match wire.kind {
                Some(Kind::Fixed(value)) => DelayKind::Fixed(positive("fixed", value)?),
                Some(Kind::Exponential(value)) => DelayKind::Exponential(positive("exponential", value)?),
                None => return Err(Invalid::new("kind", "one of fixed and exponential must be set")),
            },
        })
    }
}

impl TryFrom<mesh::Abort> for Abort {
    type Error = Invalid;

    fn try_from(wire: mesh::Abort) -> Result<Self, Invalid> {
        use mesh::abort::Kind;
        Ok(Self {
            per_million: per_million("per_million", wire.per_million)?,
            kind: match wire.kind {
                Some(Kind::HttpStatus(code)) => AbortKind::HttpStatus(super::action::status("http_status", code)?),
                Some(Kind::GrpcStatus(code @ 0..=16)) => AbortKind::GrpcStatus(code as u8),
                Some(Kind::GrpcStatus(code)) => {
                    return Err(Invalid::new(
                        "grpc_status",
                        format!("{code} is not a gRPC status (0 to 16)"),
                    ));
                }
                Some(Kind::Http2Error(code @ 0..=13)) => AbortKind::Http2Error(code),
                Some(Kind::Http2Error(code)) => {
                    return Err(Invalid::new(
                        "http2_error",
                        format!("{code} is not an error code (0 to 13)"),
                    ));
                }
                None => {
                    let reason = "one of http_status, grpc_status and http2_error must be set";
                    return Err(Invalid::new("kind", reason));
                }
            },
        })
    }
}

impl TryFrom<mesh::Fault> for Fault {
    type Error = Invalid;

    fn try_from(wire: mesh::Fault) -> Result<Self, Invalid> {
        let delay = wire.delay.map(Delay::try_from).transpose();
        let abort = wire.abort.map(Abort::try_from).transpose();
        Ok(Self {
            delay: delay.map_err(|error| error.within("delay"))?,
            abort: abort.map_err(|error| error.within("abort"))?,
        })
    }
}
