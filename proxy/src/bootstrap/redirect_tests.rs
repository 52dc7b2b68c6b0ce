//! Tests of the command line of `redirect` as users write it.

use clap::{CommandFactory, Parser};

use super::*;

fn install(flags: &[&str]) -> Result<RedirectOptions, clap::Error> {
    let line = ["tsunagi-proxy", "redirect", "install"].iter().chain(flags);
    CommandLine::try_parse_from(line).map(|line| match line.command {
        Command::Redirect(RedirectCommand::Install(options)) => options,
        other => unreachable!("{other:?}"),
    })
}

#[test]
fn the_defaults_are_the_promised_ones() {
    let options = install(&[]).expect("no flag is required");
    assert_eq!(options.backend, PacketFilter::Auto);
    assert_eq!(
        (options.outbound_port, options.inbound_port, options.proxy_uid),
        (15001, 15006, 1337)
    );
    assert_eq!(options.exclude_uids, Uids::default());
    assert_eq!(options.exclude_inbound_ports, Ports::default());
    assert_eq!(options.exclude_outbound_ports, Ports::default());
    assert_eq!(options.exclude_outbound_cidrs, Cidrs::default());
    assert_eq!(options.include_inbound_ports, Choice::All);
    assert_eq!(options.include_outbound_ports, Ports::default());
    assert_eq!(options.include_outbound_cidrs, Choice::All);
    assert_eq!(options.check(), Ok(()));
}

#[test]
fn every_flag_has_its_environment_variable_and_is_explained() {
    let command = CommandLine::command();
    let redirect = command.find_subcommand("redirect").expect("the subcommand");
    for name in ["install", "remove", "print"] {
        let command = redirect.find_subcommand(name).expect("the subcommand");
        let mut flags = 0;
        for flag in command.get_arguments().filter(|flag| flag.get_id() != "help") {
            let long = flag.get_long().expect("a long name");
            let expected = format!("TSUNAGI_REDIRECT_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
            assert!(flag.get_help().is_some(), "--{long} is not explained");
            flags += 1;
        }
        assert_eq!(flags, if name == "remove" { 1 } else { 11 }, "{name}");
    }
}

#[test]
fn lists_are_sorted_and_what_says_the_same_is_said_once() {
    let options = install(&[
        "--exclude-inbound-ports=443, 80,81,82-90,85-86,",
        "--exclude-outbound-cidrs=192.168.1.7,10.1.2.3/8,10.9.0.0/16,fd00::/8,fd12::1",
        "--exclude-uids=9,3,9",
    ]);
    let options = options.expect("good lists");
    assert_eq!(options.exclude_inbound_ports.to_string(), "80-90, 443");
    assert_eq!(
        options.exclude_outbound_cidrs.to_string(),
        "10.0.0.0/8, 192.168.1.7/32, fd00::/8"
    );
    assert_eq!(options.exclude_uids.0, [3, 9]);
    assert_eq!(Ports(vec![1..=65535]).with(&[53]).to_string(), "1-65535");
    let nothing = install(&["--include-inbound-ports=", "--include-outbound-cidrs="]).expect("empty is none");
    assert_eq!(nothing.include_inbound_ports, Choice::Only(Ports::default()));
    assert_eq!(nothing.include_outbound_cidrs, Choice::Only(Cidrs::default()));
}

#[test]
fn wrong_values_are_wrong_usage_with_the_flag_named() {
    let many = vec!["80"; 501].join(",");
    for (flag, value) in [
        ("--backend", "pf"),
        ("--outbound-port", "0"),
        ("--inbound-port", "65536"),
        ("--proxy-uid", "root"),
        ("--proxy-uid", "4294967295"),
        ("--exclude-uids", "1-5"),
        ("--exclude-inbound-ports", "0"),
        ("--exclude-inbound-ports", "90-80"),
        ("--exclude-outbound-ports", "*"),
        ("--exclude-outbound-ports", "80-"),
        ("--exclude-outbound-ports", many.as_str()),
        ("--exclude-outbound-cidrs", "10.0.0.0/33"),
        ("--exclude-outbound-cidrs", "10.0.0/8"),
        ("--exclude-outbound-cidrs", "fd00::/129"),
        ("--exclude-outbound-cidrs", "fd00::/+8"),
        ("--exclude-outbound-cidrs", "example.com"),
        ("--include-inbound-ports", "*,80"),
        ("--include-outbound-cidrs", "80"),
    ] {
        let error = install(&[&format!("{flag}={value}")]).expect_err(value);
        assert_eq!(error.exit_code(), 2, "wrong usage");
        assert!(error.to_string().contains(flag), "{flag}={value}");
    }
    let root = install(&["--proxy-uid=0"]).expect("a user id");
    assert!(root.check().is_err_and(|wrong| wrong.contains("--proxy-uid")));
    let same = install(&["--outbound-port=15006"]).expect("each port is one");
    assert!(same.check().is_err_and(|wrong| wrong.contains("--inbound-port")));
}
