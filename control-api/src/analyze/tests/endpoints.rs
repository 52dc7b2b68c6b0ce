//! Whose a host is, which endpoints it has, and whether all of a place can be ejected.

use super::*;

fn entry(namespace: &str, name: &str, host: &str, port: u16, endpoints: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{hosts: [{host}], resolution: STATIC, ports: [{{number: {port}, name: http}}], endpoints: [{endpoints}]}}\n---\n"
    )
}

const SHOP: &str = "shop.default.svc.cluster.local";

fn of<'f>(all: &'f [Finding], code: &str) -> Vec<&'f Finding> {
    all.iter().filter(|it| it.code == code).collect()
}

#[test]
fn a_service_owns_its_name_whichever_document_stands_first() {
    // By name and namespace, these would come before the Service.
    for name in ["aaa", "zzz"] {
        let squat = entry("aaa", name, SHOP, 99, "{address: 10.0.0.9}");
        let route = rule(
            "r",
            "  - route: [{destination: {host: shop, port: {number: 80}, subset: v1}}]",
        );
        let port = policy(
            "p",
            "host: shop, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
        );
        let all = findings_in(&format!("{squat}{MESH}{route}{port}"));
        let same = of(&all, "TSU-SAME-HOST");
        assert_eq!(same.len(), 1, "{all:?}");
        assert_eq!((same[0].kind.as_str(), same[0].name.as_str()), ("ServiceEntry", name));
        assert!(same[0].what.contains("belongs to Service/default/shop"), "{same:?}");
        for code in ["IST0173", "TSU-PORT", "IST0101"] {
            assert!(of(&all, code).is_empty(), "{all:?}");
        }
    }
}

#[test]
fn what_is_of_the_owners_namespace_is_of_the_host_ports_and_endpoints_and_all() {
    let half = entry("default", "aaa", SHOP, 90, "{address: 10.0.0.9, labels: {version: v7}}");
    let both = policy(
        "p",
        "host: shop, subsets: [{name: v7, labels: {version: v7}}], trafficPolicy: {portLevelSettings: [{port: {number: 90}, loadBalancer: {simple: RANDOM}}, {port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
    );
    for code in ["TSU-SAME-HOST", "IST0173", "TSU-PORT"] {
        has_not(&format!("{half}{both}"), code);
    }
    has(&both, "IST0173", "spec.subsets[0].labels");
    has(&both, "TSU-PORT", "spec.trafficPolicy.portLevelSettings[0].port");
    // Of another namespace that had a name first.
    let two = entry("web", "one", "x.example.com", 80, "{address: 10.0.0.1}")
        + &entry("default", "two", "x.example.com", 80, "{address: 10.0.0.2}");
    let all = findings_in(&two);
    assert_eq!(of(&all, "TSU-SAME-HOST")[0].name, "two");
}

#[test]
fn an_endpoint_that_is_listed_twice_is_named_where_it_stands_again() {
    let code = "TSU-ENDPOINT-TWICE";
    let address = |index: usize| format!("spec.endpoints[{index}].address");
    let twice = entry(
        "default",
        "e",
        "e.mesh, f.mesh",
        80,
        "{address: 10.0.0.1}, {address: 10.0.0.2}, {address: 10.0.0.1}",
    );
    let all = findings_in(&twice);
    let found = of(&all, code);
    assert_eq!(found.len(), 1, "once for all hosts: {all:?}");
    assert_eq!(found[0].field, address(2));
    assert!(
        found[0].what.contains("spec.endpoints[0] of ServiceEntry/default/e"),
        "{found:?}"
    );
    let ports = entry(
        "default",
        "e",
        "e.mesh",
        80,
        "{address: 10.0.0.1, ports: {http: 1}}, {address: 10.0.0.1, ports: {http: 2}}",
    );
    has_not(&ports, code);
    // Half-way through a migration.
    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.1, labels: {app: shop}}\n---\n";
    has_not(workload, code);
    let listed = entry("default", "e", SHOP, 80, "{address: 10.0.0.1}");
    has(&format!("{workload}{listed}"), code, &address(0));
}

#[test]
fn a_weight_of_zero_says_that_it_counts_as_one() {
    let weights = |list: &str| entry("default", "e", "e.mesh", 80, list);
    let zero = weights("{address: 10.0.0.1, weight: 3}, {address: 10.0.0.2, weight: 0}");
    has(&zero, "TSU-WEIGHTS", "spec.endpoints[1].weight");
    has_not(
        &weights("{address: 10.0.0.1, weight: 3}, {address: 10.0.0.2}"),
        "TSU-WEIGHTS",
    );
    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.1, weight: 0}\n---\n";
    has(workload, "TSU-WEIGHTS", "spec.weight");
}

/// Four endpoints in four places, two of a region.
const FOUR: &str = "{address: 10.0.0.1, locality: eu/a}, {address: 10.0.0.2, locality: eu/b}, {address: 10.0.0.3, locality: us/a}, {address: 10.0.0.4, locality: asia/a}";

fn ejecting(endpoints: &str, rest: &str) -> String {
    let rule = policy("p", &format!("host: e.mesh, trafficPolicy: {{{rest}}}"));
    entry("default", "e", "e.mesh", 80, endpoints) + &rule
}

