//! The command line for people, and the entry of `tsunagi serve`. Called by `main`. Every command but `serve` and
//! `demo` is a small client of the HTTP API. Exit codes: 0 done, 1 refused or failed (the reason on stderr), 2 wrong
//! usage.

mod analyze;
mod apply;
mod client;
mod delete;
mod demo;
mod endpoints;
mod explain;
mod files;
mod get;
mod inject;
mod output;
mod proxies;
mod table;
mod test;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use serde::de::DeserializeOwned;

use crate::{
    api::failure::StatusObject,
    app,
    bootstrap::ServeOptions,
    config::{Kind, Problem},
    error,
};
use client::{Call, Client, Reply};
use output::Output;

/// Tsunagi: a service mesh with Istio's routing language. This binary is its control plane and its command line.
#[derive(Parser, Debug)]
#[command(name = "tsunagi", version, disable_help_subcommand = true)]
struct Cli {
    /// The control plane's HTTP API, of commands that ask it [env: TSUNAGI_SERVER] [default: http://127.0.0.1:15014]
    // Not clap's own env: that shows what the environment says as a part of every usage.
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the control plane
    Serve(ServeOptions),
    /// Create or change resources from files: all of them or none
    Apply(apply::Options),
    /// Show resources
    Get(get::Options),
    /// Delete resources by name or from files
    Delete(delete::Options),
    /// Find what is valid but will not do what its author meant
    Analyze(analyze::Options),
    /// Show the connected proxies and what each has acknowledged
    Proxies(proxies::Options),
    /// Show where requests can go: each endpoint's state, and which proxies have ejected it or cannot resolve it, why and for
    /// how long. Proxies tell what they see about once a second (`watch tsunagi endpoints HOST` follows it)
    Endpoints(endpoints::Options),
    /// Show what a request gets: the rule, its destinations with their endpoints, and why the rules before it do not match
    Explain(explain::Options),
    /// Run unit tests of routes: request -> expected destination, status or rewrite. Offline, for a CI
    Test(test::Options),
    /// Print workloads with the sidecar added
    Inject(inject::Options),
    #[command(flatten)]
    Demo(demo::Command),
}

/// They ask no control plane.
const WITHOUT_SERVER: [&str; 4] = ["serve", "test", "inject", "demo"];
const DEFAULT_SERVER: &str = "http://127.0.0.1:15014";

/// The help of a command names `--server` only where it is of use.
fn command() -> clap::Command {
    let hidden = || {
        clap::Arg::new("server")
            .long("server")
            .global(true)
            .value_name("URL")
            .hide(true)
    };
    WITHOUT_SERVER.iter().fold(Cli::command(), |cli, name| {
        cli.mut_subcommand(name, |of| of.arg(hidden()))
    })
}

/// `given`: on the command line. `said`: by the environment.
fn server(given: Option<String>, said: Option<OsString>) -> String {
    let said = said.map(|text| text.to_string_lossy().into_owned());
    given.or(said).unwrap_or_else(|| DEFAULT_SERVER.to_owned())
}

