//! Rules for the whole mesh: those of the root namespace hide nobody's, and those of another one are for nobody else.

use super::*;

fn told_by(root_namespace: &str, text: &str) -> Vec<Finding> {
    let mut input = Input::default();
    input.read("a.yaml", text, "default");
    assert_eq!(input.refused, [], "{text}");
    let documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let surroundings = Surroundings {
        workloads: &input.workloads,
        root_namespace,
        ..Surroundings::default()
    };
    let mut report = Report::default();
    analyze(&documents, surroundings, &mut report);
    report.into_findings()
}

fn codes(root_namespace: &str, text: &str) -> Vec<(&'static str, String)> {
    let found = told_by(root_namespace, &format!("{MESH}{text}"));
    let of_mesh = found
        .into_iter()
        .filter(|it| ["TSU-RULE-HIDDEN", "TSU-ROOT-NAMESPACE", "TSU-EXPORT"].contains(&it.code));
    of_mesh.map(|it| (it.code, it.name)).collect()
}

fn default_of(namespace: &str, rest: &str) -> String {
    policy("wide", rest).replace("name: wide}", &format!("name: wide, namespace: {namespace}}}"))
}

const FOR_ALL: &str = "host: '*.local', trafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}";

#[test]
fn what_the_root_namespace_says_for_everyone_hides_no_subset_for_its_own_clients() {
    let wide = default_of("tsunagi-system", FOR_ALL);
    assert_eq!(codes("tsunagi-system", &wide), []);
    let hidden = ("TSU-RULE-HIDDEN", "wide".to_owned());
    assert_eq!(codes("other", &wide), std::slice::from_ref(&hidden));
    // What is for its own clients alone is asked before the service's own.
    let private = default_of("tsunagi-system", &format!("exportTo: [.], {FOR_ALL}"));
    assert_eq!(codes("tsunagi-system", &private), [hidden]);
    let exported = "host: shop.default.svc.cluster.local, exportTo: [default], subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]";
    let exported = default_of("mesh", exported);
    assert_eq!(codes("mesh", &exported), []);
    assert_eq!(codes("other", &exported), [("TSU-EXPORT", "wide".to_owned())]);
}

#[test]
fn rules_of_istios_root_namespace_are_told_that_the_root_namespace_is_another() {
    let sidecar = |rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: wide, namespace: istio-system}}\nspec: {{{rest}outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}}}\n---\n"
        )
    };
    for text in [default_of("istio-system", FOR_ALL), sidecar("")] {
        let found = told_by("tsunagi-system", &text);
        let [told] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(told.code, "TSU-ROOT-NAMESPACE");
        assert!(
            told.what.contains("which is tsunagi-system here (`--root-namespace`)"),
            "{told:?}"
        );
        assert_eq!(told_by("istio-system", &text), []);
    }
    let own = "host: '*.istio-system.svc.cluster.local', trafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}";
    for text in [
        sidecar("workloadSelector: {labels: {app: a}}, "),
        default_of("istio-system", own),
        default_of("elsewhere", FOR_ALL),
    ] {
        assert_eq!(told_by("tsunagi-system", &text), [], "{text}");
    }
}

#[test]
fn subsets_of_the_root_namespace_are_seen_by_everyone() {
    let subset = default_of(
        "mesh",
        "host: several.default.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}]",
    );
    let route = rule(
        "r",
        "  - route: [{destination: {host: several, port: {number: 80}, subset: v1}}]",
    );
    let unseen = |root_namespace: &str| {
        let all = told_by(root_namespace, &format!("{MESH}{subset}{route}"));
        all.iter().filter(|it| it.code == "TSU-SUBSET-UNSEEN").count()
    };
    assert_eq!((unseen("mesh"), unseen("other")), (0, 1));
}