#[test]
fn a_share_that_cannot_empty_the_places_before_the_last_is_weighed_against_failover() {
    let (code, field) = ("TSU-FAILOVER", "spec.trafficPolicy.outlierDetection.maxEjectionPercent");
    let balancer = "loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}, ";
    let with = |balancer: &str, percent: u8| {
        let outlier = format!("outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: {percent}}}");
        format!("{balancer}{outlier}")
    };
    let told = ejecting(FOUR, &with(balancer, 10));
    has(&told, code, field);
    let all = findings_in(&told);
    let hint = of(&all, code)[0];
    assert_eq!(
        hint.what,
        "10 % of 4 endpoints ejects 1, and from eu/a requests go over to asia/a entirely only once 3 are: until then nearer ones that fail get some of them"
    );
    assert_eq!(hint.instead, "maxEjectionPercent: 100");
    // By default, too; and where nothing else is to be said of the percentage.
    has(&ejecting(FOUR, &with("", 40)), code, field);
    for enough in [75, 100] {
        has_not(&ejecting(FOUR, &with(balancer, enough)), code);
        has_not(&ejecting(FOUR, &with(balancer, enough)), "TSU-OUTLIER");
    }
    // Of two places the first is always left.
    let two = "{address: 10.0.0.1, locality: eu/a}, {address: 10.0.0.2, locality: us/a}";
    has_not(&ejecting(two, &with(balancer, 10)), code);
}

#[test]
fn where_localities_lead_nowhere_nothing_is_said_of_failover() {
    let code = "TSU-FAILOVER";
    let outlier = "outlierDetection: {consecutive5xxErrors: 1}";
    for balancer in [
        "loadBalancer: {localityLbSetting: {enabled: false}}, ",
        "loadBalancer: {localityLbSetting: {distribute: [{from: eu/*, to: {eu/*: 80, us/*: 20}}]}}, ",
    ] {
        has_not(&ejecting(FOUR, &format!("{balancer}{outlier}")), code);
    }
    let unknown = "{address: 10.0.0.1}, {address: 10.0.0.2}, {address: 10.0.0.3}";
    has_not(&ejecting(unknown, outlier), code);
    // A pod may be anywhere.
    has_not(
        &policy("p", &format!("host: several, trafficPolicy: {{{outlier}}}")),
        code,
    );
}

#[test]
fn failover_is_weighed_where_all_endpoints_are_selected_workload_entries() {
    let (code, field) = ("TSU-FAILOVER", "spec.trafficPolicy.outlierDetection.maxEjectionPercent");
    let entries: String = ["eu/a", "eu/b", "us/a"]
        .into_iter()
        .enumerate()
        .map(|(number, locality)| {
            format!("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w{number}}}\nspec: {{address: 10.0.0.{number}, locality: {locality}, labels: {{app: vm}}}}\n---\n")
        })
        .collect();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: e}\nspec: {selector: {app: vm}, ports: [{name: http, port: 80}]}\n---\n";
    let selecting = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [e.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http}], workloadSelector: {labels: {app: vm}}}\n---\n";
    let rule = policy(
        "p",
        "host: e, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}",
    );
    for of_service in [service, selecting] {
        has(&format!("{of_service}{entries}{rule}"), code, field);
        // A pod that is selected, too, may be anywhere.
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: vm-1, labels: {app: vm}}\n---\n";
        has_not(&format!("{of_service}{entries}{pod}{rule}"), code);
        let dns = of_service.replace("STATIC", "DNS");
        if dns != of_service {
            has_not(&format!("{dns}{entries}{rule}"), code);
        }
    }
}

#[test]
fn a_share_of_zero_is_never_advised() {
    let outlier = |least: u8| format!("outlierDetection: {{maxEjectionPercent: 100, minHealthPercent: {least}}}");
    let advice = |least: u8| {
        let all = findings_in(&format!("{MESH}{}", ejecting(FOUR, &outlier(least))));
        let told = of(&all, "TSU-OUTLIER");
        told.iter().map(|it| it.instead.clone()).collect::<Vec<_>>()
    };
    assert_eq!(advice(100), ["a smaller minHealthPercent"]);
    assert_eq!(advice(60), ["maxEjectionPercent: 40, or a smaller minHealthPercent"]);
}

#[test]
fn failover_by_labels_is_counted_by_labels_and_that_of_a_subset_by_its_endpoints() {
    let code = "TSU-FAILOVER";
    let labelled = "{address: 10.0.0.1, labels: {rack: a, v: x}}, {address: 10.0.0.2, labels: {rack: a, v: x}}, {address: 10.0.0.3, labels: {rack: b, v: y}}";
    let by_rack =
        "loadBalancer: {localityLbSetting: {failoverPriority: [rack]}}, outlierDetection: {consecutive5xxErrors: 1}";
    has(
        &ejecting(labelled, by_rack),
        code,
        "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
    );
    let subset = |version: &str| {
        let rule =
            format!("host: e.mesh, subsets: [{{name: s, labels: {{v: {version}}}, trafficPolicy: {{{by_rack}}}}}]");
        entry("default", "e", "e.mesh", 80, labelled) + &policy("p", &rule)
    };
    has_not(&subset("x"), code);
    let named = by_rack.replace("[rack]", "['rack=b']");
    has(
        &ejecting(labelled, &named.replace("rack=b", "rack=a")),
        code,
        "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
    );
    has_not(&ejecting(labelled, &named), code);
}
