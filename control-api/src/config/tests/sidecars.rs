//! Sidecar: what is taken, and what is refused by name.

use super::*;
use crate::config::OutboundTrafficPolicy;

fn sidecar(spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata:\n  name: s\nspec:\n{spec}")
}

#[test]
fn a_sidecar_is_read_in_every_api_version() {
    let text = sidecar(
        "  workloadSelector: {labels: {app: web}}\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n  inboundConnectionPool:\n    tcp: {maxConnections: 5}\n    http: {http1MaxPendingRequests: 6}\n",
    );
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let document = one(&text.replace("istio.io/v1", &format!("istio.io/{version}")));
        assert_eq!(document.key.to_string(), "Sidecar/default/s");
        let Spec::Sidecar(sidecar) = &document.spec else {
            panic!()
        };
        assert_eq!(sidecar.selector.get("app").map(String::as_str), Some("web"));
        assert_eq!(sidecar.outbound, OutboundTrafficPolicy::RegistryOnly);
        let pool = sidecar.inbound_connection_pool.as_ref().unwrap();
        assert_eq!((pool.max_connections, pool.max_pending_requests), (5, 6));
    }
    let open = one(&sidecar("  outboundTrafficPolicy: {mode: ALLOW_ANY}\n"));
    let Spec::Sidecar(sidecar) = &open.spec else { panic!() };
    assert_eq!(sidecar.outbound, OutboundTrafficPolicy::AllowAny);
    assert!(sidecar.selector.is_empty() && sidecar.inbound_connection_pool.is_none());
}

#[test]
fn what_a_sidecar_may_not_say_is_refused_by_its_name() {
    for (spec, field, reason) in [
        (
            "  egress: [{hosts: ['./*']}]\n",
            "spec.egress",
            "known but not supported yet",
        ),
        (
            "  ingress: [{defaultEndpoint: '127.0.0.1:80'}]\n",
            "spec.ingress",
            "known but not supported yet",
        ),
        (
            "  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a}}\n",
            "spec.outboundTrafficPolicy.egressProxy",
            "known but not supported yet",
        ),
        (
            "  outboundTrafficPolicy: {}\n",
            "spec.outboundTrafficPolicy.mode",
            "is required",
        ),
        (
            "  outboundTrafficPolicy: {mode: REGISTRY}\n",
            "spec.outboundTrafficPolicy.mode",
            "\"REGISTRY\" is none of ALLOW_ANY, REGISTRY_ONLY",
        ),
        (
            "  mode: ALLOW_ANY\n",
            "spec.mode",
            "it belongs under `outboundTrafficPolicy`",
        ),
        (
            "  workloadSelector: {matchLabels: {a: b}}\n",
            "spec.workloadSelector.matchLabels",
            "unknown field",
        ),
        (
            "  inboundConnectionPool: {tcp: {maxConnections: -1}}\n",
            "spec.inboundConnectionPool.tcp.maxConnections",
            "out of range",
        ),
        (
            "  inboundConnectionPool: {tcp: {tcpKeepalive: {time: 10h}}}\n",
            "spec.inboundConnectionPool.tcp.tcpKeepalive.time",
            "longer than 32767 s",
        ),
    ] {
        assert_refused(&sidecar(spec), 6, field, reason);
    }
}
