//! `tsunagi get`: one resource or a collection, as a table, YAML or JSON.

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use super::{
    CliError,
    client::{Call, Client},
    output::{self, Output},
    parse_kind, refusal, table,
};
use crate::{clock, config::Kind};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// virtualservice, destinationrule, serviceentry, workloadentry, sidecar or service, also plural or short (vs, dr, se, we, svc)
    #[arg(value_parser = parse_kind)]
    kind: Kind,

    /// One resource; without a name all of the namespace
    name: Option<String>,

    /// The namespace
    #[arg(short, long, env = "TSUNAGI_NAMESPACE", default_value = "default")]
    namespace: String,

    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,

    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Format {
    Table,
    Yaml,
    Json,
}

impl Format {
    /// The value as YAML or pretty JSON; a table is the caller's own.
    pub(super) fn write(self, value: &Value) -> Result<String, CliError> {
        let failed = |error: String| CliError::Failed(format!("the answer cannot be shown: {error}"));
        match self {
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(error.to_string())),
            Self::Json | Self::Table => serde_json::to_string_pretty(value).map_err(|error| failed(error.to_string())),
        }
    }
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let namespace = (!options.all_namespaces).then_some(options.namespace.as_str());
    let path = path(options.kind, namespace, options.name.as_deref());
    let reply = client.call(Call::new(Method::GET, path)).await?;
    if !reply.status.is_success() {
        return Err(refusal(&reply, client));
    }
    let mut value: Value = serde_json::from_slice(&reply.body)
        .map_err(|error| CliError::Failed(format!("the control plane's answer is not understood: {error}")))?;
    if options.name.is_some() {
        return show(&value, std::slice::from_ref(&value), options, output);
    }
    let items = value["items"].take();
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() && options.output == Format::Table {
        output::complain(&match namespace {
            Some(namespace) => format!("no {} found in namespace {namespace}", options.kind.plural()),
            None => format!("no {} found", options.kind.plural()),
        });
        return Ok(());
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    show(&list, items, options, output)
}

fn show(whole: &Value, items: &[Value], options: &Options, output: &mut Output) -> Result<(), CliError> {
    let text = match options.output {
        Format::Table => rows(options.kind, items, options.all_namespaces, SystemTime::now()),
        other => other.write(whole)?,
    };
    Ok(output.line(&text)?)
}

/// The Kubernetes path of a resource or, without a name, of a collection.
pub(super) fn path(kind: Kind, namespace: Option<&str>, name: Option<&str>) -> String {
    let version = kind.versions().first().copied().unwrap_or("v1");
    let mut path = match kind.group() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let segments = [namespace.map(|_| "namespaces"), namespace, Some(kind.plural()), name];
    for segment in segments.into_iter().flatten() {
        path.push('/');
        path.extend(percent_encoding::utf8_percent_encode(segment, SEGMENT));
    }
    path
}

/// What names are made of stays as it is.
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn rows(kind: Kind, items: &[Value], all_namespaces: bool, now: SystemTime) -> String {
    let mut header = if all_namespaces {
        vec!["NAMESPACE", "NAME"]
    } else {
        vec!["NAME"]
    };
    header.extend(columns(kind));
    header.push("AGE");
    let row = |item: &Value| {
        let metadata = &item["metadata"];
        let mut row = Vec::new();
        if all_namespaces {
            row.push(text(&metadata["namespace"]));
        }
        row.push(text(&metadata["name"]));
        row.extend(cells(kind, &item["spec"]));
        row.push(clock::age(&text(&metadata["creationTimestamp"]), now));
        row
    };
    table::render(&header, items.iter().map(row).collect())
}

fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service => &["SELECTOR", "PORTS"],
        Kind::VirtualService => &["GATEWAYS", "HOSTS"],
        Kind::DestinationRule => &["HOST", "SUBSETS"],
        Kind::ServiceEntry => &["HOSTS", "LOCATION", "RESOLUTION"],
        Kind::WorkloadEntry => &["ADDRESS", "LABELS"],
        Kind::Sidecar => &["SELECTOR", "OUTBOUND"],
        Kind::EndpointSlice | Kind::Node => &[],
    }
}

fn cells(kind: Kind, spec: &Value) -> Vec<String> {
    match kind {
        Kind::Service => vec![pairs(&spec["selector"]), ports(&spec["ports"])],
        Kind::VirtualService => vec![list(&spec["gateways"]), list(&spec["hosts"])],
        Kind::DestinationRule => vec![text(&spec["host"]), subsets(&spec["subsets"])],
        Kind::ServiceEntry => vec![list(&spec["hosts"]), text(&spec["location"]), text(&spec["resolution"])],
        Kind::WorkloadEntry => vec![text(&spec["address"]), pairs(&spec["labels"])],
        Kind::Sidecar => vec![
            pairs(&spec["workloadSelector"]["labels"]),
            text(&spec["outboundTrafficPolicy"]["mode"]),
        ],
        Kind::EndpointSlice | Kind::Node => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    let items = value.as_array().into_iter().flatten();
    items.map(text).collect::<Vec<_>>().join(",")
}

fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect::<Vec<_>>()
        .join(",")
}

fn ports(value: &Value) -> String {
    let ports = value.as_array().into_iter().flatten();
    let shown = ports.map(|port| match (text(&port["name"]), text(&port["port"])) {
        (name, number) if name.is_empty() => number,
        (name, number) => format!("{name}:{number}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

fn subsets(value: &Value) -> String {
    let subsets = value.as_array().into_iter().flatten();
    subsets
        .map(|subset| text(&subset["name"]))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_path_is_kubernetes() {
        assert_eq!(
            path(Kind::Service, Some("shop"), Some("user")),
            "/api/v1/namespaces/shop/services/user"
        );
        let all = path(Kind::VirtualService, None, None);
        assert_eq!(all, "/apis/networking.istio.io/v1/virtualservices");
        let odd = path(Kind::Service, Some("a/b"), Some("x?y"));
        assert_eq!(odd, "/api/v1/namespaces/a%2Fb/services/x%3Fy");
    }

    #[test]
    fn a_table_shows_what_tells_resources_apart() {
        let item = json!({
            "metadata": {"name": "user", "namespace": "shop", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"hosts": ["user", "other"]},
        });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(600);
        let shown = rows(Kind::VirtualService, std::slice::from_ref(&item), true, now);
        let expected = "NAMESPACE   NAME   GATEWAYS   HOSTS        AGE\n\
                        shop        user   <none>     user,other   10m";
        assert_eq!(shown, expected);
    }

    #[test]
    fn yaml_keeps_strings_that_look_like_something_else() {
        let value = json!({"a": "yes", "b": "1.0", "c": "null", "d": "", "e": "x: y", "f": "10s", "g": 7, "h": "0x10",
                           "i": "multi\nline", "j": "# no comment", "k": "*", "l": "- x", "m": "1e3", "n": "~", "o": "\u{1b}[2J\u{9b}1A\u{7f}\r"});
        let written = Format::Yaml.write(&value).unwrap_or_default();
        let shown = output::printable(&written);
        let read: Value = serde_saphyr::from_str(&shown).unwrap_or_default();
        assert_eq!(read, value, "{shown}");
    }
}
