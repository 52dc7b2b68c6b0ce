//! Tests of the command line as users write it.

use std::time::Duration;

use clap::{CommandFactory, Parser, error::ErrorKind};

use super::*;

fn run(flags: &[&str]) -> Result<Options, clap::Error> {
    let line = ["tsunagi-proxy", "run"].iter().chain(flags);
    CommandLine::try_parse_from(line).map(|line| match line.command {
        Command::Run(options) => *options,
        other => unreachable!("not `run`: {other:?}"),
    })
}

/// Of a refused command line.
fn complaint(flags: &[&str]) -> String {
    let error = run(flags).expect_err("refused");
    assert_eq!(error.exit_code(), 2, "wrong usage");
    error.to_string()
}

#[test]
fn the_command_line_is_consistent_in_itself() {
    CommandLine::command().debug_assert();
}

#[test]
fn the_defaults_are_the_promised_ones() {
    let options = run(&[]).expect("no flag is required");
    assert_eq!(options.control_plane, "http://127.0.0.1:15010");
    assert_eq!(options.outbound_addr.to_string(), "127.0.0.1:15001");
    assert_eq!(options.inbound_addr.to_string(), "0.0.0.0:15006");
    assert_eq!(options.app_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(options.admin_addr.to_string(), "127.0.0.1:15000");
    assert_eq!(options.metrics_addr.to_string(), "0.0.0.0:15090");
    assert_eq!(options.health_addr.to_string(), "0.0.0.0:15021");
    assert_eq!(
        (options.namespace.as_str(), options.service_account.as_str()),
        ("default", "default")
    );
    assert!(!options.node_id.is_empty());
    assert_eq!(options.labels, Labels::default());
    assert_eq!((options.locality.as_str(), options.node_name.as_str()), ("", ""));
    assert!((1..=2).contains(&options.workers));
    assert_eq!(options.drain_timeout, Duration::from_secs(30));
    assert_eq!(options.departure_timeout, Duration::from_secs(5));
    assert!(!options.await_application && !options.exit_with_application);
    assert_eq!(options.on_demand_timeout, Duration::from_secs(2));
    assert_eq!(options.state_dir.to_str(), Some("./tsunagi-proxy-data"));
    assert!(options.access_log.is_on() && !options.debug_headers);
    assert_eq!(options.log_level.to_string(), "info");
}

#[test]
fn every_flag_has_its_environment_variable() {
    let command = CommandLine::command();
    let arguments = ["run", "wait", "drain"].map(|name| command.find_subcommand(name).expect("the subcommand"));
    let arguments = arguments.iter().flat_map(|subcommand| subcommand.get_arguments());
    for flag in arguments.filter(|flag| flag.get_id() != "help") {
        let long = flag.get_long().expect("a long name");
        let expected = format!("TSUNAGI_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        assert!(flag.get_help().is_some(), "--{long} is not explained");
    }
}

#[test]
fn drain_asks_the_usual_admin_address_for_half_a_minute() {
    let line = CommandLine::try_parse_from(["tsunagi-proxy", "drain"]).expect("no flag is required");
    let Command::Drain(options) = line.command else {
        panic!("not `drain`: {:?}", line.command)
    };
    assert_eq!(options.admin_addr.to_string(), "127.0.0.1:15000");
    assert_eq!(options.timeout, Duration::from_secs(30));
}

#[test]
fn a_locality_is_one_place() {
    let options = run(&["--locality", "eu/eu-a/", "--node-name", "m1"]).expect("good flags");
    assert_eq!(
        (options.locality.as_str(), options.node_name.as_str()),
        ("eu/eu-a", "m1")
    );
    for wrong in ["a/b/c/d", "eu/*", "/eu-a"] {
        assert!(
            complaint(&["--locality", wrong]).contains("REGION/ZONE/SUBZONE"),
            "{wrong}"
        );
    }
}

#[test]
fn labels_are_pairs() {
    let options = run(&["--labels", "app=web,example.com/tier=front,empty="]).expect("good labels");
    let pairs = [("app", "web"), ("example.com/tier", "front"), ("empty", "")];
    assert_eq!(
        options.labels.0,
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );

    assert!(complaint(&["--labels", "app"]).contains("key=value"));
    assert!(complaint(&["--labels", "a b=c"]).contains("not a label key"));
    assert!(complaint(&["--labels", "a=b/c"]).contains("not a label value"));
    assert!(complaint(&["--labels", "a=b,a=c"]).contains("twice"));
}

#[test]
fn a_workload_is_named_by_its_labels_else_by_its_node() {
    let name = |labels: &str| {
        let options = run(&["--node-id", "users-7d4f", "--labels", labels]).expect("good flags");
        options.workload_name().to_owned()
    };
    assert_eq!(name("version=v1"), "users-7d4f");
    assert_eq!(name("version=v1,app=users"), "users");
    assert_eq!(name("app=users,app.kubernetes.io/name=user-service"), "user-service");
}

#[test]
fn durations_have_a_unit() {
    for (text, milliseconds) in [
        ("500ms", 500),
        ("30s", 30_000),
        ("1m30s", 90_000),
        ("1h", 3_600_000),
        ("0s", 0),
    ] {
        let options = run(&["--drain-timeout", text]).expect("a duration");
        assert_eq!(options.drain_timeout, Duration::from_millis(milliseconds), "{text}");
    }
    for text in ["", "30", "s", "1.5s", "-1s", "3 s", "1d", "99999999999h"] {
        assert!(
            complaint(&[&format!("--drain-timeout={text}")]).contains("--drain-timeout"),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_flag_named() {
    for (flag, value) in [
        ("--workers", "0"),
        ("--workers", "many"),
        ("--outbound-addr", "localhost"),
        ("--app-addr", "127.0.0.1:0"),
        ("--control-plane", "127.0.0.1:15010"),
        ("--control-plane", "https://127.0.0.1:15012"),
        ("--node-id", "a/b"),
        ("--app-probes", "{\"/x\": {}}"),
        ("--namespace", "Default"),
        ("--service-account", "a..b"),
        ("--access-log", "maybe"),
        ("--log-level", "loud"),
        ("--no-such-flag", "1"),
    ] {
        assert!(
            complaint(&[&format!("{flag}={value}")]).contains(flag),
            "{flag} {value}"
        );
    }
}

#[test]
fn switches_are_written_in_any_usual_way() {
    assert!(run(&["--debug-headers"]).expect("alone").debug_headers);
    assert!(!run(&["--debug-headers=false"]).expect("with a value").debug_headers);
    assert!(!run(&["--access-log", "off"]).expect("off").access_log.is_on());
    assert!(
        !run(&["--access-log", "FALSE"])
            .expect("as in an environment")
            .access_log
            .is_on()
    );
}

#[test]
fn help_is_not_an_error() {
    let help = run(&["--help"]).expect_err("help is printed");
    assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
    let text = help.to_string();
    assert!(
        text.contains("[default: 30s]") && text.contains("TSUNAGI_DRAIN_TIMEOUT"),
        "{text}"
    );
}
