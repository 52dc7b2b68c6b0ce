//! One document: which kind it is, its metadata, and its spec through the reader of its kind. Called for every
//! document of a text and for what comes back from the store.

use std::collections::BTreeMap;
use std::str::FromStr;

use prost_types::Timestamp;
use serde_json::Value;

use super::kind::{LATER, NETWORKING};
use super::read::{Field, Fields};
use super::report::{Finding, Report};
use super::scalar::shown;
use super::{
    About, Created, Document, Key, Kind, Origin, Spec, destination_rule, distribution, names, service, service_entry,
    sidecar, virtual_service, workload_entry,
};

const DOCUMENT: Fields = Fields {
    supported: &["apiVersion", "kind", "metadata", "spec", "status"],
    later: &[],
};
const METADATA: Fields = Fields {
    supported: &[
        "name",
        "namespace",
        "labels",
        "annotations",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ],
    later: &["generateName"],
};
/// With what annotations of ours begin.
const ANNOTATIONS: &str = "tsunagi.io/";
/// Where a document is that says no namespace, unless the caller says otherwise.
const DEFAULT_NAMESPACE: &str = "default";

/// The typed document, or everything that is wrong with it.
pub(super) fn document(object: Value, origin: Origin, default_namespace: &str) -> Result<Document, Vec<Finding>> {
    let report = Report::default();
    let read = read(&Field::root(&object, &report), default_namespace);
    match read {
        Some(Read {
            key,
            labels,
            created,
            spec,
        }) if report.is_empty() => {
            let object = as_stored(object, &key);
            Ok(Document {
                key,
                object,
                spec,
                origin,
                labels,
                created,
                remarks: report.into_remarks(),
            })
        }
        _ => Err(report.into_findings()),
    }
}

struct Read {
    key: Key,
    labels: BTreeMap<String, String>,
    created: Option<Created>,
    spec: Spec,
}

fn read(root: &Field<'_>, default_namespace: &str) -> Option<Read> {
    if !root.is_message(&DOCUMENT) {
        return None;
    }
    let kind = kind(root);
    let metadata = root
        .required("metadata")
        .filter(|metadata| metadata.is_message(&METADATA));
    let default_namespace = if default_namespace.is_empty() {
        DEFAULT_NAMESPACE
    } else {
        default_namespace
    };
    let namespace = match &metadata {
        Some(metadata) => namespace(metadata, default_namespace),
        None => default_namespace,
    };
    let name = metadata.as_ref().and_then(|metadata| name(metadata, kind));
    let labels = metadata
        .as_ref()
        .and_then(|m| m.get("labels").map(|field| field.labels()))
        .unwrap_or_default();
    let created = metadata.as_ref().and_then(|m| created(&m.get("creationTimestamp")?));
    if let Some(metadata) = &metadata {
        shapes(metadata, kind);
    }
    let kind = kind?;
    let field = root.required("spec")?;
    let field = match kind.group() {
        NETWORKING => field.as_protobuf(),
        _ => field,
    };
    let mut spec = spec(kind, &field, namespace, &labels)?;
    if let (Spec::WorkloadEntry(entry), Some(status)) = (&mut spec, root.get("status")) {
        entry.healthy = workload_entry::is_healthy(&status);
    }
    if let Some(annotations) = metadata.as_ref().and_then(|metadata| metadata.get("annotations")) {
        distribution::annotate(&mut spec, &annotations);
    }
    if let (Spec::DestinationRule(rule), Some(metadata)) = (&mut spec, &metadata)
        && let Some(annotations) = metadata.get("annotations")
    {
        destination_rule::read_annotations(&annotations, rule);
    }
    let key = Key {
        kind,
        namespace: namespace.to_owned(),
        name: name?.to_owned(),
    };
    Some(Read {
        key,
        labels,
        created,
        spec,
    })
}

fn spec(kind: Kind, spec: &Field<'_>, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Spec> {
    match kind {
        Kind::Service => Some(Spec::Service(service::read(spec))),
        Kind::VirtualService => virtual_service::read(spec, namespace).map(Spec::VirtualService),
        Kind::DestinationRule => {
            destination_rule::read(spec, namespace).map(|rule| Spec::DestinationRule(Box::new(rule)))
        }
        Kind::ServiceEntry => service_entry::read(spec).map(Spec::ServiceEntry),
        Kind::WorkloadEntry => workload_entry::read(spec, labels).map(Spec::WorkloadEntry),
        Kind::Sidecar => sidecar::read(spec).map(Spec::Sidecar),
        // Nobody writes one: they are made of what a cluster says.
        Kind::EndpointSlice | Kind::Node => None,
    }
}

