//! How an answer reads.

use super::*;
use crate::explain::answer::{Sometimes, TrafficPolicy};

fn answer() -> Answer {
    let rule = |name: &str, index: usize| Rule {
        name: name.to_owned(),
        virtual_service: "shop/user".to_owned(),
        place: format!("http[{index}]"),
        item: None,
    };
    Answer {
        outcome: Outcome::Route,
        host: "user.shop.svc.cluster.local".to_owned(),
        port: Some(80),
        virtual_service: "shop/user".to_owned(),
        rule: Some(rule("rest", 1)),
        passed_over: vec![PassedOver {
            rule: rule("testers", 0),
            reasons: vec!["headers.version: wanted exact \"v2\", the request has none".to_owned()],
        }],
        destinations: vec![Destination {
            host: "user.shop.svc.cluster.local".to_owned(),
            port: Some(80),
            subset: "v1".to_owned(),
            weight: 3,
            share: 75.0,
            cluster: String::new(),
            labels: BTreeMap::new(),
            endpoints: Vec::new(),
            destination_rules: vec!["shop/user".to_owned(), "shop/more".to_owned()],
            traffic_policy: None,
            reply: Some(Reply {
                status: 503,
                flags: "UH".to_owned(),
                reason: "no healthy upstream".to_owned(),
                ..Reply::default()
            }),
        }],
        ..Answer::default()
    }
}

