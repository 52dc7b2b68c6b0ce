//! The fields of VirtualService that the samples of Istio's repository put together, each combination once: a user who
//! starts from one of them has YAML of this shape.

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
