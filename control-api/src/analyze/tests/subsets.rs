//! Routes to subsets that only some of their clients see.

use super::*;

const CODE: &str = "TSU-SUBSET-UNSEEN";
const FIELD: &str = "spec.http[0].route[0].destination.subset";

fn to_a() -> String {
    rule(
        "r",
        "  - route: [{destination: {host: several, port: {number: 80}, subset: a}}]",
    )
    .replace("hosts: [shop]", "hosts: [several]")
}

fn a_for(whom: &str) -> String {
    policy(
        "p",
        &format!("host: several, subsets: [{{name: a, labels: {{version: v1}}}}], {whom}"),
    )
}

#[test]
fn a_rule_that_takes_a_subset_away_from_other_namespaces_is_named_with_whom_and_why() {
    let private = to_a() + &a_for("exportTo: [.]");
    let all = findings_in(&format!("{MESH}{private}"));
    let unseen = all.iter().find(|it| it.code == CODE).expect("found");
    assert_eq!((unseen.name.as_str(), unseen.field.as_str()), ("r", FIELD));
    assert_eq!(
        unseen.what,
        "several.default.svc.cluster.local has no subset a for clients outside namespace default: DestinationRule/default/p, which defines a, is exported to `.` only: such requests get 503 NC"
    );
    has_not(&(to_a() + &a_for("exportTo: ['*']")), CODE);
    // Who sees the route sees the rule.
    let own = private.replace("  hosts:", "  exportTo: [.]\n  hosts:");
    has_not(&own, CODE);
    let selecting = to_a() + &a_for("workloadSelector: {matchLabels: {app: shop}}");
    has(&selecting, CODE, FIELD);
}

/// `clients: instead` of each.
fn unseen(text: &str) -> Vec<String> {
    let all = findings_in(&format!("{MESH}{text}"));
    let unseen = all.iter().filter(|it| it.code == CODE);
    unseen.map(|it| format!("{}: {}", it.what, it.instead)).collect()
}

#[test]
fn clients_that_no_selector_or_another_one_selects_lack_what_the_selected_ones_have() {
    const INSTEAD: &str = "the subset also in the rule that is in force for these clients, or in one without workloadSelector that they see";
    let selecting = a_for("workloadSelector: {matchLabels: {app: shop}}");
    let own = to_a().replace("  hosts:", "  exportTo: [.]\n  hosts:");
    let host = "several.default.svc.cluster.local has no subset a for clients of namespace default";
    let of_rest = format!(
        "{host} that no workloadSelector selects: DestinationRule/default/p, which defines a, is for workloads of namespace default that it selects only: such requests get 503 NC: {INSTEAD}"
    );
    assert_eq!(unseen(&(own.clone() + &selecting)), [of_rest.as_str()]);
    // Who is outside is told of beside them, not in their place.
    let all = unseen(&(to_a() + &selecting));
    assert!(all.len() == 2 && all.contains(&of_rest), "{all:?}");
    // A rule that others do not see leaves them out of it.
    let another = policy("q", "host: several, workloadSelector: {matchLabels: {app: db}}");
    let all = unseen(&(own.clone() + &selecting + &another));
    let of_db = format!(
        "{host} with labels app=db: DestinationRule/default/q, in force for them, does not define it: such requests get 503 NC: {INSTEAD}"
    );
    assert!(all.len() == 2 && all.contains(&of_db), "{all:?}");
    let for_all = a_for("").replace("name: p}", "name: all}");
    assert_eq!(unseen(&(own + &selecting + &for_all)), [""; 0]);
}

#[test]
fn where_only_the_rule_is_in_a_file_it_is_told_there() {
    let mut input = Input::default();
    input.read("", &format!("{MESH}{}", to_a()), "default");
    input.read("p.yaml", &a_for("exportTo: [.]"), "default");
    let documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let mut report = Report::default();
    let surroundings = Surroundings {
        workloads: &input.workloads,
        ..Surroundings::default()
    };
    analyze(&documents, surroundings, &mut report);
    let all = report.into_findings();
    let unseen = all.iter().find(|it| it.code == CODE).expect("found");
    assert_eq!(
        (unseen.file.as_str(), unseen.field.as_str()),
        ("p.yaml", "spec.exportTo")
    );
    let words = "clients outside namespace default do not see the subset a, which VirtualService/default/r names in";
    assert!(unseen.what.starts_with(words), "{unseen:?}");
}
