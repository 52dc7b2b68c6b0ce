//! A text with any number of documents: every document is read, every problem of every document is reported.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use serde_json::Value;

use super::reader;
use super::report::{Finding, MOST_FINDINGS, path_text};
use super::yaml::{self, Node, Step};
use super::{Document, Kind, Origin, Problem};

/// Far above any sensible apply.
const LONGEST_TEXT_BYTES: usize = 64 << 20;
/// Problems of one text after which the rest is not shown.
const MOST_PROBLEMS: usize = 1000;

/// All documents of `text`, or everything that is wrong with it. `file` is what the problems name; documents that say
/// no namespace are in `default_namespace`.
pub fn parse(file: &str, text: &str, default_namespace: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let mut reading = Reading::new(file, default_namespace);
    if reading.fits(text) {
        reading.text(text);
    }
    if reading.problems.is_empty() {
        Ok(reading.documents)
    } else {
        Err(reading.problems)
    }
}

/// What is in a text that need not be all ours.
#[derive(Debug, Default)]
pub struct Survey {
    pub documents: Vec<Document>,
    pub problems: Vec<Problem>,
    /// Of kinds that are not ours, as they stand, with their lines.
    pub others: Vec<(u32, Value)>,
    /// Lines of mappings that say neither what they are nor by which API: no objects.
    pub no_objects: Vec<u32>,
    /// How many documents the problems are of.
    pub refused: usize,
    /// There were so many problems that the rest was not read.
    pub is_cut: bool,
}

/// As `parse`, but what is wrong or not ours does not keep the rest back.
pub fn survey(file: &str, text: &str, default_namespace: &str) -> Survey {
    let mut reading = Reading::new(file, default_namespace);
    reading.others = Some(Vec::new());
    if reading.fits(text) {
        reading.text(text);
    }
    Survey {
        refused: reading.refused,
        is_cut: reading.is_full(),
        documents: reading.documents,
        problems: reading.problems,
        others: reading.others.unwrap_or_default(),
        no_objects: reading.no_objects,
    }
}

/// A document that was accepted before, read back from the store.
#[allow(
    clippy::result_large_err,
    reason = "called once a document at start; a problem is made once in a lifetime"
)]
pub fn from_stored(object: &Value) -> Result<Document, Problem> {
    from_object(object.clone()).map_err(|problems| problems.into_iter().next().unwrap_or_default())
}

/// One document that is in nobody's file, or everything that is wrong with it.
pub fn from_object(object: Value) -> Result<Document, Vec<Problem>> {
    let names = names_of(&object);
    reader::document(object, Origin::default(), "").map_err(|findings| {
        let mut reading = Reading::new("", "");
        for finding in findings {
            reading.problem(0, &names, path_text(&finding.path), quoted(&finding, None));
        }
        reading.problems
    })
}

struct Reading<'a> {
    file: &'a str,
    default_namespace: &'a str,
    documents: Vec<Document>,
    problems: Vec<Problem>,
    /// Where documents of kinds that are not ours go; `None`: they are refused.
    others: Option<Vec<(u32, Value)>>,
    /// Lines of what is none, where it is not refused.
    no_objects: Vec<u32>,
    /// Documents that have problems of their own.
    refused: usize,
}

impl<'a> Reading<'a> {
    fn new(file: &'a str, default_namespace: &'a str) -> Self {
        Self {
            file,
            default_namespace,
            documents: Vec::new(),
            problems: Vec::new(),
            others: None,
            no_objects: Vec::new(),
            refused: 0,
        }
    }

    fn fits(&mut self, text: &str) -> bool {
        let fits = text.len() <= LONGEST_TEXT_BYTES;
        if !fits {
            let reason = format!("longer than {} MiB: split it", LONGEST_TEXT_BYTES >> 20);
            self.problem(1, &Value::Null, String::new(), reason);
        }
        fits
    }

