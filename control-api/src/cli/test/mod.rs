//! `tsunagi test`: unit tests of routes, offline. A file names config and cases; each case is a request and what of its
//! answer is expected; only what is written is compared. The answer comes from the code that proxies decide with.
//! Exit codes: 0 all pass, 1 one fails, 2 the tests cannot be run.

mod assumed;
mod config;
mod expect;
mod file;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, files, output::Output};
use crate::explain::{
    answer::{Answer, Outcome, Rule},
    explain,
};
use file::{Case, TestFile};

/// What `--help` adds; `deploy/examples/route-tests` is an example that runs.
const EXAMPLE: &str = "\
Example, beside the rules that it tests:

  # routes.test.yaml
  config: [virtual-service.yaml, destination-rule.yaml]   # files or folders, relative to this file
  namespace: shop            # of documents and clients that say none; default: default
  strict: false              # true: what no document defines is not assumed to be there
  cases:
  - name: testers see v2
    request:
      url: http://user-service/api     # method: GET is the default
      headers: {version: v2}
      from: {namespace: web, labels: {app: web}}
    expect:
      rule: canary
      destination: {host: user-service, subset: v2}
  - name: the old path is moved
    request: {url: http://user-service/old}
    expect: {status: 301, location: http://user-service/new}

`expect` takes: rule, virtualService, outcome (route, defaultRoute, passthrough, redirect, directResponse, faultAbort, \
corsPreflight, localReply), destination or destinations (each with host, subset, port, weight), status, \
grpcStatus (of a fault abort, for a gRPC request), flag, location, body, path and authority (as an endpoint gets \
them), timeout (or none) and mirrors (each with host, subset, port, percentage). Only what is written is \
compared.

virtualService is the one in force for the host or, where that delegates, the one that the rule is written in.

A fault abort of 100 % is the answer (`{status: 500, flag: FI}`), before CORS, redirects and direct responses; \
so is the 200 of a CORS preflight that the policy answers; neither has a destination. Aborts of fewer requests, \
and delays, are left out of the judgement: a case is about the requests that are not aborted.

Whether endpoints are healthy is not tested. A service that rules name and no document defines is assumed to be \
there, and so are the subsets of a host for which there is no DestinationRule at all; each is noted. With \
`strict: true` nothing is assumed: then such requests get 503 NC or 404 NR, as they would in a mesh of these \
documents alone.

Exit codes: 0 all cases pass, 1 one fails, 2 the tests cannot be run.";

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLE, after_help = "--help shows an example of a test file")]
pub(super) struct Options {
    /// Test files, or folders with files called *.test.yaml or *.test.yml
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// How many.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// Whether all cases pass. A file that cannot be run does not keep the others from it.
pub(super) fn run(options: &Options, output: &mut Output) -> Result<bool, CliError> {
    let mut tally = Tally::default();
    let mut refused = Vec::new();
    for path in named(&options.files) {
        match path.and_then(|path| test(&path)) {
            Ok((lines, own)) => {
                tally.passed += own.passed;
                tally.failed += own.failed;
                for line in lines {
                    output.line(&line)?;
                }
            }
            Err(reason) => refused.push(reason),
        }
    }
    let not_run = match refused.len() {
        0 => String::new(),
        1 => ", 1 file could not be run".to_owned(),
        several => format!(", {several} files could not be run"),
    };
    output.line(&format!("{} passed, {} failed{not_run}", tally.passed, tally.failed))?;
    if refused.is_empty() {
        return Ok(tally.failed == 0);
    }
    output.flush()?;
    Err(CliError::CannotRun(refused.join("\n")))
}

/// The test files that the arguments name, a folder's in order of their names; or why there is none.
fn named(paths: &[PathBuf]) -> Vec<Result<PathBuf, String>> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            all.push(Ok(path.clone()));
            continue;
        }
        match in_folder(path) {
            Ok(found) if found.is_empty() => {
                let reason = format!("{}: no *.test.yaml or *.test.yml file in it", path.display());
                all.push(Err(reason));
            }
            Ok(found) => all.extend(found.into_iter().map(Ok)),
            Err(error) => all.push(Err(format!("cannot read {}: {error}", path.display()))),
        }
    }
    all
}

