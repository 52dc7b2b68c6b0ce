//! `tsunagi analyze`: what is valid but will not do what its author meant, in files or in what a control plane holds.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::{
    CliError,
    client::{Call, Client},
    files, get,
    output::Output,
    refusal,
};
use crate::analyze::{Finding, Input, Report, Surroundings, Totals, Unwanted, WorkloadLabels, analyze, locate};
use crate::api::NamedText;
use crate::api::replies::ProxiesReply;
use crate::bootstrap::{DEFAULT_ROOT_NAMESPACE, namespace};
use crate::config::{Document, Key, Kind, from_object};

#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing but hints, 1 errors or warnings, 2 wrong usage or files that cannot be read.\n\n\
    Codes that begin with IST are those of istioctl analyze. Documents of other kinds than Tsunagi's are passed over; of \
    Deployments and the like, the labels of their pods are used."
)]
pub(super) struct Options {
    /// A file, a directory (its *.yaml, *.yml and *.json, not its subdirectories) or - for stdin, without a control plane; may
    /// be repeated. Without it: what the control plane holds
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,

    /// Together with what the control plane holds: the files are what would be applied. Shows what is found in them, and of
    /// what is held only what the files make new
    #[arg(long, requires = "filename")]
    with_server: bool,

    /// Namespace whose DestinationRules and Sidecars are for every namespace: as of `serve`
    #[arg(long, env = "TSUNAGI_ROOT_NAMESPACE", value_name = "NAMESPACE", default_value = DEFAULT_ROOT_NAMESPACE,
          value_parser = namespace)]
    root_namespace: String,

    /// The namespace of documents that say none
    #[arg(short, long, env = "TSUNAGI_NAMESPACE", default_value = "default")]
    namespace: String,

    /// Leave out hints
    #[arg(long)]
    no_info: bool,

    /// How to show it
    #[arg(short, long, value_enum, default_value_t = get::Format::Table)]
    output: get::Format,
}

pub(super) async fn run(options: &Options, server: &str, output: &mut Output) -> Result<(), CliError> {
    let texts = match options.filename.as_slice() {
        [] => Vec::new(),
        paths => {
            files::read(paths)
                .map_err(|error| CliError::CannotRun(error.to_string()))?
                .files
        }
    };
    let mut input = Input::default();
    for NamedText { name, text } in &texts {
        input.read(name, text, &options.namespace);
    }
    let mut clients = Vec::new();
    let mut held = Vec::new();
    if options.filename.is_empty() || options.with_server {
        let client = Client::new(server)?;
        held = self::held(&client).await?;
        clients = connected(&client).await?;
    }
    let surroundings = Surroundings {
        workloads: &input.workloads,
        clients: &clients,
        root_namespace: &options.root_namespace,
    };
    let before = options.with_server.then(|| {
        let mut before = Report::before();
        analyze(&held, surroundings, &mut before);
        before.into_before().unwrap_or_default()
    });
    let mut documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let new: HashSet<Key> = documents.iter().map(|document| document.key.clone()).collect();
    held.retain(|document| !new.contains(&document.key));
    input.count += held.len();
    documents.append(&mut held);
    let mut report = Report::without(Unwanted {
        hints: options.no_info,
        before,
    });
    input.refused.into_iter().for_each(|finding| report.add(finding));
    analyze(&documents, surroundings, &mut report);
    let totals = report.totals();
    let mut findings = report.into_findings();
    for NamedText { name, text } in &texts {
        locate(&mut findings, name, text);
    }
    findings.sort_by(|one, other| (&one.file, one.line, one.severity).cmp(&(&other.file, other.line, other.severity)));
    show(&findings, totals, input.count, options, output)
}

/// Who is connected: sidecars, which follow rules by their labels whether anything selects them or not.
async fn connected(client: &Client) -> Result<Vec<WorkloadLabels>, CliError> {
    let reply = client.call(Call::new(Method::GET, "/v1/proxies".to_owned())).await?;
    if !reply.status.is_success() {
        return Err(refusal(&reply, client));
    }
    let known: ProxiesReply = serde_json::from_slice(&reply.body)
        .map_err(|error| CliError::Failed(format!("the control plane's answer is not understood: {error}")))?;
    let labelled = known.proxies.into_iter().filter_map(|proxy| {
        Some(WorkloadLabels {
            namespace: proxy.namespace,
            labels: proxy.labels?,
        })
    });
    Ok(labelled.collect())
}

