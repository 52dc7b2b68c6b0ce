//! What every request carries through the mesh: an id to find it by, and the scheme that its first hop was called with.
//!
//! As Envoy's connection manager in a sidecar of Istio, which is not told to use the remote address: whoever calls is
//! trusted, so `x-request-id` is kept, and made (UUID version 4) where there is none; `x-forwarded-proto` is set where there
//! is none; `x-forwarded-for` is neither read nor extended, and trace headers pass as they are. Unlike there, the
//! id has no trace decision hidden in it.

use crate::codec::{Headers, Known};

const HEX: &[u8; 16] = b"0123456789abcdef";
const UUID_LENGTH: usize = 36;

/// Before anything reads the request: rules match on what is forwarded, and every attempt has the same id.
pub fn identify(headers: &mut Headers) {
    if !headers.has(Known::XRequestId) {
        headers.append_bytes(Known::XRequestId, &uuid(rand::random()));
    }
    if !headers.has(Known::XForwardedProto) {
        headers.append_static(Known::XForwardedProto, "http");
    }
    // It is for sidecars to say, in answers.
    headers.remove_known(Known::XTsunagiUnprocessed);
}

/// Version 4, variant 1 (RFC 9562, 5.4), on the stack.
fn uuid(random: u128) -> [u8; UUID_LENGTH] {
    let mut bytes = random.to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; UUID_LENGTH];
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0x0f)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{RequestHead, parse_request};

    fn headers(lines: &str) -> [Headers; 2] {
        let mut head = RequestHead::default();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(parse_request(text.as_bytes(), &mut head), Ok(Some(text.len())));
        let map = head.headers.to_map();
        [head.headers, Headers::Map(map)]
    }

    fn written(headers: &Headers) -> String {
        let mut out = Vec::new();
        headers.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_uuid_says_its_version_and_variant_whatever_is_drawn() {
        let shown = |random| String::from_utf8(uuid(random).to_vec()).unwrap();
        assert_eq!(shown(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(shown(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(
            shown(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            "01234567-89ab-4def-8123-456789abcdef"
        );
    }

    #[test]
    fn a_request_without_an_id_gets_one_behind_what_it_had() {
        for mut headers in headers("X-Forwarded-For: 1.2.3.4\r\nb3: 0\r\n") {
            identify(&mut headers);
            let id = headers.known(Known::XRequestId).unwrap().to_vec();
            assert_eq!(id.len(), UUID_LENGTH);
            let id = String::from_utf8(id).unwrap();
            let lines = written(&headers).to_lowercase();
            let wanted = format!(
                "host: a\r\nx-forwarded-for: 1.2.3.4\r\nb3: 0\r\nx-request-id: {id}\r\nx-forwarded-proto: http\r\n"
            );
            assert_eq!(lines, wanted);
            // Asked again, it is there.
            identify(&mut headers);
            assert_eq!(written(&headers).to_lowercase(), wanted);
        }
    }

    #[test]
    fn what_the_client_says_stays_as_it_is() {
        let lines = "X-Request-ID: mine\r\nX-Forwarded-Proto: https\r\n";
        for mut headers in headers(&format!("{lines}X-Tsunagi-Unprocessed: 1\r\n")) {
            identify(&mut headers);
            let wanted = format!("Host: a\r\n{lines}").to_lowercase();
            assert_eq!(written(&headers).to_lowercase(), wanted);
        }
    }

    #[test]
    fn an_id_of_our_own_survives_what_connection_names_and_edits_of_a_rule() {
        for mut headers in headers("Connection: x-request-id, x-forwarded-proto\r\n") {
            identify(&mut headers);
            headers.remove_hop_by_hop();
            assert!(headers.has(Known::XRequestId) && headers.has(Known::XForwardedProto));
            headers.set(Known::XRequestId.name(), &http::HeaderValue::from_static("of-a-rule"));
            assert_eq!(headers.known(Known::XRequestId), Some(&b"of-a-rule"[..]));
            assert!(written(&headers).ends_with("x-request-id: of-a-rule\r\n") || matches!(headers, Headers::Map(_)));
        }
    }
}
