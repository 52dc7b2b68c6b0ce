//! What is analysed: documents of ours, and of others only which workloads there are, with which labels.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{Finding, Severity};
use crate::config::{Document, Key, Origin, Problem, parse_raw, survey};

/// The labels of pods that a Deployment or another workload makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadLabels {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

/// Kinds whose pods have the labels of their template.
const WORKLOADS: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Rollout"];

#[derive(Debug, Default)]
pub struct Input {
    pub documents: Vec<Document>,
    pub workloads: Vec<WorkloadLabels>,
    /// Of documents that are refused, of text that is none, and, as hints, of what is no object of Kubernetes or of a kind
    /// that is not taken yet.
    pub refused: Vec<Finding>,
    /// How many documents were read, refused ones and all.
    pub count: usize,
    /// Where each was read first.
    first: HashMap<Key, Origin>,
}

impl Input {
    /// Adds the documents of a file; those that say no namespace are in `namespace`.
    pub fn read(&mut self, file: &str, text: &str, namespace: &str) {
        let survey = survey(file, text, namespace);
        self.count += survey.documents.len() + survey.refused;
        if survey.is_cut {
            self.refused.push(refused(Problem {
                file: file.to_owned(),
                reason: "there is so much wrong with it that the rest was not read".to_owned(),
                ..Problem::default()
            }));
        }
        self.refused
            .extend(survey.no_objects.iter().map(|line| no_object(file, *line)));
        for document in survey.documents {
            self.add(document);
        }
        for (line, other) in &survey.others {
            self.workloads.extend(workload(other, namespace));
            self.refused.extend(not_taken(file, *line, other, namespace));
        }
        self.refused.extend(survey.problems.into_iter().map(refused));
    }

    /// One that is there already is refused, as by `apply`.
    fn add(&mut self, document: Document) {
        let Some(first) = self.first.get(&document.key) else {
            self.first.insert(document.key.clone(), document.origin.clone());
            self.documents.push(document);
            return;
        };
        let Origin { file, line } = document.origin;
        // Within a file, that is a problem already.
        if first.file != file {
            self.refused.push(Finding {
                namespace: document.key.namespace,
                ..refused(Problem {
                    file,
                    line,
                    kind: document.key.kind.to_string(),
                    name: document.key.name,
                    field: "metadata.name".to_owned(),
                    reason: format!(
                        "is there twice, first at {}:{}: `apply` refuses both together",
                        first.file, first.line
                    ),
                })
            });
        }
    }
}

fn refused(problem: Problem) -> Finding {
    Finding {
        code: "IST0106",
        severity: Severity::Error,
        file: problem.file,
        line: problem.line,
        kind: problem.kind,
        namespace: String::new(),
        name: problem.name,
        field: problem.field,
        what: problem.reason,
        instead: String::new(),
    }
}

/// Values of a chart, a configuration file: a folder may have them.
fn no_object(file: &str, line: u32) -> Finding {
    Finding {
        code: "TSU-NO-OBJECT",
        severity: Severity::Info,
        ..refused(Problem {
            file: file.to_owned(),
            line,
            reason: "says neither apiVersion nor kind: it is no object of Kubernetes and passed over".to_owned(),
            ..Problem::default()
        })
    }
}

/// What a mesh would act upon: others, such as ConfigMaps, are nobody's rules.
fn not_taken(file: &str, line: u32, object: &Value, default_namespace: &str) -> Option<Finding> {
    let group = object["apiVersion"].as_str()?.split_once('/')?.0;
    if !group.ends_with(".istio.io") && group != "gateway.networking.k8s.io" {
        return None;
    }
    let text = |value: &Value| {
        value
            .as_str()
            .map(|text| text.chars().filter(|c| !c.is_control()).take(253).collect())
    };
    let metadata = &object["metadata"];
    Some(Finding {
        code: "TSU-KIND",
        severity: Severity::Info,
        namespace: text(&metadata["namespace"]).unwrap_or_else(|| default_namespace.to_owned()),
        ..refused(Problem {
            file: file.to_owned(),
            line,
            kind: text(&object["kind"]).unwrap_or_default(),
            name: text(&metadata["name"]).unwrap_or_default(),
            reason:
                "is of a kind that is not taken yet: passed over here, and `apply` refuses a file with it as a whole"
                    .to_owned(),
            ..Problem::default()
        })
    })
}

fn workload(object: &Value, default_namespace: &str) -> Option<WorkloadLabels> {
    let metadata = match object["kind"].as_str()? {
        "Pod" => &object["metadata"],
        kind if WORKLOADS.contains(&kind) => &object["spec"]["template"]["metadata"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["metadata"],
        _ => return None,
    };
    let labels = metadata["labels"].as_object()?;
    let labels = labels
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Some(WorkloadLabels {
        namespace: object["metadata"]["namespace"]
            .as_str()
            .unwrap_or(default_namespace)
            .to_owned(),
        labels: labels.collect(),
    })
}

/// Puts the line of its field in the place of its document's into every finding of this file.
pub fn locate(findings: &mut [Finding], file: &str, text: &str) {
    let Ok(documents) = parse_raw(file, text) else { return };
    for finding in findings.iter_mut().filter(|finding| finding.file == file) {
        if let Some(document) = documents.iter().find(|document| document.line == finding.line) {
            finding.line = document.line_of(&finding.field);
        }
    }
}
