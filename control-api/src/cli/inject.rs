//! `tsunagi inject`: prints documents with the sidecar added to each workload and everything else as it was, by the same
//! code as the webhook. Asks no control plane. The namespace's label does not count: somebody asks for it here.

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    CliError, files,
    get::Format,
    output::{self, Output},
};
use crate::{
    api::NamedText,
    config::{Problem, Raw, parse_raw},
    inject::{self, NativeSidecars, Refusal, Settings, Workload},
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// A file, a directory (its *.yaml, *.yml and *.json, not its subdirectories) or - for stdin; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,

    /// The namespace of documents that name none
    #[arg(short, long, env = "TSUNAGI_NAMESPACE", default_value = "default")]
    namespace: String,

    /// How to print it; several documents as JSON are a List
    #[arg(short, long, value_enum, default_value_t = Printed::Yaml)]
    output: Printed,

    /// File of injection settings, as `tsunagi serve --inject-config` takes it. Default: none, and each setting its default
    #[arg(long, env = "TSUNAGI_INJECT_CONFIG", value_name = "FILE")]
    inject_config: Option<PathBuf>,

    /// Image of the sidecar, in place of the settings'
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Where sidecars get their config from (http://HOST:PORT), in place of the settings'
    #[arg(long, value_name = "URL")]
    control_plane: Option<String>,

    /// Whether the cluster has native sidecars (auto, true or false), in place of the settings'. auto: yes, as Kubernetes
    /// 1.29 and newer do
    #[arg(long, value_name = "CHOICE")]
    native_sidecars: Option<NativeSidecars>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Printed {
    Yaml,
    Json,
}

pub(super) fn run(options: &Options, output: &mut Output) -> Result<(), CliError> {
    let settings = settings(options)?;
    let mut documents = Vec::new();
    let mut failed = false;
    for file in files::read(&options.files)?.files {
        match inject_file(&file, options, &settings) {
            Ok(injected) => documents.extend(injected),
            Err(problems) => {
                problems
                    .iter()
                    .for_each(|problem| output::complain(&problem.to_string()));
                failed = true;
            }
        }
    }
    if failed {
        return Err(CliError::Told);
    }
    print(documents, options.output, output)
}

fn settings(options: &Options) -> Result<Settings, CliError> {
    let mut settings = match &options.inject_config {
        Some(path) => read_settings(path).map_err(CliError::Failed)?,
        None => Settings::default(),
    };
    if let Some(image) = &options.image {
        settings.image.clone_from(image);
    }
    if let Some(url) = &options.control_plane {
        settings.control_plane.clone_from(url);
    }
    if let Some(choice) = options.native_sidecars {
        settings.native_sidecars = choice;
    }
    settings.checked().map_err(|error| CliError::Usage(error.to_string()))
}

fn read_settings(path: &PathBuf) -> Result<Settings, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Settings::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn inject_file(file: &NamedText, options: &Options, settings: &Settings) -> Result<Vec<Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut documents = Vec::new();
    for mut raw in parse_raw(&file.name, &file.text)? {
        let mut value = raw.value.take();
        let place = Place {
            file: &file.name,
            raw: &raw,
        };
        match value.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    place.inject(item, &format!("items[{index}]"), options, settings, &mut problems);
                }
            }
            None => place.inject(&mut value, "", options, settings, &mut problems),
        }
        documents.push(value);
    }
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(problems)
    }
}

/// Where a document was read.
struct Place<'a> {
    file: &'a str,
    raw: &'a Raw,
}

impl Place<'_> {
    fn inject(
        &self,
        document: &mut Value,
        path: &str,
        options: &Options,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) {
        let native = settings.native_sidecars.decide(None);
        let done = inject::inject_workload(document, &options.namespace, settings, native);
        let text = |value: &Value| value.as_str().unwrap_or_default().chars().take(253).collect::<String>();
        let mut problem = Problem {
            file: self.file.to_owned(),
            line: self.raw.line_of(path),
            kind: text(&document["kind"]),
            name: text(&document["metadata"]["name"]),
            ..Problem::default()
        };
        let mut tell = |reason: String| {
            problem.reason = reason;
            output::complain(&format!("warning: {problem}"));
        };
        match done {
            Ok(Workload::Other) => {}
            Ok(Workload::LeftAlone(reason)) => tell(format!("left as it is: {reason}")),
            Ok(Workload::Injected { warnings }) => warnings.into_iter().for_each(tell),
            Err(Refusal { field, reason }) => {
                let separator = if path.is_empty() { "" } else { "." };
                problem.line = self.raw.line_of(&format!("{path}{separator}{field}"));
                (problem.field, problem.reason) = (field, reason);
                problems.push(problem);
            }
        }
    }
}

fn print(mut documents: Vec<Value>, printed: Printed, output: &mut Output) -> Result<(), CliError> {
    if printed == Printed::Json {
        let whole = match documents.len() {
            1 => documents.remove(0),
            _ => json!({"apiVersion": "v1", "kind": "List", "items": documents}),
        };
        return Ok(output.line(&Format::Json.write(&whole)?)?);
    }
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            output.line("---")?;
        }
        output.line(&Format::Yaml.write(document)?)?;
    }
    Ok(())
}
