//! What is analysed: documents of ours, and of others only which workloads there are, with which labels.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Finding, Severity};
use crate::config::{Document, Problem, parse_raw, survey};

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
    /// Of documents that are refused, of text that is none, and of what is no object of Kubernetes, which is a hint.
    pub refused: Vec<Finding>,
    /// How many documents were read, refused ones and all.
    pub count: usize,
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
        self.documents.extend(survey.documents);
        self.workloads
            .extend(survey.others.iter().filter_map(|other| workload(other, namespace)));
        self.refused.extend(survey.problems.into_iter().map(refused));
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
