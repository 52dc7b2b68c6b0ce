//! However much is found: nothing of it is lost from the totals, and the worst of it is shown.

use std::fmt::Write;

use super::*;
use crate::analyze::{Severity, Totals, Unwanted};

fn report_of(unwanted: Unwanted, text: &str) -> Report {
    let mut input = Input::default();
    input.read("a.yaml", text, "default");
    let documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let mut report = Report::without(unwanted);
    let surroundings = Surroundings {
        workloads: &input.workloads,
        ..Surroundings::default()
    };
    analyze(&documents, surroundings, &mut report);
    report
}

fn subsets(count: usize, labels: &str) -> String {
    let mut list = String::new();
    for index in 0..count {
        write!(list, "{{name: s{index}, labels: {{{labels}}}}}, ").unwrap();
    }
    list
}

const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [e.mesh], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.1, labels: {version: v1}}]}\n---\n";

#[test]
fn hints_in_any_number_give_way_to_an_error_and_every_finding_is_counted() {
    let good = policy(
        "d",
        &format!("host: e.mesh, subsets: [{}]", subsets(1_100, "version: v1")),
    );
    let bad = policy("z", "host: e.mesh, subsets: [{name: bad, labels: {version: v9}}]");
    let report = report_of(Unwanted::default(), &format!("{ENTRY}{good}{bad}"));
    let totals = Totals {
        errors: 1,
        warnings: 0,
        hints: 1_101,
    };
    assert_eq!(report.totals(), totals);
    let shown = report.into_findings();
    assert_eq!(shown.len(), 1_000);
    assert_eq!((shown[0].code, shown[0].name.as_str()), ("IST0173", "z"));
}

#[test]
fn what_nobody_asked_about_takes_no_place_and_is_not_counted() {
    let bad = policy(
        "d",
        &format!("host: e.mesh, subsets: [{}]", subsets(1_500, "version: v9")),
    );
    let unwanted = Unwanted {
        hints: true,
        before: None,
    };
    let report = report_of(unwanted, &format!("{ENTRY}{bad}"));
    assert_eq!((report.totals().errors, report.totals().all()), (1_500, 1_500));
    let shown = report.into_findings();
    assert_eq!(shown.len(), 1_000);
    assert!(shown.iter().all(|finding| finding.severity == Severity::Error));
}

#[test]
fn of_what_is_in_no_file_only_what_is_new_is_told_and_counted() {
    let bad = policy("d", "host: e.mesh, subsets: [{name: bad, labels: {version: v9}}]");
    let shown = report_of(Unwanted::default(), &format!("{ENTRY}{bad}")).into_findings();
    let finding = |file: &str, what: &str| Finding {
        file: file.to_owned(),
        what: what.to_owned(),
        ..shown[0].clone()
    };
    let mut before = Report::before();
    before.add(finding("", "old"));
    assert_eq!(before.totals().all(), 0);
    let mut report = Report::without(Unwanted {
        hints: false,
        before: before.into_before(),
    });
    (0..2_000).for_each(|_| report.add(finding("", "old")));
    report.add(finding("b.yaml", "old"));
    report.add(finding("", "new"));
    assert_eq!(report.totals().all(), 2);
    let told: Vec<_> = report
        .into_findings()
        .into_iter()
        .map(|it| (it.file, it.what))
        .collect();
    assert_eq!(
        told,
        [("b.yaml", "old"), ("", "new")].map(|(file, what)| (file.to_owned(), what.to_owned()))
    );
}

#[test]
fn a_list_of_names_in_a_message_ends_with_how_many_more_there_are() {
    let good = policy(
        "d",
        &format!("host: e.mesh, subsets: [{}]", subsets(1_100, "version: v1")),
    );
    let route = rule("r", "  - route: [{destination: {host: e.mesh, subset: typo}}]");
    let all = findings_in(&format!("{ENTRY}{good}{route}"));
    let lost = all.iter().find(|it| it.code == "IST0101").expect("found");
    assert_eq!(
        lost.instead,
        "one of s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 1090 more (by DestinationRule/default/d)"
    );
}

#[test]
fn documents_that_are_refused_are_counted_as_read_and_a_text_that_is_not_read_on_says_so() {
    let mut input = Input::default();
    input.read("a.yaml", "kind: Service\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{name: http, port: 80}]}\n", "default");
    assert_eq!(input.count, 2);
    let mut wrong = Input::default();
    wrong.read("w.yaml", &policy("p", "hots: a").repeat(2_000), "default");
    assert_eq!(
        wrong.refused[0].what,
        "there is so much wrong with it that the rest was not read"
    );
    assert!(input.refused.iter().all(|it| !it.what.contains("not read")));
}