fn kind(root: &Field<'_>) -> Option<Kind> {
    let version = root.required("apiVersion").and_then(|field| field.word());
    let field = root.required("kind")?;
    let text = field.word()?;
    let Some(kind) = Kind::of_document(text) else {
        if LATER.iter().any(|(later, _)| *later == text) {
            field.refuse(format!("{text} is known but not supported yet"));
        } else {
            let known = names::did_you_mean(text, Kind::ALL.into_iter().map(Kind::as_str));
            field.refuse(format!("{} is not a kind that is known{known}", shown(text)));
        }
        return None;
    };
    let version = version?;
    if !kind
        .versions()
        .iter()
        .any(|of_kind| version == api_version(kind, of_kind))
    {
        let known: Vec<String> = kind
            .versions()
            .iter()
            .map(|of_kind| api_version(kind, of_kind))
            .collect();
        root.refuse_at(
            "apiVersion",
            format!("{kind} is not in {}, but in {}", shown(version), known.join(", ")),
        );
    }
    Some(kind)
}

fn api_version(kind: Kind, version: &str) -> String {
    match kind.group() {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

fn namespace<'a>(metadata: &'a Field<'a>, default_namespace: &'a str) -> &'a str {
    // Kubernetes takes an empty namespace for none.
    let Some(field) = metadata.get("namespace").filter(|field| !field.is("")) else {
        return default_namespace;
    };
    let text = field.text().unwrap_or(default_namespace);
    if !names::is_dns_label(text) {
        field.refuse(format!("{} is not a namespace name", shown(text)));
    }
    text
}

fn name<'a>(metadata: &'a Field<'a>, kind: Option<Kind>) -> Option<&'a str> {
    if metadata.get("generateName").is_some() && metadata.get("name").is_none() {
        return None;
    }
    let field = metadata.required("name")?;
    let text = field.text()?;
    let (good, what) = match kind {
        Some(Kind::Service) => (names::is_dns_label(text), "the name of a Service"),
        _ => (names::is_dns_subdomain(text), "a name"),
    };
    if !good {
        field.refuse(format!("{} is not {what}: use a-z, 0-9 and -", shown(text)));
    }
    Some(text)
}

/// What nothing is read from here must still be what Kubernetes takes; a version to write over must not be missed.
fn shapes(metadata: &Field<'_>, kind: Option<Kind>) {
    for name in ["resourceVersion", "uid", "selfLink"] {
        if let Some(field) = metadata.get(name) {
            field.text();
        }
    }
    for name in ["generation", "deletionGracePeriodSeconds"] {
        if let Some(field) = metadata.get(name) {
            field.number(0, i64::MAX);
        }
    }
    if let Some(time) = metadata.get("deletionTimestamp") {
        created(&time);
    }
    if let Some(finalizers) = metadata.get("finalizers") {
        finalizers.check_words();
    }
    for name in ["ownerReferences", "managedFields"] {
        if let Some(list) = metadata.get(name) {
            for item in list.items() {
                item.is_mapping();
            }
        }
    }
    let Some(annotations) = metadata.get("annotations") else {
        return;
    };
    for (key, value) in annotations.entries() {
        if !names::is_label_key(&key.to_ascii_lowercase()) {
            value.refuse("not an annotation key");
        }
        value.text();
        if let Some(kind) = kind {
            of_tsunagi(&annotations, key, kind);
        }
    }
    if kind == Some(Kind::Service) {
        service::check_annotations(&annotations);
    }
}

/// Whoever writes an annotation of ours wants something by it.
fn of_tsunagi(annotations: &Field<'_>, name: &str, kind: Kind) {
    let all = [(Kind::DestinationRule, destination_rule::OUTLIER_DETECTION)];
    if !name.starts_with(ANNOTATIONS) || all.contains(&(kind, name)) {
        return;
    }
    let (about, what) = match all.iter().find(|(_, known)| *known == name) {
        Some((of, _)) => (
            About::MisplacedAnnotation,
            format!("is read of a {of} only: it has no effect here"),
        ),
        None => {
            let hint = names::did_you_mean(name, all.iter().map(|(_, known)| *known));
            let what = format!("no annotation that is known, it has no effect{hint}");
            (About::UnknownAnnotation, what)
        }
    };
    annotations.remark_at(name, about, what);
}

fn created(field: &Field<'_>) -> Option<Created> {
    let text = field.word()?;
    match Timestamp::from_str(text) {
        Ok(time) => Some(Created {
            seconds: time.seconds,
            nanoseconds: time.nanos,
        }),
        Err(_) => {
            field.refuse(format!(
                "{} is not a time: write it like 2006-01-02T15:04:05Z",
                shown(text)
            ));
            None
        }
    }
}

/// With its namespace, without what only a server writes. The status of a WorkloadEntry says whether it is healthy.
fn as_stored(mut object: Value, key: &Key) -> Value {
    if let Some(document) = object.as_object_mut() {
        if key.kind != Kind::WorkloadEntry {
            document.remove("status");
        }
        if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            metadata.insert("namespace".to_owned(), Value::String(key.namespace.clone()));
        }
    }
    object
}
