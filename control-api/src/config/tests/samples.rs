//! The fields of VirtualService and DestinationRule that the samples of Istio's repository and its reference put together, each
//! combination once: a user who starts from one of them has YAML of this shape.

use super::*;

/// What of `samples/` has this shape; the `spec` in flow style; whether sidecars use it.
const SHAPES: [(&str, &str, bool); 16] = [
    (
        "bookinfo: virtual-service-all-v1",
        "{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}",
        true,
    ),
    (
        "bookinfo: virtual-service-reviews-*",
        "{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}, weight: 80}, {destination: {host: reviews, subset: v2}, weight: 20}]}]}",
        true,
    ),
    (
        "bookinfo: virtual-service-reviews-test-v2",
        "{hosts: [reviews], http: [{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v2}}]}, {route: [{destination: {host: reviews, subset: v3}}]}]}",
        true,
    ),
    (
        "bookinfo: virtual-service-ratings-test-delay",
        "{hosts: [ratings], http: [{match: [{headers: {end-user: {exact: jason}}}], fault: {delay: {percentage: {value: 100.0}, fixedDelay: 7s}}, route: [{destination: {host: ratings, subset: v1}}]}, {route: [{destination: {host: ratings, subset: v1}}]}]}",
        true,
    ),
    (
        "bookinfo: virtual-service-ratings-test-abort",
        "{hosts: [ratings], http: [{match: [{headers: {end-user: {exact: jason}}}], fault: {abort: {percentage: {value: 100.0}, httpStatus: 500}}, route: [{destination: {host: ratings, subset: v1}}]}]}",
        true,
    ),
    (
        "bookinfo: fault-injection-details-v1",
        "{hosts: [details], http: [{fault: {abort: {httpStatus: 555, percentage: {value: 100}}}, route: [{destination: {host: details, subset: v1}}]}]}",
        true,
    ),
    (
        "bookinfo: egress-rule-google-apis",
        "{hosts: [www.googleapis.com], http: [{match: [{port: 80}], route: [{destination: {host: www.googleapis.com, port: {number: 443}}}]}]}",
        true,
    ),
    (
        "bookinfo: bookinfo-gateway",
        "{hosts: ['*'], gateways: [bookinfo-gateway], http: [{match: [{uri: {exact: /productpage}}, {uri: {prefix: /static}}], route: [{destination: {host: productpage, port: {number: 9080}}}]}]}",
        false,
    ),
    (
        "bookinfo: certmanager-gateway",
        "{hosts: ['*'], gateways: [cert-manager-gateway], http: [{match: [{uri: {prefix: /.well-known/acme-challenge/}}], route: [{destination: {host: cert-manager-resolver, port: {number: 8089}}}]}]}",
        false,
    ),
    (
        "helloworld, httpbin, websockets",
        "{hosts: ['*'], gateways: [httpbin-gateway], http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: httpbin}, weight: 100}]}]}",
        false,
    ),
    (
        "multicluster: expose-istiod",
        "{hosts: ['*'], gateways: [istiod-gateway], tls: [{match: [{port: 15012, sniHosts: ['*']}], route: [{destination: {host: istiod.istio-system.svc.cluster.local, port: {number: 15012}}}]}]}",
        false,
    ),
    (
        "multicluster: expose-istiod-https",
        "{hosts: [ISTIOD-HOST.DOMAIN], gateways: [istiod-gateway], http: [{match: [{port: 15017}], route: [{destination: {host: istiod.istio-system.svc.cluster.local, port: {number: 443}}}]}]}",
        false,
    ),
    (
        "tcp-echo: tcp-echo-20-v2",
        "{hosts: ['*'], gateways: [tcp-echo-gateway], tcp: [{match: [{port: 31400}], route: [{destination: {host: tcp-echo, port: {number: 9000}, subset: v1}, weight: 80}, {destination: {host: tcp-echo, port: {number: 9000}, subset: v2}, weight: 20}]}]}",
        false,
    ),
    (
        "the pages on egress gateways",
        "{hosts: [edition.cnn.com], gateways: [istio-egressgateway, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: egress.istio-system.svc.cluster.local, subset: cnn, port: {number: 80}}, weight: 100}]}, {match: [{gateways: [istio-egressgateway], port: 80}], route: [{destination: {host: edition.cnn.com, port: {number: 80}}, weight: 100}]}]}",
        true,
    ),
    (
        "the page on mirroring",
        "{hosts: [httpbin], http: [{route: [{destination: {host: httpbin, subset: v1}, weight: 100}], mirror: {host: httpbin, subset: v2}, mirrorPercentage: {value: 100.0}}]}",
        true,
    ),
    (
        "the page on TLS through an egress gateway",
        "{hosts: ['*.wikipedia.org'], gateways: [mesh, egress], tls: [{match: [{gateways: [mesh], port: 443, sniHosts: ['*.wikipedia.org']}], route: [{destination: {host: www.wikipedia.org, port: {number: 443}}, weight: 100}]}]}",
        true,
    ),
];

