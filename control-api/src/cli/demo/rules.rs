//! The demo's configuration: the rules of a real user to the letter, a service for them, and the two small changes that
//! acts 4 and 5 make and take back. Called by `mesh` and the acts.

use std::net::SocketAddr;

/// As it is shown to people.
pub(super) const FILE: &str = "deploy/demo/user-service.yaml";
/// An old API version, the old `consecutiveErrors`, and not a letter changed.
pub(super) const VERBATIM: &str = include_str!("../../../../deploy/demo/user-service.yaml");
/// The host as clients name it.
pub(super) const HOST: &str = "user-service";

/// Act 4 has no 30 seconds to wait.
pub(super) const SHORT_EJECTION: [(&str, &str); 2] = [
    ("interval: 30s", "interval: 1s"),
    ("baseEjectionTime: 30s", "baseEjectionTime: 2s"),
];
/// Act 5 has no hundred clients.
pub(super) const SMALL_LIMITS: [(&str, &str); 2] = [
    ("maxConnections: 100", "maxConnections: 2"),
    ("http1MaxPendingRequests: 50", "http1MaxPendingRequests: 1"),
];

/// The user's DestinationRule with some lines changed.
pub(super) fn destination_rule(changes: &[(&str, &str)]) -> String {
    let rule = VERBATIM.split_once("---\n").map_or(VERBATIM, |(_, rule)| rule);
    let change = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
    changes.iter().fold(rule.to_owned(), change)
}

/// A `Service` and a `WorkloadEntry` for each endpoint: name, version and where it is.
pub(super) fn service<'a>(endpoints: impl Iterator<Item = (&'a str, &'a str, SocketAddr)>) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {HOST}
spec:
  selector:
    app: {HOST}
  ports:
  - name: http
    port: 80
    targetPort: 8080
"
    );
    for (name, version, address) in endpoints {
        text.push_str(&format!(
            "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {HOST}-{name}
spec:
  address: {ip}
  ports:
    http: {port}
  labels:
    app: {HOST}
    version: {version}
",
            ip = address.ip(),
            port = address.port(),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_change_changes_its_one_line() {
        for changes in [SHORT_EJECTION, SMALL_LIMITS] {
            let rule = destination_rule(&changes);
            assert!(rule.starts_with("apiVersion:"), "{rule}");
            for (from, to) in changes {
                assert_eq!(VERBATIM.matches(from).count(), 1, "{from}");
                assert!(rule.contains(to) && !rule.contains(from), "{rule}");
            }
        }
    }

    #[test]
    fn everything_that_the_demo_applies_is_valid() {
        let endpoint = ("v1-a", "v1", SocketAddr::from(([127, 0, 0, 1], 1)));
        for text in [
            VERBATIM.to_owned(),
            destination_rule(&SHORT_EJECTION),
            destination_rule(&SMALL_LIMITS),
            service(std::iter::once(endpoint)),
        ] {
            let parsed = config::parse("demo.yaml", &text, "default").map(|documents| documents.len());
            assert!(parsed.is_ok(), "{:?}", parsed.err());
        }
    }
}
