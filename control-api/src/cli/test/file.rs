//! The format of a test file. What it does not know is refused by name, with file and line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::explain::{HeaderText, Question, default_namespace, get};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestFile {
    /// Files and folders, relative to the file.
    pub config: Vec<PathBuf>,
    /// Of documents and clients that say none, and of short names that are expected.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Nothing is assumed to be there that no document defines.
    #[serde(default)]
    pub strict: bool,
    pub cases: Vec<Spanned<Case>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub name: String,
    pub request: Request,
    pub expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub url: String,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    #[serde(default)]
    pub from: Client,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Client {
    /// `None`: the file's.
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// What is written must be so; the rest may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Expect {
    pub rule: Option<String>,
    /// `name` in the file's namespace, or `namespace/name`.
    pub virtual_service: Option<String>,
    pub outcome: Option<crate::explain::answer::Outcome>,
    pub destination: Option<To>,
    pub destinations: Option<Vec<To>>,
    pub status: Option<u16>,
    pub grpc_status: Option<u16>,
    pub flag: Option<String>,
    pub location: Option<String>,
    pub body: Option<String>,
    pub path: Option<String>,
    pub authority: Option<String>,
    pub timeout: Option<String>,
    pub mirrors: Option<Vec<MirrorTo>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct To {
    pub host: Option<String>,
    pub subset: Option<String>,
    pub port: Option<u16>,
    pub weight: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MirrorTo {
    pub host: Option<String>,
    pub subset: Option<String>,
    pub port: Option<u16>,
    pub percentage: Option<f64>,
}

/// Without the ` at line 5, column 12` that a reader of YAML ends with: the place is told before.
fn without_place(reason: &str) -> &str {
    let is_place = |rest: &str| {
        let numbers = rest.split_once(", column ");
        numbers.is_some_and(|(line, column)| line.parse::<usize>().is_ok() && column.parse::<usize>().is_ok())
    };
    match reason.rsplit_once(" at line ") {
        Some((what, rest)) if is_place(rest) => what.trim_end_matches(':'),
        _ => reason,
    }
}

impl TestFile {
    /// The reason is `FILE:LINE: what is wrong`.
    pub(super) fn parse(name: &str, text: &str) -> Result<TestFile, String> {
        let file: TestFile = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let reason = error.without_snippet().to_string();
            let reason = reason.lines().next().unwrap_or_default();
            format!("{name}:{line}: {}", without_place(reason))
        })?;
        if file.cases.is_empty() {
            return Err(format!("{name}:1: cases: is empty"));
        }
        for case in &file.cases {
            if case.value.expect.is_empty() {
                let (line, name_of_case) = (case.defined.line(), &case.value.name);
                return Err(format!(
                    "{name}:{line}: case {name_of_case:?}: expect: is empty: it could not fail"
                ));
            }
        }
        Ok(file)
    }
}

impl Case {
    pub(super) fn question(&self, namespace: &str) -> Question {
        let Request {
            url,
            method,
            headers,
            from,
        } = &self.request;
        Question {
            url: url.clone(),
            method: method.clone(),
            headers: headers.clone(),
            from_namespace: from.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            from_labels: from.labels.clone(),
            // Of connections alone.
            from_address: None,
        }
    }

    /// Authority and target, as an endpoint gets them that no rewrite changes.
    pub(super) fn sent(&self) -> (String, String) {
        let url = &self.request.url;
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = self
            .request
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let authority = match host {
            Some((_, HeaderText::One(host))) => host.as_str(),
            Some((_, HeaderText::Several(hosts))) => hosts.first().map_or(authority, String::as_str),
            None => authority,
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        (authority.to_owned(), format!("{slash}{target}"))
    }
}

impl Expect {
    fn is_empty(&self) -> bool {
        let Self {
            rule: None,
            virtual_service: None,
            outcome: None,
            destination: None,
            destinations: None,
            status: None,
            grpc_status: None,
            flag: None,
            location: None,
            body: None,
            path: None,
            authority: None,
            timeout: None,
            mirrors: None,
        } = self
        else {
            return false;
        };
        true
    }
}
