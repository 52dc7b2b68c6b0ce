//! Folding of what others choose (method, status code, gRPC status) into a small fixed set of label values.
//!
//! Whatever clients and upstreams send, there are at most 10 methods and 71 status codes: the 64 that IANA has
//! registered, `0` (no response was sent), one per class for unregistered codes (`1xx` … `5xx`, which the usual
//! `status_code=~"5.."` still matches) and `other`.

use std::borrow::Cow;

use http::Method;

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER",
];

/// A method as a label: known, or `OTHER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodCode(pub(crate) u8);

impl MethodCode {
    pub(crate) const OTHER: MethodCode = MethodCode(METHODS.len() as u8 - 1);

    pub(crate) fn of(method: &Method) -> MethodCode {
        match *method {
            Method::GET => MethodCode(0),
            Method::HEAD => MethodCode(1),
            Method::POST => MethodCode(2),
            Method::PUT => MethodCode(3),
            Method::PATCH => MethodCode(4),
            Method::DELETE => MethodCode(5),
            Method::OPTIONS => MethodCode(6),
            Method::TRACE => MethodCode(7),
            Method::CONNECT => MethodCode(8),
            _ => MethodCode::OTHER,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        METHODS[usize::from(self.0)]
    }
}

/// <https://www.iana.org/assignments/http-status-codes>, and 0.
const REGISTERED: [u16; 65] = [
    0, 100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306,
    307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422,
    423, 424, 425, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// Status code -> index, made by the compiler: one load on the request path.
const TABLE: [u8; 600] = {
    let mut table = [0u8; 600];
    let mut code = 0;
    while code < 600 {
        let class = if code < 100 { CLASSES.len() - 1 } else { code / 100 - 1 };
        table[code] = (REGISTERED.len() + class) as u8;
        code += 1;
    }
    let mut index = 0;
    while index < REGISTERED.len() {
        table[REGISTERED[index] as usize] = index as u8;
        index += 1;
    }
    table
};

/// How many labels there are.
pub(crate) const STATUS_CODES: usize = REGISTERED.len() + CLASSES.len();

/// A status code as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatusCode(pub(crate) u8);

impl StatusCode {
    pub(crate) const OTHER: StatusCode = StatusCode((REGISTERED.len() + CLASSES.len() - 1) as u8);

    pub(crate) fn of(status: u16) -> StatusCode {
        TABLE
            .get(usize::from(status))
            .map_or(StatusCode::OTHER, |index| StatusCode(*index))
    }

    pub(crate) fn label(self) -> Cow<'static, str> {
        let index = usize::from(self.0);
        match REGISTERED.get(index) {
            Some(code) => Cow::Owned(code.to_string()),
            None => Cow::Borrowed(CLASSES[index - REGISTERED.len()]),
        }
    }
}

const GRPC: [&str; 19] = [
    "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "other",
];

/// A gRPC status as a label: empty where none was said, else its number (0 to 16), or `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// No gRPC, or a call that ended without a status.
    pub const NONE: GrpcCode = GrpcCode(0);
    pub const DEADLINE_EXCEEDED: GrpcCode = GrpcCode(5);
    const OTHER: GrpcCode = GrpcCode(GRPC.len() as u8 - 1);

    /// Of what `grpc-status` says.
    pub fn of(value: &[u8]) -> GrpcCode {
        match *value {
            [one @ b'0'..=b'9'] => GrpcCode(one - b'0' + 1),
            [b'1', one @ b'0'..=b'6'] => GrpcCode(one - b'0' + 11),
            _ => GrpcCode::OTHER,
        }
    }

    /// The HTTP status that it stands for, as Envoy's `grpcToHttpStatus` has it. `None`: a call without a status.
    pub fn as_http(self) -> Option<u16> {
        const HTTP: [u16; 17] = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        let code = usize::from(self.0).checked_sub(1)?;
        Some(HTTP.get(code).copied().unwrap_or(500))
    }

    pub fn label(self) -> &'static str {
        GRPC[usize::from(self.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_status_keeps_its_number() {
        for code in REGISTERED {
            assert_eq!(StatusCode::of(code).label(), code.to_string());
        }
    }

    #[test]
    fn an_unregistered_status_is_folded_into_its_class() {
        for (code, label) in [
            (199, "1xx"),
            (299, "2xx"),
            (399, "3xx"),
            (499, "4xx"),
            (599, "5xx"),
            (7, "other"),
        ] {
            assert_eq!(StatusCode::of(code).label(), label);
        }
        assert_eq!(StatusCode::of(600).label(), "other");
        assert_eq!(StatusCode::of(u16::MAX).label(), "other");
    }

    #[test]
    fn there_are_no_more_status_labels_than_promised() {
        let labels: std::collections::BTreeSet<_> = (0..=u16::MAX).map(|code| StatusCode::of(code).label()).collect();
        assert_eq!(labels.len(), 71);
    }

    #[test]
    fn a_grpc_status_keeps_its_number_and_whatever_else_is_said_is_other() {
        for status in 0..=16 {
            let text = status.to_string();
            assert_eq!(GrpcCode::of(text.as_bytes()).label(), text);
        }
        for wrong in ["", "17", "99", "00", "-1", "0 ", "OK", "100"] {
            assert_eq!(GrpcCode::of(wrong.as_bytes()).label(), "other", "{wrong:?}");
        }
        assert_eq!(GrpcCode::NONE.label(), "");
        assert_eq!(GrpcCode::DEADLINE_EXCEEDED, GrpcCode::of(b"4"));
    }

    #[test]
    fn a_made_up_method_is_other() {
        let method = Method::from_bytes(b"BREW").expect("a token");
        assert_eq!(MethodCode::of(&method).label(), "OTHER");
        for known in &METHODS[..METHODS.len() - 1] {
            let method = Method::from_bytes(known.as_bytes()).expect("a token");
            assert_eq!(MethodCode::of(&method).label(), *known);
        }
    }
}