fn in_folder(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.path();
        let name = entry.to_string_lossy();
        if name.ends_with(".test.yaml") || name.ends_with(".test.yml") {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

/// What there is to say of one file.
fn test(path: &Path) -> Result<(Vec<String>, Tally), String> {
    let mut tally = Tally::default();
    let text = files::read(&[path.to_owned()]).map_err(|error| error.to_string())?;
    let text = text.files.into_iter().next().map(|file| file.text).unwrap_or_default();
    let name = path.display().to_string();
    let file = TestFile::parse(&name, &text)?;
    let config::Loaded { world, notes } = config::load(path, &file)?;
    let mut lines = vec![name.clone()];
    for case in &file.cases {
        let line = case.defined.line();
        let case = &case.value;
        let answer = explain(&world, &case.question(&file.namespace))
            .map_err(|error| format!("{name}:{line}: case {:?}: {error}", case.name))?;
        let differences = expect::differences(&case.expect, &answer, &case.sent(), &file.namespace)
            .map_err(|error| format!("{name}:{line}: case {:?}: {error}", case.name))?;
        if differences.is_empty() {
            tally.passed += 1;
            lines.push(format!("  PASS  {}", case.name));
        } else {
            tally.failed += 1;
            lines.extend(failure(&name, line, case, &answer, &differences));
        }
    }
    lines.extend(notes.iter().map(|note| format!("  note: {note}")));
    Ok((lines, tally))
}

fn failure(
    file: &str,
    line: impl std::fmt::Display,
    case: &Case,
    answer: &Answer,
    differences: &[expect::Difference],
) -> Vec<String> {
    let mut lines = vec![format!("  FAIL  {}  ({file}:{line})", case.name)];
    for difference in differences {
        lines.push(format!("          {}", difference.field));
        lines.push(format!("            expected  {}", difference.expected));
        lines.push(format!("            actual    {}", difference.actual));
    }
    lines.extend(why(answer).into_iter().map(|reason| format!("          why: {reason}")));
    lines
}

/// Rules of which it is told why they were passed over.
const MOST_REASONS: usize = 20;

fn why(answer: &Answer) -> Vec<String> {
    let place = |rule: &Rule| format!("{} ({} of {})", rule.name, rule.place, rule.virtual_service);
    let mut reasons = Vec::new();
    for passed in answer.passed_over.iter().take(MOST_REASONS) {
        reasons.push(format!("not {}: {}", place(&passed.rule), passed.reasons.join("; or ")));
    }
    if answer.passed_over.len() > MOST_REASONS {
        reasons.push(format!(
            "and not {} more rules",
            answer.passed_over.len() - MOST_REASONS
        ));
    }
    if let Some(rule) = &answer.rule {
        let delegated = rule.virtual_service != answer.virtual_service;
        let item = match rule.item {
            Some(item) => format!(": match[{item}]"),
            None if delegated => format!(", {} delegates to it", answer.virtual_service),
            None => ": which is for every request".to_owned(),
        };
        reasons.push(format!("{} decides{item}", place(rule)));
    }
    let broken = answer.destinations.iter().filter_map(|to| to.reply.as_ref());
    let replies = broken.filter(|reply| reply.flags == "NC").chain(&answer.reply);
    for reply in replies.filter(|reply| reply.flags != "UH") {
        let said = format!("{} {}: {}", reply.status, reply.flags, reply.reason);
        if !reasons.contains(&said) {
            reasons.push(said);
        }
    }
    if answer.outcome == Outcome::DefaultRoute {
        reasons.extend(answer.notes.iter().cloned());
    }
    reasons
}

#[cfg(test)]
mod tests;
