//! Tests of the rules as text. What the kernel makes of them is tested end to end, with the tools, in network namespaces.

use clap::Parser;

use super::*;
use crate::bootstrap::{Command, CommandLine, RedirectOptions};

fn options(flags: &[&str]) -> RedirectOptions {
    let line = ["tsunagi-proxy", "redirect", "print"].iter().chain(flags);
    match CommandLine::parse_from(line).command {
        Command::Redirect(RedirectCommand::Print(options)) => options,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn without_flags_everything_but_the_sidecars_own_is_redirected() {
    let script = nft::script(&rules::rules(&options(&[])), false);
    let expected = "table inet tsunagi\ndelete table inet tsunagi\ntable inet tsunagi {\n\
        \tchain inbound {\n\
        \t\ttcp dport { 15021, 15090 } return\n\
        \t\tmeta l4proto tcp redirect to :15006\n\
        \t}\n\tchain prerouting {\n\t\ttype nat hook prerouting priority -100; policy accept;\n\
        \t\ttcp flags & (fin | syn | rst | ack) == syn jump inbound\n\t}\n\
        \tchain outbound {\n\
        \t\toifname \"lo\" ip saddr 127.0.0.6 return\n\
        \t\toifname \"lo\" ip6 saddr ::6 return\n\
        \t\toifname \"lo\" meta skuid { 1337 } ip daddr != 127.0.0.0/8 jump inbound\n\
        \t\toifname \"lo\" meta skuid { 1337 } ip6 daddr != ::1/128 jump inbound\n\
        \t\toifname \"lo\" return\n\
        \t\tmeta skuid { 1337 } return\n\
        \t\ttcp dport { 53 } return\n\
        \t\tip6 daddr { fe80::/10 } return\n\
        \t\tmeta l4proto tcp redirect to :15001\n\
        \t}\n\tchain output {\n\t\ttype nat hook output priority -100; policy accept;\n\
        \t\ttcp flags & (fin | syn | rst | ack) == syn jump outbound\n\t}\n}\n";
    assert_eq!(script, expected);
}

#[test]
fn what_is_excluded_and_included_becomes_rules_before_the_last() {
    let flags = [
        "--outbound-port=1001",
        "--exclude-uids=7,5,7",
        "--exclude-outbound-ports=5432,6000-6010",
        "--exclude-outbound-cidrs=10.0.0.0/8,fd00::1",
        "--include-outbound-cidrs=10.1.0.0/16,192.168.0.0/16",
        "--include-outbound-ports=80",
        "--include-inbound-ports=8080",
    ];
    let script = nft::script(&rules::rules(&options(&flags)), true);
    for expected in [
        "\tmeta skuid { 1337, 5, 7 } return\n\t\ttcp dport { 53, 5432, 6000-6010 } return\n\
         \t\tip6 daddr { fe80::/10 } return\n\t\tip daddr { 10.0.0.0/8 } return\n\t\tip6 daddr { fd00::1/128 } return\n\
         \t\ttcp dport { 80 } meta l4proto tcp redirect to :1001\n\
         \t\tip daddr { 10.1.0.0/16, 192.168.0.0/16 } meta l4proto tcp redirect to :1001\n\t}",
        "\ttcp dport { 8080 } meta l4proto tcp redirect to :15006\n\t}",
        "chain made_address {\n",
    ] {
        assert!(script.contains(expected), "{expected}\nis not in\n{script}");
    }
}

#[test]
fn everything_and_nothing_can_be_written_too() {
    let text = |flags: &[&str]| nft::script(&rules::rules(&options(flags)), false);
    let all = text(&["--exclude-outbound-cidrs=0.0.0.0/0,::/0"]);
    assert!(
        all.contains("ip6 daddr { fe80::/10 } return\n\t\tmeta nfproto ipv4 return\n\t\tmeta nfproto ipv6 return"),
        "{all}"
    );
    let none = text(&["--include-inbound-ports=", "--include-outbound-cidrs="]);
    assert!(!none.contains("redirect to"), "{none}");
}

#[test]
fn people_read_what_is_redirected_and_what_is_not() {
    let outcome = summary::Outcome {
        writer: "nft".to_owned(),
        ipv6: false,
        made_address: false,
        notes: vec!["a word".to_owned()],
    };
    let text = outcome.text(&options(&["--exclude-uids=5", "--include-inbound-ports=80,81"]));
    let expected = "redirected by nft, IPv4 (there is no IPv6 here)\n\
        \x20 outbound: all TCP -> port 15001\n\
        \x20      not: loopback and the pod itself, user 1337 (the sidecar), user 5, port 53\n\
        \x20 inbound:  TCP to port 80-81 -> port 15006\n\
        \x20      not: port 15021, 15090\nnote: a word\n";
    assert_eq!(text, expected);
}

#[test]
fn a_tools_complaint_says_what_to_do() {
    let text = |stderr: &str| RedirectError::from_tool("nft", stderr).to_string();
    assert!(text("netlink: Error: Operation not permitted (you must be root)").contains("NET_ADMIN"));
    let missing = "iptables-restore v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you \
                   need to insmod?)";
    assert!(text(missing).contains("load its modules"));
    assert!(text("syntax error").contains("nft failed: syntax error"));
    assert!(text(&"long ".repeat(1000)).len() < 500);
}