/// All documents that the control plane holds.
async fn held(client: &Client) -> Result<Vec<Arc<Document>>, CliError> {
    let mut documents = Vec::new();
    for kind in Kind::ALL {
        let reply = client.call(Call::new(Method::GET, get::path(kind, None, None))).await?;
        if !reply.status.is_success() {
            return Err(refusal(&reply, client));
        }
        let list: Value = serde_json::from_slice(&reply.body)
            .map_err(|error| CliError::Failed(format!("the control plane's answer is not understood: {error}")))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        // What it holds it has read already; of what is newer than this command, there is nothing to say.
        documents.extend(
            items
                .into_iter()
                .filter_map(|item| from_object(item).ok())
                .map(Arc::new),
        );
    }
    Ok(documents)
}

fn show(
    findings: &[Finding],
    totals: Totals,
    documents: usize,
    options: &Options,
    output: &mut Output,
) -> Result<(), CliError> {
    let omitted = totals.all() - findings.len();
    match options.output {
        get::Format::Table => {
            for finding in findings {
                output.line(&lines(finding))?;
            }
            if omitted > 0 {
                output.line(&format!("and {omitted} more, of which none is worse than those above"))?;
            }
            output.line(&summary(documents, totals))?;
        }
        format => {
            let value = json!({ "findings": findings, "totals": totals, "omitted": omitted });
            output.line(&format.write(&value)?)?;
        }
    }
    if totals.errors + totals.warnings > 0 {
        output.flush()?;
        return Err(CliError::Told);
    }
    Ok(())
}

/// As in `1 document: 2 errors, 1 warning, 0 hints`.
fn summary(documents: usize, totals: Totals) -> String {
    let counted = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{}: {}, {}, {}",
        counted(documents, "document"),
        counted(totals.errors, "error"),
        counted(totals.warnings, "warning"),
        counted(totals.hints, "hint"),
    )
}

fn lines(finding: &Finding) -> String {
    let place = match (finding.file.as_str(), finding.line) {
        ("", _) => String::new(),
        (file, 0) => format!("{file}: "),
        (file, line) => format!("{file}:{line}: "),
    };
    let name = match finding.namespace.as_str() {
        "" => finding.name.clone(),
        namespace => format!("{namespace}/{}", finding.name),
    };
    // Of what is no document there is neither.
    let subject = match (finding.kind.as_str(), name.as_str()) {
        ("", "") => String::new(),
        ("", name) => format!("{name}: "),
        (kind, "") => format!("{kind}: "),
        (kind, name) => format!("{kind} {name}: "),
    };
    let field = if finding.field.is_empty() {
        String::new()
    } else {
        format!("{}: ", finding.field)
    };
    let (severity, code, what) = (finding.severity, finding.code, &finding.what);
    let first = format!("{place}{severity} {code} {subject}{field}{what}");
    match finding.instead.as_str() {
        "" => first,
        instead => format!("{first}\n    write instead: {instead}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_document_has_no_empty_subject() {
        let shown = |text: &str| {
            let mut input = Input::default();
            input.read("f.yaml", text, "default");
            input.refused.iter().map(lines).collect::<Vec<_>>()
        };
        assert_eq!(
            shown("# values\nrules:\n  default: false\n---\nkind: Deployment\napiVersion: apps/v1\n"),
            [
                "f.yaml:2: info TSU-NO-OBJECT says neither apiVersion nor kind: it is no object of Kubernetes and passed over"
            ]
        );
        let broken = shown("a: [");
        assert!(
            broken[0].starts_with("f.yaml:1: error IST0106 ") && !broken[0].contains(" : "),
            "{broken:?}"
        );
        // Half of it is an object that is wrong.
        let half = shown("kind: VirtualService\nspec: {}\n");
        assert!(
            half[0].starts_with("f.yaml:1: error IST0106 VirtualService: "),
            "{half:?}"
        );
    }
}
