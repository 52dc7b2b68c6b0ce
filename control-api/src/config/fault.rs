//! `fault` of a rule: delays and aborts. Checked as Istio does (validation.go: validateHTTPFaultInjection), which
//! accepts neither exponential delays nor HTTP/2 errors; they are taken here.

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{Abort, Delay, Fault, http_action, names, share};

pub(super) const FAULT: Fields = Fields {
    supported: &["delay", "abort"],
    later: &[],
};
const DELAY: Fields = Fields {
    supported: &["percent", "percentage", "fixedDelay", "exponentialDelay"],
    later: &[],
};
const ABORT: Fields = Fields {
    supported: &["percentage", "httpStatus", "grpcStatus", "http2Error"],
    later: &[],
};

/// gRPC's names of statuses, by number.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// RFC 9113, section 7, by number.
const HTTP2_ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

pub(super) fn read(field: &Field<'_>) -> Option<Fault> {
    if !field.is_message_around(&FAULT, &[("delay", &DELAY), ("abort", &ABORT)]) {
        return None;
    }
    let (delay, abort) = (field.get("delay"), field.get("abort"));
    if delay.is_none() && abort.is_none() {
        field.refuse("needs `delay` or `abort`");
    }
    Some(Fault {
        delay: delay.and_then(|field| read_delay(&field)),
        abort: abort.and_then(|field| read_abort(&field)),
    })
}

/// Where no percentage is given, Istio injects nothing.
fn read_delay(field: &Field<'_>) -> Option<(u32, Delay)> {
    if !field.is_message(&DELAY) {
        return None;
    }
    let old = field.get("percent").and_then(|field| share::whole(&field));
    let share = field.get("percentage").map(|field| share::exact(&field));
    let share = share.unwrap_or(old).unwrap_or_default();
    let delay = match (field.get("fixedDelay"), field.get("exponentialDelay")) {
        (Some(fixed), None) => Delay::Fixed(fixed.positive_duration()?),
        (None, Some(mean)) => Delay::Exponential(mean.positive_duration()?),
        (None, None) => {
            field.refuse("needs `fixedDelay` or `exponentialDelay`");
            return None;
        }
        (Some(_), Some(_)) => {
            field.refuse("only one of `fixedDelay` and `exponentialDelay` may be set");
            return None;
        }
    };
    Some((share, delay))
}

fn read_abort(field: &Field<'_>) -> Option<(u32, Abort)> {
    if !field.is_message(&ABORT) {
        return None;
    }
    let share = field.get("percentage").and_then(|field| share::exact(&field));
    let kinds = (
        field.get("httpStatus"),
        field.get("grpcStatus"),
        field.get("http2Error"),
    );
    let abort = match kinds {
        (Some(status), None, None) => Abort::HttpStatus(http_action::status(&status)?),
        (None, Some(status), None) => Abort::GrpcStatus(numbered(&status, &GRPC_STATUSES, "gRPC status")?),
        (None, None, Some(error)) => {
            Abort::Http2Error(u32::from(numbered(&error, &HTTP2_ERRORS, "error code of HTTP/2")?))
        }
        (None, None, None) => {
            field.refuse("needs one of `httpStatus`, `grpcStatus` and `http2Error`");
            return None;
        }
        _ => {
            field.refuse("only one of `httpStatus`, `grpcStatus` and `http2Error` may be set");
            return None;
        }
    };
    Some((share.unwrap_or_default(), abort))
}

/// One of these names, or its number as text.
fn numbered(field: &Field<'_>, known: &'static [&'static str], what: &str) -> Option<u8> {
    let text = field.text()?;
    let by_number = || text.parse::<usize>().ok().filter(|number| *number < known.len());
    let found = known.iter().position(|name| *name == text).or_else(by_number);
    if found.is_none() {
        let hint = names::did_you_mean(text, known.iter().copied());
        field.refuse(format!("{} is not a {what}{hint}", shown(text)));
    }
    found.and_then(|number| u8::try_from(number).ok())
}
