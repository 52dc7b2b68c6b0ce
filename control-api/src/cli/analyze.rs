//! `tsunagi analyze`: what is valid but will not do what its author meant, in files or in what a control plane holds.

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
use crate::analyze::{Finding, Input, Severity, analyze, locate};
use crate::api::NamedText;
use crate::config::{Kind, from_object};

#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing but hints, 1 errors or warnings, 2 wrong usage or files that cannot be read.\n\n\
    Codes that begin with IST are those of istioctl analyze. Documents of other kinds than Tsunagi's are passed over; of \
    Deployments and the like, the labels of their pods are used."
)]
pub(super) struct Options {
    /// A file, a directory or `-` for stdin, without a control plane. Without it: what the control plane holds
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,

    /// Together with what the control plane holds: the files are what would be applied
    #[arg(long, requires = "filename")]
    with_server: bool,

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
    if options.filename.is_empty() || options.with_server {
        let client = Client::new(server)?;
        let held = held(&client).await?;
        let new: Vec<_> = input.documents.iter().map(|document| document.key.clone()).collect();
        input
            .documents
            .extend(held.into_iter().filter(|document| !new.contains(&document.key)));
    }
    let documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let mut findings = analyze(&documents, &input.workloads);
    if options.with_server {
        // What was there before is not what is asked about.
        findings.retain(|finding| !finding.file.is_empty());
    }
    for NamedText { name, text } in &texts {
        locate(&mut findings, name, text);
    }
    findings.extend(input.refused);
    if options.no_info {
        findings.retain(|finding| finding.severity != Severity::Info);
    }
    findings.sort_by(|one, other| (&one.file, one.line, one.severity).cmp(&(&other.file, other.line, other.severity)));
    show(&findings, documents.len(), options, output)
}

/// All documents that the control plane holds.
async fn held(client: &Client) -> Result<Vec<crate::config::Document>, CliError> {
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
        documents.extend(items.into_iter().filter_map(|item| from_object(item).ok()));
    }
    Ok(documents)
}

fn show(findings: &[Finding], documents: usize, options: &Options, output: &mut Output) -> Result<(), CliError> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, hints) = (count(Severity::Error), count(Severity::Warning), count(Severity::Info));
    match options.output {
        get::Format::Table => {
            for finding in findings {
                output.line(&lines(finding))?;
            }
            let what = format!("{documents} documents: {errors} errors, {warnings} warnings, {hints} hints");
            output.line(&what)?;
        }
        format => {
            let shown = format.write(&json!({ "findings": findings }))?;
            output.line(&shown)?;
        }
    }
    if errors + warnings > 0 {
        output.flush()?;
        return Err(CliError::Told);
    }
    Ok(())
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
    let field = if finding.field.is_empty() {
        String::new()
    } else {
        format!("{}: ", finding.field)
    };
    let (severity, code, kind, what) = (finding.severity, finding.code, &finding.kind, &finding.what);
    let first = format!("{place}{severity} {code} {kind} {name}: {field}{what}");
    match finding.instead.as_str() {
        "" => first,
        instead => format!("{first}\n    write instead: {instead}"),
    }
}