    fn text(&mut self, text: &str) {
        yaml::each_tree(text, |tree| {
            self.tree(&tree);
            if self.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.find_repeats();
        self.problems.truncate(MOST_PROBLEMS);
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= MOST_PROBLEMS
    }

    fn tree(&mut self, tree: &yaml::Tree) {
        if !tree.faults.is_empty() {
            // The document is not what its author wrote: its fields would only add noise.
            self.refused += 1;
            let object = tree
                .root
                .as_ref()
                .and_then(|root| root.to_value().ok())
                .unwrap_or_default();
            for fault in &tree.faults {
                self.problem(fault.line, &object, String::new(), fault.reason.clone());
            }
            return;
        }
        let Some(root) = &tree.root else { return };
        match root.to_value() {
            Ok(Value::Object(object)) if is_list(&object) => self.list(root, object),
            Ok(value) => self.value(value, root, &[], tree.line),
            Err(fault) => {
                self.refused += 1;
                self.problem(fault.line, &Value::Null, String::new(), fault.reason);
            }
        }
    }

    /// `kind: List`, or `kind: VirtualServiceList` whose items need not say what they are.
    fn list(&mut self, root: &Rc<Node>, mut object: serde_json::Map<String, Value>) {
        let items = object.remove("items");
        let line = root.line_of(&[Step::Key("items".to_owned())]);
        let whole = Value::Object(object);
        let is_unknown = |key: &&String| !["apiVersion", "kind", "metadata"].contains(&key.as_str());
        let keys = whole.as_object().into_iter().flat_map(|object| object.keys());
        // The line of each is looked for among all.
        for key in keys.filter(is_unknown).take(MOST_FINDINGS) {
            let step = [Step::Key(key.clone())];
            self.problem(
                root.line_of(&step),
                &whole,
                path_text(&step),
                "unknown field".to_owned(),
            );
        }
        let items = match items {
            None | Some(Value::Null) => return,
            Some(Value::Array(items)) => items,
            Some(_) => return self.problem(line, &whole, "items".to_owned(), "must be a list".to_owned()),
        };
        for (index, mut item) in items.into_iter().enumerate() {
            if self.is_full() {
                return;
            }
            let path = [Step::Key("items".to_owned()), Step::Index(index)];
            if item.as_object().is_some_and(is_list) {
                let reason = "a list inside a list is not supported".to_owned();
                self.problem(root.line_of(&path), &whole, path_text(&path), reason);
                continue;
            }
            inherit(&mut item, &whole);
            self.value(item, root, &path, root.line_of(&path));
        }
    }

    /// One document at `path` of the tree.
    fn value(&mut self, value: Value, root: &Rc<Node>, path: &[Step], line: u32) {
        let origin = Origin {
            file: self.file.to_owned(),
            line,
        };
        if let (Some(others), Some(kind)) = (&mut self.others, value["kind"].as_str())
            && Kind::of_document(kind).is_none()
        {
            others.push((line, value));
            return;
        }
        let says = |key: &str| value.get(key).is_some_and(|said| !said.is_null());
        if self.others.is_some() && value.is_object() && !says("kind") && !says("apiVersion") {
            return self.no_objects.push(line);
        }
        // The reader takes the value; the names are for its problems.
        let names = names_of(&value);
        match reader::document(value, origin, self.default_namespace) {
            Ok(document) => self.documents.push(document),
            Err(findings) => {
                self.refused += 1;
                for finding in findings {
                    let whole: Vec<Step> = path.iter().chain(&finding.path).cloned().collect();
                    let written = root.written(&whole);
                    let reason = quoted(&finding, written);
                    self.problem(root.line_of(&whole), &names, path_text(&finding.path), reason);
                }
            }
        }
    }

    fn problem(&mut self, line: u32, object: &Value, field: String, reason: String) {
        let text = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str).unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(253).collect::<String>()
        };
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            kind: text(object.get("kind")),
            name: text(object.get("metadata").and_then(|metadata| metadata.get("name"))),
            field,
            reason,
        });
    }

    /// Two documents with one key in one transaction contradict each other.
    fn find_repeats(&mut self) {
        let mut repeats = Vec::new();
        let mut first = HashMap::with_capacity(self.documents.len());
        for document in &self.documents {
            if let Some(line) = first.insert(&document.key, document.origin.line) {
                repeats.push((document.origin.line, document.object.clone(), line));
            }
        }
        for (line, object, first) in repeats {
            self.problem(
                line,
                &object,
                "metadata.name".to_owned(),
                format!("is there already, on line {first}"),
            );
        }
    }
}

/// What is wrong, with what to write where its author forgot the quotes: a number is not always shown as it was written.
fn quoted(finding: &Finding, written: Option<&str>) -> String {
    let reason = &finding.reason;
    match finding.unquoted.as_deref().map(|value| written.unwrap_or(value)) {
        None => reason.clone(),
        Some("") => format!("{reason}: write it in quotes"),
        Some(written) => format!("{reason}: write \"{written}\" in quotes"),
    }
}

fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let listed = object
        .get("kind")
        .and_then(Value::as_str)
        .and_then(|kind| kind.strip_suffix("List"));
    listed.is_some_and(|kind| kind.is_empty() || Kind::of_document(kind).is_some())
}

/// Items of a typed list, as an API server sends them, leave out what the list says.
fn inherit(item: &mut Value, list: &Value) {
    let kind = list
        .get("kind")
        .and_then(Value::as_str)
        .and_then(|kind| kind.strip_suffix("List"))
        .unwrap_or_default();
    let (Some(item), Some(_)) = (item.as_object_mut(), Kind::of_document(kind)) else {
        return;
    };
    item.entry("kind").or_insert_with(|| kind.into());
    if let Some(version) = list.get("apiVersion") {
        item.entry("apiVersion").or_insert_with(|| version.clone());
    }
}

/// Only what a problem shows of a document.
fn names_of(value: &Value) -> Value {
    let name = value
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .cloned()
        .unwrap_or_default();
    serde_json::json!({ "kind": value.get("kind").cloned().unwrap_or_default(), "metadata": { "name": name } })
}
