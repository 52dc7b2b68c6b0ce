//! The kinds in `deploy/crds` take and refuse the values that the control plane's readers take and refuse: their types, enums and
//! ranges are the readers'. Judged on one rule of every sort, with one value changed at a time. Here VirtualService's values.

use std::process::Command;

use serde_json::{Value, json};
use tsunagi_tests::binaries;

use crate::tools::tools;

/// Field, values that are taken and values that are not.
pub(crate) type Lines = Vec<(&'static str, Value, Value)>;

fn lines() -> Lines {
    let port = || (json!([1, 65535]), json!([0, 65536, "80", 1.5]));
    let whole = || (json!([0, 100]), json!([-1, 101, "5"]));
    let share = || (json!([0, 0.5, 100]), json!([-1, 100.5, "5"]));
    let status = || (json!([200, 599]), json!([199, 600, "503"]));
    let text = || (json!(["10.0.0.0"]), json!([1, true, ["a"]]));
    let fields = [
        ("/hosts", (json!([["a", "*.a.example.com"]]), json!(["a", [""], [1]]))),
        ("/gateways", (json!([["mesh", "a/b"], []]), json!(["mesh", [""]]))),
        ("/exportTo", (json!([["."], ["*"], []]), json!(["*", [""]]))),
        ("/http/0/match/0/port", port()),
        ("/http/0/match/0/ignoreUriCase", (json!([true]), json!(["true", 1]))),
        (
            "/http/0/match/0/scheme",
            (json!([{"exact": "https"}]), json!(["https"])),
        ),
        (
            "/http/0/match/0/sourceLabels",
            (json!([{"a": "b"}]), json!([{"a": 1}, {"a": "b".repeat(64)}])),
        ),
        (
            "/http/0/match/0/sourceNamespace",
            (json!(["", "a".repeat(63)]), json!(["a".repeat(64)])),
        ),
        (
            "/http/0/match/0/statPrefix",
            (json!(["a".repeat(253)]), json!(["a".repeat(254)])),
        ),
        ("/http/0/match/0/gateways", (json!([["mesh"]]), json!(["mesh", [""]]))),
        (
            "/http/0/route/0/weight",
            (json!([0, 2_147_483_647]), json!([-1, 2_147_483_648_i64, "1"])),
        ),
        (
            "/http/0/route/0/destination",
            (json!([{"host": "a"}]), json!([{}, {"host": ""}, "a"])),
        ),
        (
            "/http/0/route/0/destination/port",
            (json!([{"number": 80}]), json!([{}, 80])),
        ),
        ("/http/0/route/0/destination/port/number", port()),
        (
            "/http/0/route/0/destination/subset",
            (json!(["", "v1"]), json!(["a".repeat(64)])),
        ),
        (
            "/http/0/headers/request/set",
            (json!([{"x-a": "1"}]), json!([{"x-a": 1}])),
        ),
        (
            "/http/0/rewrite/uriRegexRewrite",
            (
                json!([{"match": "a", "rewrite": "/b"}]),
                json!([{"match": "a"}, {"match": "a", "rewrite": ""}]),
            ),
        ),
        ("/http/0/fault/delay/fixedDelay", (json!(["1s"]), json!([1]))),
        ("/http/0/fault/delay/percent", whole()),
        ("/http/0/fault/delay/percentage/value", share()),
        ("/http/0/fault/abort/percentage/value", share()),
        ("/http/0/fault/abort/httpStatus", status()),
        (
            "/http/2/fault/abort/grpcStatus",
            (
                json!(["UNAUTHENTICATED", "16", "0"]),
                json!(["17", "unavailable", "", 14]),
            ),
        ),
        (
            "/http/3/fault/abort/http2Error",
            (json!(["HTTP_1_1_REQUIRED", "13", "0"]), json!(["14", "cancel", "", 8])),
        ),
        ("/http/0/mirror", (json!([{"host": "b"}]), json!([{}, "b"]))),
        ("/http/0/mirrorPercentage/value", share()),
        ("/http/0/mirrorPercent", whole()),
        ("/http/2/mirrors/0/percentage/value", share()),
        (
            "/http/0/corsPolicy/allowOrigins",
            (json!([[{"exact": "https://a"}]]), json!([["https://a"]])),
        ),
        (
            "/http/0/corsPolicy/allowOrigin",
            (json!([["https://a"]]), json!([[""], "https://a"])),
        ),
        (
            "/http/0/corsPolicy/allowMethods",
            (json!([["GET", "TRACE", "*"]]), json!([["get"], ["QUERY"], "GET"])),
        ),
        (
            "/http/0/corsPolicy/allowHeaders",
            (json!([["*", "x_a-1"]]), json!([["a b"], ["a*"], [""]])),
        ),
        ("/http/0/corsPolicy/maxAge", (json!(["0s", "24h"]), json!([3600]))),
        ("/http/0/corsPolicy/allowCredentials", (json!([true]), json!(["true"]))),
        (
            "/http/0/corsPolicy/unmatchedPreflights",
            (json!(["UNSPECIFIED", "FORWARD", "IGNORE"]), json!(["ignore", ""])),
        ),
        ("/http/0/timeout", (json!(["1.5s"]), json!([2]))),
        ("/http/0/retries/attempts", (json!([1, 100]), json!([-1, 101]))),
        (
            "/http/0/retries/retryRemoteLocalities",
            (json!([true]), json!(["true"])),
        ),
        (
            "/http/1/redirect/scheme",
            (json!(["", "http", "https"]), json!(["ftp", "HTTP"])),
        ),
        ("/http/1/redirect/port", port()),
        (
            "/http/5/redirect/derivePort",
            (
                json!(["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]),
                json!(["", "REQUEST"]),
            ),
        ),
        (
            "/http/1/redirect/redirectCode",
            (json!([0, 301, 302, 303, 307, 308]), json!([300, 304, 309, "301"])),
        ),
        ("/http/4/directResponse", (json!([{"status": 200}]), json!([{}]))),
        ("/http/4/directResponse/status", status()),
        (
            "/http/4/directResponse/body",
            (
                json!([{"string": "a"}, {"bytes": "_-8"}, {}]),
                json!(["a", {"string": 1}]),
            ),
        ),
        (
            "/http/6/delegate",
            (
                json!([{"name": "d", "namespace": ""}]),
                json!([{}, {"name": ""}, {"name": "d", "namespace": "a".repeat(64)}]),
            ),
        ),
        (
            "/tls/0/match",
            (
                json!([[{"sniHosts": ["a"]}], [{"sni_hosts": ["a"]}]]),
                json!([[], [{"sniHosts": []}], [{"sniHosts": [""]}]]),
            ),
        ),
        (
            "/tls/0/route",
            (json!([[{"destination": {"host": "a"}}]]), json!([[], [{}]])),
        ),
        ("/tcp/0/match", (json!([[], [{}]]), json!(["any"]))),
        ("/tcp/0/match/0/port", port()),
        ("/tcp/0/match/0/sourceSubnet", text()),
        (
            "/tcp/0/match/0/destinationSubnets",
            (json!([["10.0.0.0/8", "::1"]]), json!([[""], "10.0.0.0/8"])),
        ),
        ("/tcp/0/route/0/weight", (json!([0]), json!([-1]))),
    ];
    fields.map(|(field, (taken, refused))| (field, taken, refused)).to_vec()
}

fn rules() -> Value {
    let route = json!([{"destination": {"host": "a"}}]);
    json!({
        "hosts": ["a"],
        "http": [
            {
                "match": [{}],
                "route": [{"destination": {"host": "a", "port": {"number": 80}}}],
                "headers": {"request": {}},
                "rewrite": {},
                "fault": {
                    "delay": {"fixedDelay": "1s", "percentage": {"value": 1}},
                    "abort": {"httpStatus": 503, "percentage": {"value": 1}},
                },
                "mirror": {"host": "b"},
                "mirrorPercentage": {"value": 1},
                "corsPolicy": {},
                "retries": {"attempts": 2},
            },
            {"redirect": {"uri": "/new"}},
            {
                "fault": {"abort": {"grpcStatus": "UNAVAILABLE"}},
                "mirrors": [{"destination": {"host": "b"}, "percentage": {"value": 1}}],
                "route": route,
            },
            {"fault": {"abort": {"http2Error": "CANCEL"}}, "route": route},
            {"directResponse": {"status": 404}},
            {"redirect": {"uri": "/new"}},
            {"delegate": {"name": "d"}},
        ],
        "tls": [{"match": [{"sniHosts": ["a"]}], "route": route}],
        "tcp": [{"match": [{}], "route": route}],
    })
}

/// The rules with this value in this field.
fn document(field: &str, value: &Value) -> Value {
    let mut spec = rules();
    if !field.starts_with("/http/0/rewrite") {
        spec["http"][0]["rewrite"]["authority"] = json!("b");
    }
    with(spec, field, value)
}

/// With this value in this field, which is made where it is not there.
pub(crate) fn with(mut spec: Value, field: &str, value: &Value) -> Value {
    let (message, last) = field.rsplit_once('/').unwrap();
    let message = spec.pointer_mut(message).unwrap_or_else(|| panic!("no {message}"));
    match message.as_array_mut() {
        Some(items) => items[last.parse::<usize>().unwrap()] = value.clone(),
        None => message[last] = value.clone(),
    }
    spec
}

/// What the readers say of each document that they do not take, by its name.
fn refusals(documents: &str) -> Vec<(String, String)> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), documents).unwrap();
    let mut command = Command::new(&binaries().tsunagi);
    command.args(["analyze", "--output", "json", "-f"]).arg(file.path());
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    let refused = findings.iter().filter(|finding| finding["code"] == "IST0106");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    refused
        .map(|finding| {
            (
                text(&finding["name"]),
                format!("{} {}", finding["field"], finding["what"]),
            )
        })
        .collect()
}