/// How a command ends when it does not succeed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    /// Exit code 2: what was to be done could not be tried.
    #[error("{0}")]
    CannotRun(String),
    /// The reason is on stderr already.
    #[error("failed")]
    Told,
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Serve(_) if cli.server.is_some() => Err(CliError::Usage(
            "--server is for the other commands: serve is the server".to_owned(),
        )),
        Command::Serve(options) if options.kubernetes && options.config_dir.is_some() => Err(CliError::Usage(
            "--kubernetes and --config-dir are two sources of config: choose one".to_owned(),
        )),
        Command::Serve(options) => app::run(&options).map_err(|error| CliError::Failed(error::sentence(&error))),
        Command::Demo(command) => demo::main(&command),
        Command::Inject(options) => {
            let mut output = Output::stdout();
            inject::run(&options, &mut output).and_then(|()| Ok(output.flush()?))
        }
        Command::Test(options) => {
            let mut output = Output::stdout();
            test::run(&options, &mut output).and_then(|passed| {
                output.flush()?;
                if passed { Ok(()) } else { Err(CliError::Told) }
            })
        }
        command => run(command, &server(cli.server, std::env::var_os("TSUNAGI_SERVER"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has read enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CliError::Usage(message)) => command().error(ErrorKind::ValueValidation, message).exit(),
        Err(CliError::Told) => ExitCode::FAILURE,
        Err(CliError::CannotRun(reason)) => {
            output::complain(&reason);
            ExitCode::from(2)
        }
        Err(error) => {
            output::complain(&format!("tsunagi: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough for one request.
fn run(command: Command, server: &str) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut output = Output::stdout();
        let client = match &command {
            // It may do without.
            Command::Analyze(options) => {
                analyze::run(options, server, &mut output).await?;
                return Ok(output.flush()?);
            }
            _ => Client::new(server)?,
        };
        match command {
            Command::Apply(options) => apply::run(&options, &client, &mut output).await?,
            Command::Get(options) => get::run(&options, &client, &mut output).await?,
            Command::Delete(options) => delete::run(&options, &client, &mut output).await?,
            Command::Proxies(options) => proxies::run(&options, &client, &mut output).await?,
            Command::Endpoints(options) => endpoints::run(&options, &client, &mut output).await?,
            Command::Explain(options) => explain::run(&options, &client, &mut output).await?,
            Command::Serve(_) | Command::Demo(_) | Command::Inject(_) | Command::Analyze(_) | Command::Test(_) => {}
        }
        Ok(output.flush()?)
    })
}

/// What a command shows as a table. `None`: it is shown already, as YAML or JSON.
async fn ask<T: DeserializeOwned>(
    call: Call<'_>,
    client: &Client,
    format: get::Format,
    output: &mut Output,
) -> Result<Option<T>, CliError> {
    let reply = client.call(call).await?;
    if !reply.status.is_success() {
        return Err(refusal(&reply, client));
    }
    let not_understood = |error| CliError::Failed(format!("the control plane's answer is not understood: {error}"));
    if format == get::Format::Table {
        return serde_json::from_slice(&reply.body).map(Some).map_err(not_understood);
    }
    let value = serde_json::from_slice(&reply.body).map_err(not_understood)?;
    output.line(&format.write(&value)?)?;
    Ok(None)
}

/// `virtualservice.networking.istio.io`, as kubectl writes it.
fn resource_word(kind: &str) -> String {
    let word = kind.to_ascii_lowercase();
    match Kind::parse(kind).map_or("", Kind::group) {
        "" => word,
        group => format!("{word}.{group}"),
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| {
        let kinds = Kind::ALL.map(|kind| kind.as_str().to_ascii_lowercase());
        format!("no such kind; possible: {}", kinds.join(", "))
    })
}

/// Tells why the server refused: each problem on a line of its own, as `FILE:LINE: Kind/name: field.path: what is wrong`.
fn refusal(reply: &Reply, client: &Client) -> CliError {
    let Ok(status) = serde_json::from_slice::<StatusObject>(&reply.body) else {
        let start: String = String::from_utf8_lossy(&reply.body).chars().take(200).collect();
        return CliError::Failed(format!(
            "{} answered {} and not as a control plane does: {start:?}",
            client.server(),
            reply.status
        ));
    };
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    if causes.is_empty() {
        return CliError::Failed(format!("error from server ({}): {}", status.reason, status.message));
    }
    for cause in causes {
        output::complain(&Problem::from(cause).to_string());
    }
    CliError::Told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    fn help_of(name: &str) -> String {
        let mut cli = command().term_width(100);
        cli.build();
        let command = cli.find_subcommand_mut(name).map(|command| command.render_long_help());
        command.map(|help| help.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_server_is_in_the_help_of_the_commands_that_ask_it_and_in_no_usage() {
        for name in WITHOUT_SERVER {
            assert!(!help_of(name).contains("--server"), "{}", help_of(name));
        }
        for name in ["apply", "get", "delete", "analyze", "proxies", "endpoints", "explain"] {
            assert!(help_of(name).contains("TSUNAGI_SERVER"), "{}", help_of(name));
        }
        let refused = command().try_get_matches_from(["tsunagi", "get"]).map(drop);
        let refused = refused.expect_err("no kind").to_string();
        assert!(
            refused.contains("Usage: tsunagi get") && !refused.contains("--server"),
            "{refused}"
        );
        for line in ["tsunagi --server http://h:1 serve", "tsunagi serve --server http://h:1"] {
            let matches = command().try_get_matches_from(line.split(' ')).expect(line);
            let cli = Cli::from_arg_matches(&matches).expect(line);
            assert_eq!(cli.server.as_deref(), Some("http://h:1"), "{line}");
        }
        let said = || Some("http://b:1".into());
        assert_eq!(server(Some("http://a:1".to_owned()), said()), "http://a:1");
        assert_eq!(server(None, said()), "http://b:1");
        assert_eq!(server(None, None), DEFAULT_SERVER);
    }

    #[test]
    fn the_help_of_route_tests_is_wrapped_once() {
        let help = help_of("test");
        let (_, prose) = help.split_once("`expect` takes").expect("what it takes");
        for paragraph in prose.split("\n\n") {
            let lines: Vec<&str> = paragraph.lines().collect();
            let all_but_the_last = lines.split_last().map_or(&[][..], |(_, lines)| lines);
            assert!(all_but_the_last.iter().all(|line| line.len() > 60), "{paragraph}");
        }
    }

    #[test]
    fn the_interfaces_examples_parse() {
        for line in [
            "tsunagi serve --http-addr 127.0.0.1:0 --grpc-addr 127.0.0.1:0 --data-dir d",
            "tsunagi serve --kubernetes --replica a",
            "tsunagi apply -f a.yaml -f dir -n shop --dry-run",
            "tsunagi apply -f - --wait",
            "tsunagi apply -f - --strict --dry-run",
            "tsunagi apply -f - --wait=2s --server http://h:1",
            "tsunagi --server http://h:1 get vs user -o yaml",
            "tsunagi get services -A -o json",
            "tsunagi delete dr user -n shop",
            "tsunagi delete -f a.yaml",
            "tsunagi proxies -o json",
            "tsunagi endpoints",
            "tsunagi endpoints user.shop:80 -o json",
            "tsunagi inject -f pod.yaml -f - -n shop -o json --inject-config settings.yaml --native-sidecars false",
            "tsunagi serve --webhook-addr 0.0.0.0:15017 --webhook-names a.svc,127.0.0.1 --inject-config settings.yaml",
            "tsunagi demo --exit",
            "tsunagi explain -X POST http://user/a -H version:v2 --header a:b --from-namespace shop --from-label app=web -o json",
            "tsunagi test routes.test.yaml tests",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for line in [
            "tsunagi apply",
            "tsunagi apply -f a --dry-run --wait",
            "tsunagi apply -f a --wait=soon",
            "tsunagi get pods",
            "tsunagi get vs user -A",
            "tsunagi delete",
            "tsunagi delete vs",
            "tsunagi delete vs user -f a.yaml",
            "tsunagi serve --kubernetes=maybe",
            "tsunagi inject",
            "tsunagi inject -f a --native-sidecars maybe",
            "tsunagi serve --webhook-names a_b!",
            "tsunagi explain",
            "tsunagi explain user -H version",
            "tsunagi explain user --from-label app",
            "tsunagi test",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn the_demos_help_says_what_it_needs() {
        let mut cli = Cli::command();
        let demo = cli
            .find_subcommand_mut("demo")
            .map(|demo| demo.render_long_help().to_string());
        assert!(
            demo.as_deref()
                .unwrap_or_default()
                .contains("tsunagi-proxy, beside this one"),
            "{demo:?}"
        );
    }

    #[test]
    fn a_kind_is_written_with_its_group() {
        assert_eq!(resource_word("VirtualService"), "virtualservice.networking.istio.io");
        assert_eq!(resource_word("Service"), "service");
    }
}
