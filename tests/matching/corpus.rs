//! The corpus of matching: rules, and requests with the rule that each gets. Replayed through sidecars by `matching`, and
//! through sidecars and `tsunagi explain` by `explain`.

use std::net::SocketAddr;

/// Rules in order: name and matches (YAML flow).
pub(crate) const RULES: &[(&str, &str)] = &[
    ("exact", "{uri: {exact: /exact}}"),
    ("prefix", "{uri: {prefix: /pre}}"),
    ("regex", "{uri: {regex: '/re/[0-9]+'}}"),
    ("any-case", "{uri: {exact: /CASE}, ignoreUriCase: true}"),
    ("method", "{method: {exact: DELETE}}"),
    ("authority", "{authority: {prefix: alias}}"),
    ("header-exact", "{headers: {x-kind: {exact: a}}}"),
    ("header-prefix", "{headers: {x-kind: {prefix: b-}}}"),
    ("header-regex", "{headers: {x-kind: {regex: 'c[0-9]'}}}"),
    ("header-joined", "{headers: {x-many: {exact: '1,2'}}}"),
    ("header-present", "{headers: {x-there: {}}}"),
    ("query-exact", "{queryParams: {v: {exact: '1'}}}"),
    ("query-prefix", "{queryParams: {v: {prefix: p}}}"),
    ("query-regex", "{queryParams: {v: {regex: 'r.'}}}"),
    (
        "two-of-one",
        "{uri: {prefix: /both}, headers: {x-also: {exact: 'yes'}}}",
    ),
    ("either", "{uri: {exact: /either}}, {uri: {exact: /or}}"),
    (
        "without-value",
        "{uri: {exact: /without-value}, withoutHeaders: {x-debug: {exact: 'on'}}}",
    ),
    (
        "without-any",
        "{uri: {exact: /without-any}, withoutHeaders: {x-debug: {}}}",
    ),
    ("port", "{uri: {exact: /port}, port: 80}"),
    ("hidden", "{uri: {exact: /exact}}"),
];

pub(crate) fn rules() -> String {
    let mut yaml = String::from(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo, alias.example.com]
  http:
",
    );
    for (name, matches) in RULES {
        yaml.push_str(&format!(
            "  - name: {name}
    match: [{matches}]
    headers: {{response: {{set: {{x-rule: {name}}}}}}}
    route: [{{destination: {{host: echo}}}}]
"
        ));
    }
    yaml
}

/// Host, method, target, headers -> the rule's name, or nothing.
pub(crate) type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

pub(crate) const CASES: &[Case] = &[
    ("echo", "GET", "/exact", &[], "exact"),
    ("echo", "GET", "/exact?q=1", &[], "exact"),
    ("echo", "GET", "/exact/", &[], ""),
    ("echo", "GET", "/EXACT", &[], ""),
    ("echo", "GET", "/prefix", &[], "prefix"),
    ("echo", "GET", "/pre", &[], "prefix"),
    ("echo", "GET", "/Pre", &[], ""),
    ("echo", "GET", "/re/12", &[], "regex"),
    ("echo", "GET", "/re/12/x", &[], ""),
    ("echo", "GET", "/a/re/12", &[], ""),
    ("echo", "GET", "/cAsE", &[], "any-case"),
    ("echo", "DELETE", "/", &[], "method"),
    ("echo", "DELETE", "/exact", &[], "exact"),
    ("alias.example.com", "GET", "/", &[], "authority"),
    ("echo", "GET", "/", &[("x-kind", "a")], "header-exact"),
    ("echo", "GET", "/", &[("x-kind", "aa")], ""),
    ("echo", "GET", "/", &[("x-kind", "b-1")], "header-prefix"),
    ("echo", "GET", "/", &[("x-kind", "c1")], "header-regex"),
    ("echo", "GET", "/", &[("x-kind", "xc1")], ""),
    ("echo", "GET", "/", &[("x-many", "1"), ("x-many", "2")], "header-joined"),
    ("echo", "GET", "/", &[("x-many", "1")], ""),
    ("echo", "GET", "/", &[("x-there", "")], "header-present"),
    ("echo", "GET", "/?v=1", &[], "query-exact"),
    ("echo", "GET", "/?v=1&v=2", &[], "query-exact"),
    ("echo", "GET", "/?v=2&v=1", &[], ""),
    ("echo", "GET", "/?v=pq", &[], "query-prefix"),
    ("echo", "GET", "/?v=rx", &[], "query-regex"),
    ("echo", "GET", "/?v=rxx", &[], ""),
    ("echo", "GET", "/both", &[("x-also", "yes")], "two-of-one"),
    ("echo", "GET", "/both", &[("x-also", "no")], ""),
    ("echo", "GET", "/either", &[], "either"),
    ("echo", "GET", "/or", &[], "either"),
    ("echo", "GET", "/without-value", &[], "without-value"),
    ("echo", "GET", "/without-value", &[("x-debug", "off")], "without-value"),
    ("echo", "GET", "/without-value", &[("x-debug", "on")], ""),
    ("echo", "GET", "/without-any", &[], "without-any"),
    ("echo", "GET", "/without-any", &[("x-debug", "off")], ""),
    ("echo", "GET", "/port", &[], "port"),
    ("echo", "GET", "/nothing", &[], ""),
    ("echo", "GET", "/x/../exact", &[], "exact"),
    ("echo", "GET", "/../x/%2E%2e/./exact?q=/../1", &[], "exact"),
    ("echo", "GET", "/x/..;a=b/exact", &[], "exact"),
    ("echo", "GET", "/%65x%61ct", &[], "exact"),
    ("echo", "GET", "/x\\..\\prefix", &[], "prefix"),
    ("echo", "GET", "/./re/x/../%31", &[], "regex"),
    ("echo", "GET", "/exact/../nothing", &[], ""),
    ("echo", "GET", "//exact", &[], ""),
    ("echo", "GET", "/x%2f..%2Fexact", &[], ""),
    ("echo", "GET", "/%2565xact", &[], ""),
    ("echo", "GET", "/?v=%31", &[], ""),
];

/// A second name, outside of the cluster, at the same upstream.
pub(crate) fn alias(address: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: alias
spec:
  hosts: [alias.example.com]
  ports:
  - {{number: 80, name: http, protocol: HTTP}}
  resolution: STATIC
  endpoints:
  - address: 127.0.0.1
    ports: {{http: {}}}
",
        address.port()
    )
}