#[test]
fn every_shape_of_istios_samples_is_taken() {
    for (sample, spec, for_sidecars) in SHAPES {
        for version in ["v1", "v1beta1", "v1alpha3"] {
            let text = format!(
                "apiVersion: networking.istio.io/{version}\nkind: VirtualService\nmetadata: {{name: a}}\nspec: {spec}\n"
            );
            match parse("a.yaml", &text, "default").as_deref() {
                Ok(
                    [
                        Document {
                            spec: Spec::VirtualService(rule),
                            ..
                        },
                    ],
                ) => {
                    assert_eq!(rule.concerns_sidecars(), for_sidecars, "{sample}");
                }
                other => panic!("{sample}: {other:?}"),
            }
        }
    }
}

const RULES: [(&str, &str); 17] = [
    (
        "bookinfo: destination-rule-all, tcp-echo: tcp-echo-all-v1",
        "{host: ratings, subsets: [{name: v1, labels: {version: v1}}, {name: v2-mysql-vm, labels: {version: v2-mysql-vm}}]}",
    ),
    (
        "bookinfo: destination-rule-reviews",
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}",
    ),
    (
        "bookinfo: egress-rule-google-apis",
        "{host: www.googleapis.com, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}}",
    ),
    (
        "multicluster: expose-istiod-https",
        "{host: istiod.istio-system.svc.cluster.local, trafficPolicy: {portLevelSettings: [{port: {number: 15012}, tls: {mode: SIMPLE}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}, {port: {number: 443}, tls: {mode: SIMPLE}}]}}",
    ),
    (
        "the reference, on subsets",
        "{host: ratings.prod.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}, subsets: [{name: testversion, labels: {version: v3}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}]}",
    ),
    (
        "the reference, on ports",
        "{host: ratings.prod.svc.cluster.local, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: LEAST_REQUEST}}, {port: {number: 9080}, loadBalancer: {simple: ROUND_ROBIN}}]}}",
    ),
    (
        "the reference, on workloads",
        "{host: example.com, workloadSelector: {matchLabels: {app: ratings}}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, portLevelSettings: [{port: {number: 31443}, tls: {credentialName: client-credential, mode: MUTUAL}}]}}",
    ),
    (
        "the reference, on consistent hashes",
        "{host: ratings.prod.svc.cluster.local, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}}}",
    ),
    (
        "the reference, on zone awareness",
        "{host: ratings.prod.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST, zoneAwareLbSetting: {enabled: true, failover: [{from: us-east, to: eu-west}, {from: us-west, to: us-east}]}}, outlierDetection: {consecutive5xxErrors: 5, interval: 30s, baseEjectionTime: 30s}}}",
    ),
    (
        "the reference, on connection pools",
        "{host: myredissrv.prod.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 100, connectTimeout: 30ms, tcpKeepalive: {time: 7200s, interval: 75s}}}}}",
    ),
    (
        "the reference, on outlier detection",
        "{host: reviews.prod.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 100}, http: {http2MaxRequests: 1000, maxRequestsPerConnection: 10}}, outlierDetection: {consecutive5xxErrors: 7, interval: 5m, baseEjectionTime: 15m}}}",
    ),
    (
        "the reference, on mutual TLS",
        "{host: mydbserver.prod.svc.cluster.local, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /etc/certs/myclientcert.pem, privateKey: /etc/certs/client_private_key.pem, caCertificates: /etc/certs/rootcacerts.pem}}}",
    ),
    (
        "the reference, on TLS to hosts of a domain",
        "{host: '*.foo.com', trafficPolicy: {tls: {mode: SIMPLE}}}",
    ),
    (
        "the reference, on localities",
        "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: us-west/zone1/*, to: {us-west/zone1/*: 80, us-west/zone2/*: 20}}, {from: us-west/zone2/*, to: {us-west/zone1/*: 20, us-west/zone2/*: 80}}]}}}}",
    ),
    (
        "the page on locality failover",
        "{host: helloworld.sample.svc.cluster.local, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}, loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true, failover: [{from: region1, to: region2}]}}, outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 1m}}}",
    ),
    (
        "the page on circuit breaking",
        "{host: httpbin, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}, outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}}}",
    ),
    (
        "the page on TLS origination",
        "{host: edition.cnn.com, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: edition.cnn.com}}]}}",
    ),
];

#[test]
fn every_destination_rule_of_istios_samples_and_reference_is_taken() {
    for (sample, spec) in RULES {
        for version in ["v1", "v1beta1", "v1alpha3"] {
            let text = format!(
                "apiVersion: networking.istio.io/{version}\nkind: DestinationRule\nmetadata: {{name: a}}\nspec: {spec}\n"
            );
            if let Err(problems) = parse("a.yaml", &text, "default") {
                panic!("{sample}: {problems:?}");
            }
        }
    }
    // What the samples for mutual TLS between sidecars have.
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n";
    assert_refused(text, 4, "spec.trafficPolicy.tls.mode", "known but not supported yet");
}
