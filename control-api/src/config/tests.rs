//! Tests of whole texts: what is taken, and where exactly what is not is named.

use std::time::Duration;

use super::*;

mod actions;
mod advice;
mod balancers;
mod beside_routes;
mod endpoints;
mod kinds;
mod policies;
mod robustness;
mod rules;
mod samples;
mod scopes;
mod sidecars;
mod traffic_policies;
mod upstream_tls;

/// The configuration of the project's owner, verbatim.
pub(crate) const ISSUE: &str = "\
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: user-service
spec:
  hosts:
  - user-service
  http:
  - match:
    - headers:
        version:
          exact: v2
    route:
    - destination:
        host: user-service
        subset: v2
      weight: 100
  - route:
    - destination:
        host: user-service
        subset: v1
      weight: 90
    - destination:
        host: user-service
        subset: v2
      weight: 10
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: user-service
spec:
  host: user-service
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 100
      http:
        http1MaxPendingRequests: 50
        http2MaxRequests: 100
    loadBalancer:
      simple: LEAST_REQUEST
    outlierDetection:
      consecutiveErrors: 5
      interval: 30s
      baseEjectionTime: 30s
  subsets:
  - name: v1
    labels:
      version: v1
  - name: v2
    labels:
      version: v2
";

fn parsed(text: &str) -> Vec<Document> {
    match parse("a.yaml", text, "default") {
        Ok(documents) => documents,
        Err(problems) => panic!("{}", lines(&problems)),
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn refused(text: &str) -> Vec<String> {
    match parse("a.yaml", text, "default") {
        Ok(documents) => panic!("taken: {documents:?}"),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

/// `line: field: reason` of the only problem.
#[track_caller]
fn assert_refused(text: &str, line: u32, field: &str, reason: &str) {
    match parse("a.yaml", text, "default") {
        Ok(documents) => panic!("taken: {documents:?}"),
        Err(problems) => {
            assert_eq!(problems.len(), 1, "{}", lines(&problems));
            let problem = &problems[0];
            let found = (problem.line, problem.field.as_str());
            assert_eq!(found, (line, field), "{problem}");
            assert!(problem.reason.contains(reason), "{problem}");
        }
    }
}

fn one(text: &str) -> Document {
    let mut documents = parsed(text);
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

#[test]
fn the_owners_configuration_is_taken_as_it_stands() {
    let documents = parsed(ISSUE);
    let [first, second] = documents.as_slice() else {
        panic!("{documents:?}")
    };
    assert_eq!(first.key.to_string(), "VirtualService/default/user-service");
    assert_eq!((first.origin.line, second.origin.line), (1, 28));
    let Spec::VirtualService(rule) = &first.spec else {
        panic!("{first:?}")
    };
    let host = "user-service.default.svc.cluster.local";
    assert_eq!(rule.hosts, [host]);
    assert_eq!(
        rule.http[0].matches[0].headers,
        [("version".into(), Some(StringMatch::Exact("v2".into())))]
    );
    let split: Vec<_> = rule.http[1]
        .route
        .iter()
        .map(|to| (to.host.as_str(), to.subset.as_str(), to.weight))
        .collect();
    assert_eq!(split, [(host, "v1", 90), (host, "v2", 10)]);

    let Spec::DestinationRule(rule) = &second.spec else {
        panic!("{second:?}")
    };
    let policy = rule.policy.clone().unwrap();
    let pool = policy.connection_pool.unwrap();
    assert_eq!(
        (pool.max_connections, pool.max_pending_requests, pool.max_requests),
        (100, 50, 100)
    );
    assert_eq!(policy.load_balancer, Some(LoadBalancer::default()));
    let outlier = policy.outlier_detection.unwrap();
    assert_eq!(
        outlier,
        OutlierDetection {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            split_local_origin_errors: false,
            consecutive_local_origin_failures: 0,
            interval: Duration::from_secs(30),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
            error_statuses: Vec::new(),
            as_envoy: false,
        }
    );
    assert_eq!(rule.subsets.len(), 2);
}

#[test]
fn a_stored_document_is_read_back_the_same() {
    for document in parsed(ISSUE) {
        assert_eq!(document.object["metadata"]["namespace"], "default");
        let back = from_stored(&document.object).unwrap();
        assert_eq!(
            (&back.key, &back.spec, &back.object),
            (&document.key, &document.spec, &document.object)
        );
    }
    let problem = from_stored(&serde_json::json!({"kind": "Service"})).unwrap_err();
    assert_eq!(problem.to_string(), "Service/?: apiVersion: is required");
}
