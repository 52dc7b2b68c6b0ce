//! How gRPC's statuses and HTTP's stand for one another in answers that a proxy gives by itself. Called by proxies and by
//! what explains their answers.

use http::StatusCode;

/// The status for a client that does not speak gRPC, as Envoy maps it (`Utility::grpcToHttpStatus`).
pub fn http_status(grpc: u8) -> StatusCode {
    let status = match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// gRPC's mapping of HTTP statuses (`doc/http-grpc-status-mapping.md`).
pub fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Of an answer that a rule asks for, where 200 is no failure.
pub fn grpc_status_of_rule(status: StatusCode) -> u16 {
    if status == StatusCode::OK {
        0
    } else {
        grpc_status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grpc_status_has_an_http_status() {
        let statuses: Vec<_> = (0..=16).map(|code| http_status(code).as_u16()).collect();
        let wanted = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        assert_eq!(statuses, wanted);
    }
}