#[test]
fn the_answer_reads_from_the_request_to_the_reasons() {
    let question: Question = serde_json::from_str(r#"{"url": "http://user/a"}"#).expect("a question");
    let text = shown(&question, &answer());
    let expected = "GET http://user/a
  from            namespace default
  host            user.shop.svc.cluster.local, port 80
  VirtualService  shop/user
  rule            rest (http[1])
  answer          from the rule's destinations
  note            503 UH: no healthy upstream

Rules before it that do not match:
  RULE      PLACE     FIRST THAT FAILED
  testers   http[0]   headers.version: wanted exact \"v2\", the request has none

Destinations:
  SHARE   WEIGHT   HOST                          PORT   SUBSET   LABELS   ENDPOINTS   LOAD BALANCER   DESTINATION RULES
  75 %    3        user.shop.svc.cluster.local   80     v1       <none>   503 UH      <none>          shop/user, shop/more";
    assert_eq!(text, expected);
}

#[test]
fn every_block_of_a_destinations_policy_has_a_line() {
    let fields = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let policy = TrafficPolicy {
        load_balancer: "CONSISTENT_HASH".to_owned(),
        consistent_hash: fields("httpHeaderName", "x-user"),
        locality_lb_setting: fields("failover[0]", "from eu to us"),
        warmup: fields("duration", "30s"),
        connection_pool: fields("tcp.maxConnections", "7"),
        outlier_detection: fields("interval", "10s"),
        retry_budget: fields("percent", "20"),
        tls: fields("mode", "SIMPLE"),
        proxy_protocol: fields("version", "V1"),
    };
    let mut answer = answer();
    answer.destinations[0].cluster = "outbound|80|v1|user".to_owned();
    answer.destinations[0].traffic_policy = Some(policy);
    let rows = policies(None, &answer.destinations);
    let rows: Vec<String> = rows.iter().map(|row| row.join(": ")).collect();
    assert_eq!(
        rows,
        [
            "consistentHash: httpHeaderName x-user",
            "localityLbSetting: failover[0] from eu to us",
            "warmup: duration 30s",
            "connectionPool: tcp.maxConnections 7",
            "outlierDetection: interval 10s",
            "retryBudget: percent 20",
            "tls: mode SIMPLE",
            "proxyProtocol: version V1",
        ]
    );
}

#[test]
fn blocks_are_told_apart_by_the_shortest_name_of_their_destination() {
    let to = |host: &str, subset: &str| Destination {
        host: host.to_owned(),
        subset: subset.to_owned(),
        cluster: format!("outbound|80|{subset}|{host}"),
        ..answer().destinations.remove(0)
    };
    let (user, other) = ("user.shop.svc.cluster.local", "user.back.svc.cluster.local");
    let names = |all: &[Destination]| short_names(all).join("");
    assert_eq!(names(&[to(user, "v1")]), "");
    assert_eq!(names(&[to(user, "v1"), to(user, "v2")]), " of v1 of v2");
    assert_eq!(names(&[to(user, "v1"), to("pay.shop", "")]), " of v1 of pay");
    assert_eq!(names(&[to(user, "v1"), to("pay.shop", "v1")]), " of user v1 of pay v1");
    assert_eq!(names(&[to(user, ""), to(other, "")]), format!(" of {user} of {other}"));
    let mut port = to(user, "v1");
    port.cluster = "outbound|81|v1|user".to_owned();
    assert_eq!(
        names(&[to(user, "v1"), port]),
        format!(" of outbound|80|v1|{user} of outbound|81|v1|user")
    );
    assert_eq!(names(&[to(user, "v1"), to(user, "v1")]), " of v1 of v1", "it is one");
}

#[test]
fn why_a_destination_is_not_reached_is_said_once() {
    let mut answer = answer();
    answer.destinations.push(answer.destinations[0].clone());
    let question: Question = serde_json::from_str(r#"{"url": "http://user/a"}"#).expect("a question");
    let said = |answer: &Answer| shown(&question, answer).matches("no healthy upstream").count();
    assert_eq!(said(&answer), 1);
    answer.reply.clone_from(&answer.destinations[0].reply);
    assert_eq!(said(&answer), 1, "it is the answer");
}

#[test]
fn endpoints_that_the_sidecars_resolve_are_not_called_healthy() {
    let counted = |states: &[&str]| {
        let endpoint = |state: &&str| Endpoint {
            address: "10.0.0.1:80".to_owned(),
            resolved: Vec::new(),
            state: (*state).to_owned(),
            weight: 1,
            locality: String::new(),
            seen_by: Vec::new(),
        };
        endpoint_count(&states.iter().map(endpoint).collect::<Vec<_>>())
    };
    for (states, expected) in [
        (&[][..], "where the client connects to"),
        (&["HEALTHY", "DRAINING"], "1 of 2 healthy"),
        (&["UNKNOWN"], "1 resolved by the sidecars"),
        (&["UNRESOLVED"], "1 unresolved"),
        (
            &["HEALTHY", "UNKNOWN", "UNRESOLVED"],
            "1 of 1 healthy, 1 resolved by the sidecars, 1 unresolved",
        ),
    ] {
        assert_eq!(counted(states), expected);
    }
}

#[test]
fn an_answer_of_the_proxy_itself_is_told_with_its_status_and_flag() {
    let answer = Answer {
        reply: Some(Reply {
            status: 404,
            flags: "NR".to_owned(),
            reason: "no rule".to_owned(),
            ..Reply::default()
        }),
        ..Answer::default()
    };
    assert_eq!(verdict(&answer), "404 NR by the proxy itself: no rule");
}

#[test]
fn a_fault_of_some_requests_is_told_before_what_the_rest_gets() {
    let policies = Policies {
        faults: vec!["10 % of requests: 500 FI".to_owned()],
        ..Policies::default()
    };
    let answer = Answer {
        policies: Some(policies),
        sometimes: Some(Sometimes {
            percentage: 10.0,
            reply: Reply::default(),
        }),
        ..answer()
    };
    let question: Question = serde_json::from_str(r#"{"url": "http://user/a"}"#).expect("a question");
    let text = shown(&question, &answer);
    let told = "  fault           10 % of requests: 500 FI
  answer          the rest: from the rule's destinations";
    assert!(text.contains(told), "{text}");
    assert_eq!(text.matches("500 FI").count(), 1, "{text}");
}

#[test]
fn a_delegated_rule_has_the_place_where_it_is_written_and_no_row_is_there_twice() {
    let delegated = |index: usize| Rule {
        name: "user.shop/0".to_owned(),
        virtual_service: "nsa/page".to_owned(),
        place: format!("http[{index}]"),
        item: None,
    };
    let own = Rule {
        virtual_service: "shop/user".to_owned(),
        ..delegated(0)
    };
    let passed = |rule: Rule, reasons: &[&str]| PassedOver {
        rule,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    let answer = Answer {
        rule: Some(delegated(1)),
        passed_over: vec![passed(own, &["a", "a"]), passed(delegated(0), &["a", "a", "b"])],
        ..answer()
    };
    let question: Question = serde_json::from_str(r#"{"url": "http://user/a"}"#).expect("a question");
    let text = shown(&question, &answer);
    for line in [
        "  VirtualService  shop/user, rule written in nsa/page http[1]\n",
        "  rule            user.shop/0 (http[1] of nsa/page)\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let rows = passed_over(&answer.passed_over, &answer.virtual_service);
    let places: Vec<(&str, &str)> = rows.iter().map(|row| (row[1].as_str(), row[2].as_str())).collect();
    let wanted = [
        ("http[0].match[0]", "a"),
        ("http[0].match[1]", "a"),
        ("http[0] of nsa/page", "a"),
        ("http[0] of nsa/page", "b"),
    ];
    assert_eq!(places, wanted);
}

#[test]
fn a_connection_has_no_method() {
    let first = |url: &str| {
        let question = serde_json::from_str(&format!(r#"{{"url": "{url}"}}"#)).expect("a question");
        let text = shown(&question, &answer());
        text.lines().next().unwrap_or_default().to_owned()
    };
    for url in ["tcp://user:81", "tls://user:443", "https://user/"] {
        assert_eq!(first(url), url);
    }
    for url in ["http://user/", "HTTP://user/", "user/a"] {
        assert_eq!(first(url), format!("GET {url}"));
    }
}

#[test]
fn an_ejected_endpoint_is_not_healthy_and_the_sidecars_that_ejected_it_are_named() {
    let seen = |node_id: &str, state: &str, address: &str| Seen {
        node_id: node_id.to_owned(),
        namespace: "shop".to_owned(),
        address: address.to_owned(),
        state: state.to_owned(),
        ..Seen::default()
    };
    let endpoint = |state: &str, seen_by: Vec<Seen>| Endpoint {
        address: "10.0.0.1:80".to_owned(),
        resolved: Vec::new(),
        state: state.to_owned(),
        weight: 1,
        locality: String::new(),
        seen_by,
    };
    let by = |names: &[&str]| names.iter().map(|name| seen(name, "ejected", "")).collect::<Vec<_>>();
    let probed = vec![seen("web-1", "probing", "")];
    let partly = vec![seen("web-1", "ejected", "10.0.0.2")];
    let all = [
        endpoint("HEALTHY", Vec::new()),
        endpoint("EJECTED", by(&["web-1"])),
        endpoint("EJECTED", [by(&["web-1", "web-2", "web-3"]), probed.clone()].concat()),
        endpoint("PROBING", probed),
        endpoint("HEALTHY", partly),
        endpoint("UNHEALTHY", by(&["web-1"])),
    ];
    assert_eq!(
        endpoint_count(&all),
        "2 of 6 healthy, 2 ejected by 3 sidecars, 1 probed"
    );
    assert_eq!(endpoint_count(&all[..2]), "1 of 2 healthy, 1 ejected by 1 sidecar");
    assert_eq!(
        all.map(|endpoint| state(&endpoint)),
        [
            "HEALTHY",
            "ejected by shop/web-1",
            "ejected by shop/web-1, shop/web-2 and 1 more",
            "probed by shop/web-1",
            "HEALTHY, 10.0.0.2 ejected by shop/web-1",
            "UNHEALTHY, ejected by shop/web-1",
        ]
    );
}
