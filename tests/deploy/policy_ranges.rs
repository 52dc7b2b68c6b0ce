//! The values of DestinationRule, and of the pool that a Sidecar shares with it, that the kinds in `deploy/crds` and the control
//! plane's readers take and refuse alike.

use serde_json::{Value, json};

use crate::ranges::{Lines, judge, with};

type Values = (Value, Value);

fn count() -> Values {
    (json!([0, 2_147_483_647]), json!([-1, 2_147_483_648_i64, "1", 1.5]))
}

fn unsigned() -> Values {
    (json!([0, 4_294_967_295_i64]), json!([-1, 4_294_967_296_i64, "1"]))
}

fn time() -> Values {
    (json!(["1ms", "1h"]), json!([1, true]))
}

fn flag() -> Values {
    (json!([true, false]), json!(["true", 1]))
}

fn share() -> Values {
    (json!([0, 0.5, 100]), json!([-1, 100.5, "5"]))
}

fn whole() -> Values {
    (json!([0, 100]), json!([-1, 101, "5", 1.5]))
}

fn file() -> Values {
    (json!(["/a"]), json!([1, "a".repeat(4097)]))
}

fn lined(fields: Vec<(&'static str, Values)>) -> Lines {
    let line = |(field, (taken, refused))| (field, taken, refused);
    fields.into_iter().map(line).collect()
}

fn whom() -> Vec<(&'static str, Values)> {
    vec![
        (
            "/host",
            (json!(["a", "*.a.com", "*", "10.0.0.1"]), json!(["", 1, ["a"]])),
        ),
        ("/exportTo", (json!([["."], []]), json!(["*", [""]]))),
        (
            "/workloadSelector",
            (
                json!([{"matchLabels": {"a": "b"}}, {}]),
                json!(["a", {"labels": {"a": "b"}}, {"matchLabels": {"a": 1}}, {"matchLabels": {"a": "b".repeat(64)}}]),
            ),
        ),
        (
            "/subsets",
            (
                json!([[{"name": "v1", "labels": {"a": "b"}}]]),
                json!([[{}], [{"name": ""}], [{"name": "a".repeat(64)}], [{"name": "v1", "labels": {"a": 1}}]]),
            ),
        ),
        ("/trafficPolicy", (json!([{"tls": {}}]), json!([{}, "a"]))),
        (
            "/subsets/0/trafficPolicy",
            (json!([{"tls": {}}]), json!([{}, {"tls": {"mode": "NO"}}])),
        ),
        (
            "/trafficPolicy/proxyProtocol",
            (
                json!([{}, {"version": "V1"}, {"version": "V2"}]),
                json!([{"version": "V3"}, {"version": 1}, "V1"]),
            ),
        ),
        ("/trafficPolicy/retryBudget/percent", share()),
        ("/trafficPolicy/retryBudget/minRetryConcurrency", unsigned()),
        (
            "/trafficPolicy/retryBudget/budgetInterval",
            (json!(["0ms", "1s"]), json!([1])),
        ),
        (
            "/trafficPolicy/portLevelSettings/0",
            (
                json!([{"port": {"number": 65535}, "tls": {"mode": "SIMPLE"}}]),
                json!([
                    {"tls": {}},
                    {"port": {"number": 80}},
                    {"port": {}, "tls": {}},
                    {"port": {"number": 0}, "tls": {}},
                    {"port": {"number": 65536}, "tls": {}},
                    {"port": {"number": 80}, "proxyProtocol": {}},
                    {"port": {"number": 80}, "connectionPool": {"tcp": {"maxConnections": -1}}},
                ]),
            ),
        ),
    ]
}

fn pool() -> Vec<(&'static str, Values)> {
    vec![
        ("/tcp/maxConnections", count()),
        ("/tcp/connectTimeout", time()),
        ("/tcp/idleTimeout", (json!(["0s", "1h"]), json!([0]))),
        ("/tcp/maxConnectionDuration", time()),
        (
            "/tcp/tcpKeepalive",
            (
                json!([{}, {"probes": 127}]),
                json!([{"probes": 128}, {"time": 1}, true]),
            ),
        ),
        ("/http/http1MaxPendingRequests", count()),
        ("/http/http2MaxRequests", count()),
        ("/http/maxRequestsPerConnection", count()),
        ("/http/maxRetries", count()),
        ("/http/idleTimeout", (json!(["0s", "1h"]), json!([0]))),
        (
            "/http/h2UpgradePolicy",
            (json!(["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]), json!(["upgrade", 2])),
        ),
        ("/http/useClientProtocol", flag()),
        ("/http/maxConcurrentStreams", count()),
        (
            "/http/http2KeepAlive",
            (
                json!([{"interval": "30s", "timeout": "10s"}]),
                json!([{}, {"interval": "1s"}, {"timeout": "1s"}, {"interval": 1, "timeout": "1s"}]),
            ),
        ),
    ]
}

fn outlier_and_tls() -> Vec<(&'static str, Values)> {
    vec![
        ("/outlierDetection/consecutiveErrors", count()),
        ("/outlierDetection/consecutive5xxErrors", unsigned()),
        ("/outlierDetection/consecutiveGatewayErrors", unsigned()),
        ("/outlierDetection/consecutiveLocalOriginFailures", unsigned()),
        ("/outlierDetection/interval", time()),
        ("/outlierDetection/baseEjectionTime", time()),
        ("/outlierDetection/maxEjectionPercent", whole()),
        ("/outlierDetection/minHealthPercent", whole()),
        (
            "/outlierDetection/outlierDetectionHttpErrorCodes",
            (json!([[100, 599], []]), json!([[99], [600], ["500"], 500])),
        ),
        (
            "/tls/mode",
            (
                json!(["DISABLE", "SIMPLE", "MUTUAL"]),
                json!(["ISTIO_MUTUAL", "simple", 1]),
            ),
        ),
        ("/tls/clientCertificate", file()),
        ("/tls/privateKey", file()),
        ("/tls/caCertificates", file()),
        ("/tls/caCrl", file()),
        ("/tls/sni", (json!(["a.b"]), json!([1, "a".repeat(254)]))),
        (
            "/tls/subjectAltNames",
            (
                json!([["a", "spiffe://a/b"], []]),
                json!([[""], ["a".repeat(2049)], "a"]),
            ),
        ),
        ("/tls/insecureSkipVerify", flag()),
        (
            "/tls",
            (
                json!([{"mode": "SIMPLE", "credentialName": "a"}]),
                json!([{"mode": "SIMPLE", "credentialName": "a".repeat(254)}, "SIMPLE"]),
            ),
        ),
    ]
}

fn balancer() -> Vec<(&'static str, Values)> {
    let to = |to: Value| json!([{"from": "us/*", "to": to}]);
    let regions = || {
        (
            json!([[{"from": "us", "to": "eu"}], []]),
            json!([[{"from": "us"}], [{"from": "us", "to": ""}], [{"to": "us"}], {"from": "us", "to": "eu"}]),
        )
    };
    let hash = |field: &str, value: Value| json!({ "useSourceIp": true, field: value });
    let ring = |size: Value| json!({ "minimumRingSize": size });
    vec![
        (
            "/simple",
            (
                json!([
                    "UNSPECIFIED",
                    "LEAST_CONN",
                    "LEAST_REQUEST",
                    "ROUND_ROBIN",
                    "RANDOM",
                    "PASSTHROUGH"
                ]),
                json!(["RING_HASH", "random", "", 1]),
            ),
        ),
        (
            "/consistentHash",
            (
                json!([
                    {"httpHeaderName": "x-a"},
                    {"httpQueryParameterName": "a"},
                    {"httpCookie": {"name": "a", "path": "/", "ttl": "0s", "attributes": [{"name": "Secure"}]}},
                    hash("ringHash", json!({})),
                    hash("ringHash", ring(json!(8_388_608))),
                    hash("minimumRingSize", json!(0)),
                    hash("maglev", json!({"tableSize": 4_999_999})),
                ]),
                json!([
                    {"httpHeaderName": ""},
                    {"httpQueryParameterName": ""},
                    {"httpQueryParameterName": "a".repeat(1025)},
                    {"useSourceIp": false},
                    {"httpCookie": {}},
                    {"httpCookie": {"name": ""}},
                    {"httpCookie": {"name": "a", "ttl": 1}},
                    {"httpCookie": {"name": "a", "path": "a".repeat(1025)}},
                    {"httpCookie": {"name": "a", "attributes": [{"value": "a"}]}},
                    {"httpCookie": {"name": "a", "attributes": [{"name": ""}]}},
                    hash("ringHash", ring(json!(8_388_609))),
                    hash("ringHash", ring(json!(-1))),
                    hash("minimumRingSize", json!("1024")),
                    hash("maglev", json!({"tableSize": 1})),
                    hash("maglev", json!({"tableSize": 5_000_011})),
                ]),
            ),
        ),
        (
            "/warmup",
            (
                json!([{"duration": "1s"}, {"duration": "1s", "minimumPercent": 0, "aggression": 0.5}]),
                json!([{}, {"duration": 1}, {"duration": "1s", "minimumPercent": 100.5}, {"duration": "1s", "aggression": -1}]),
            ),
        ),
        ("/warmupDurationSecs", time()),
        ("/localityLbSetting/enabled", flag()),
        (
            "/localityLbSetting/distribute",
            (
                json!([to(json!({"us/*": 99, "eu": 1})), []]),
                json!([
                    to(json!({"us": 0, "eu": 100})),
                    to(json!({"us": 101})),
                    to(json!({})),
                    [{"to": {"us": 100}}],
                    [{"from": "", "to": {"us": 100}}],
                    [{"from": "us"}],
                ]),
            ),
        ),
        ("/localityLbSetting/failover", regions()),
        (
            "/localityLbSetting/failoverPriority",
            (json!([["a=b", "a.b/c"], []]), json!([[""], "a"])),
        ),
        (
            "/zoneAwareLbSetting",
            (
                json!([{}, {"enabled": false}, {"minClusterSize": 0}, {"failover": [{"from": "us", "to": "eu"}], "failoverPriority": ["a"]}]),
                json!([{"minClusterSize": -1}, {"minClusterSize": 4_294_967_296_i64}, {"enabled": 1}, {"failover": [{"from": "us"}]}]),
            ),
        ),
    ]
}

fn rule() -> Value {
    json!({
        "host": "a",
        "trafficPolicy": {
            "proxyProtocol": {},
            "retryBudget": {},
            "portLevelSettings": [{"port": {"number": 80}, "tls": {}}],
        },
        "subsets": [{"name": "v1"}],
    })
}

/// The fields of `block` in one of three places that have it: the host's policy, a subset's, a port's.
fn judge_block(block: &str, start: Value, lines: Lines) {
    let places = [
        "/trafficPolicy",
        "/subsets/0/trafficPolicy",
        "/trafficPolicy/portLevelSettings/0",
    ];
    for place in places {
        let mut spec = rule();
        if place.starts_with("/subsets") {
            spec["subsets"][0]["trafficPolicy"] = json!({"tls": {}});
        }
        let spec = with(spec, &format!("{place}/{block}"), &start);
        judge("DestinationRule", lines.clone(), |field, value| {
            let mut spec = with(spec.clone(), &format!("{place}/{block}{field}"), value);
            if field.ends_with("LocalOriginFailures") {
                spec.pointer_mut(&format!("{place}/{block}")).unwrap()["splitExternalLocalOriginErrors"] = json!(true);
            }
            // What another value asks for, or excludes.
            let policy = spec.pointer_mut(&format!("{place}/{block}")).unwrap();
            if *value == json!("MUTUAL") {
                policy["clientCertificate"] = json!("/a");
                policy["privateKey"] = json!("/b");
            }
            if field == "/zoneAwareLbSetting" {
                policy.as_object_mut().unwrap().remove("localityLbSetting");
            }
            spec
        });
    }
}

#[test]
fn the_kind_and_the_readers_agree_on_whom_a_rule_is_for_and_what_is_no_block() {
    judge("DestinationRule", lined(whom()), |field, value| {
        with(rule(), field, value)
    });
}

#[test]
fn the_kinds_and_the_readers_agree_on_connection_pools() {
    let start = json!({"tcp": {}, "http": {}});
    judge_block("connectionPool", start.clone(), lined(pool()));
    let sidecar = json!({ "inboundConnectionPool": start });
    judge("Sidecar", lined(pool()), |field, value| {
        with(sidecar.clone(), &format!("/inboundConnectionPool{field}"), value)
    });
}

#[test]
fn the_kind_and_the_readers_agree_on_load_balancers() {
    judge_block("loadBalancer", json!({"localityLbSetting": {}}), lined(balancer()));
}

#[test]
fn the_kind_and_the_readers_agree_on_outlier_detection_and_tls() {
    for block in ["outlierDetection", "tls"] {
        let of_block = |(field, values): (&'static str, Values)| {
            let field = field.strip_prefix('/')?.strip_prefix(block)?;
            (field.is_empty() || field.starts_with('/')).then_some((field, values))
        };
        let lines: Vec<_> = outlier_and_tls().into_iter().filter_map(of_block).collect();
        assert!(lines.len() > 5, "{block}");
        judge_block(block, json!({}), lined(lines));
    }
}
