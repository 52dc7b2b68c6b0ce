//! Headers by which Envoy's clients steer its retries and timeouts, and the one by which an endpoint sees a retry.
//!
//! As in a sidecar of Istio, which does not take the application for trusted unless told to (`PILOT_SIDECAR_USE_REMOTE_ADDRESS`,
//! off): they are neither believed nor passed on, in either direction. An application that hands on whatever it was sent would
//! otherwise let anybody lift its time limits and multiply its requests. Called by `request_path` before rules see a request.

use tsunagi_proto::decide::is_control;

use crate::codec::{Headers, Known};

const COUNTS: [&str; 4] = ["1", "2", "3", "4"];

pub fn remove_controls(headers: &mut Headers) {
    headers.remove_others(is_control);
}

/// `x-envoy-attempt-count`: 1 for the first attempt, as Istio's outbound routes say it, whatever the client said.
pub fn count_attempt(headers: &mut Headers, attempt: u32) {
    headers.remove_known(Known::XEnvoyAttemptCount);
    match COUNTS.get(attempt.wrapping_sub(1) as usize) {
        Some(count) => headers.append_static(Known::XEnvoyAttemptCount, count),
        None => headers.append_bytes(Known::XEnvoyAttemptCount, attempt.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use tsunagi_proto::decide::CONTROLS;

    use super::*;
    use crate::codec::{RequestHead, parse_request};

    fn both(lines: &str) -> [Headers; 2] {
        let mut head = RequestHead::default();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        parse_request(text.as_bytes(), &mut head).unwrap();
        let map = head.headers.to_map();
        [head.headers, Headers::Map(map)]
    }

    fn written(headers: &Headers) -> String {
        let mut out = Vec::new();
        headers.write(&mut out);
        String::from_utf8(out).unwrap().to_ascii_lowercase()
    }

    #[test]
    fn what_steers_retries_and_timeouts_goes_in_any_spelling_and_nothing_else() {
        let controls: String = CONTROLS
            .iter()
            .map(|control| format!("X-Envoy-{}: 1\r\n", String::from_utf8_lossy(control)))
            .collect();
        let others = "x-envoy-original-path: /\r\nx-envoy-: 1\r\nx-env: 1\r\nx-envoy-retry-on-: 5xx\r\n";
        for mut headers in both(&format!("{controls}{others}x-envoy-retry-on: again\r\n")) {
            remove_controls(&mut headers);
            let mut left: Vec<_> = others.lines().chain(["host: a"]).map(str::to_owned).collect();
            left.sort_unstable();
            let mut lines: Vec<_> = written(&headers).lines().map(str::to_owned).collect();
            lines.sort_unstable();
            assert_eq!(lines, left);
        }
    }

    #[test]
    fn an_attempt_is_counted_in_place_of_what_the_client_said() {
        for mut headers in both("x-envoy-attempt-count: 9\r\nX-Envoy-Attempt-Count: 9\r\n") {
            for attempt in [1, 2, 7, 101] {
                count_attempt(&mut headers, attempt);
                assert_eq!(
                    written(&headers),
                    format!("host: a\r\nx-envoy-attempt-count: {attempt}\r\n")
                );
            }
        }
    }
}