#[test]
fn the_kind_and_the_readers_take_and_refuse_the_same_values() {
    judge("VirtualService", lines(), document);
}

/// `spec` has one value of a field.
pub(crate) fn judge(kind: &str, lines: Lines, spec: impl Fn(&str, &Value) -> Value) {
    let Some(tools) = tools() else { return };
    let mut cases = Vec::new();
    for (field, taken, refused) in lines {
        for (values, is_taken) in [(taken, true), (refused, false)] {
            let values = values.as_array().unwrap().clone();
            cases.extend(values.into_iter().map(|value| (field, value, is_taken)));
        }
    }
    let name = |index: usize| format!("case-{index}-end");
    let document = |(index, (field, value, _)): (usize, &(&str, Value, bool))| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": kind,
            "metadata": {"name": name(index), "namespace": "shop"},
            "spec": spec(field, value),
        })
        .to_string()
    };
    let documents: Vec<String> = cases.iter().enumerate().map(document).collect();
    let documents = documents.join("\n---\n");
    let by_kind = tools.judge(&documents).problems;
    let by_readers = refusals(&documents);
    for (index, (field, value, is_taken)) in cases.iter().enumerate() {
        let name = name(index);
        let kind: Vec<_> = by_kind.iter().filter(|problem| problem.contains(&name)).collect();
        // The judge closes every object, which the kind leaves open for protobuf's names.
        if value[0].get("sni_hosts").is_none() {
            assert_eq!(kind.is_empty(), *is_taken, "the kind: {field} {value}: {kind:?}");
        }
        let readers: Vec<_> = by_readers.iter().filter(|(of, _)| *of == name).collect();
        assert_eq!(
            readers.is_empty(),
            *is_taken,
            "the readers: {field} {value}: {readers:?}"
        );
    }
}
