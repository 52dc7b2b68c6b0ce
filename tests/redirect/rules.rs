//! What stands in the packet filter before, during and after: install twice is once, remove restores what was there, print
//! is what is installed, and few privileges suffice.

use tsunagi_tests::{Bridge, Pod, binaries};

use super::pod::{Output, redirect, run};
use super::{WRITERS, able};

/// Everything that the tools show, without times and counts.
fn all_rules(pod: &Pod) -> String {
    let mut text = String::new();
    for (tool, arguments) in [
        ("nft", &["list", "ruleset"] as &[&str]),
        ("iptables-nft-save", &[]),
        ("ip6tables-nft-save", &[]),
        ("iptables-legacy-save", &[]),
        ("ip6tables-legacy-save", &[]),
        ("ip", &["-6", "address", "show", "dev", "lo"]),
    ] {
        let output = run(pod.command(tool).args(arguments));
        let shown = output.stdout.lines().filter(|line| !line.starts_with('#'));
        let shown = shown.map(|line| line.split(" [").next().unwrap_or_default());
        text.push_str(&format!("---- {tool}\n{}\n", shown.collect::<Vec<_>>().join("\n")));
    }
    text
}

fn must(output: Output) -> String {
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    output.stdout
}

fn with_input(pod: &Pod, tool: &str, arguments: &[&str], input: &str) {
    use std::io::Write;
    let mut command = pod.command(tool);
    command.args(arguments).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the tool starts");
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(input.as_bytes())
        .expect("the tool reads");
    assert!(child.wait().expect("our own child").success(), "{tool} takes\n{input}");
}

/// Somebody else's rules, also in the chains that ours hang on, and Istio's chain names.
fn foreign_rules(pod: &Pod, tool: &str) {
    let script = "*nat\n:ISTIO_INBOUND - [0:0]\n:TSUNAGI_OTHER - [0:0]\n-A ISTIO_INBOUND -p tcp -j RETURN\n\
        -A PREROUTING -p tcp -m tcp --dport 9 -m comment --comment \"to -j TSUNAGI_INBOUND\" -j ISTIO_INBOUND\n\
        -A OUTPUT -p udp -j TSUNAGI_OTHER\nCOMMIT\n*filter\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n";
    for family in ["iptables", "ip6tables"] {
        with_input(pod, &format!("{family}-{tool}-restore"), &["--noflush"], script);
    }
}

#[test]
fn install_twice_is_once_and_remove_restores_what_was_there() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    for (number, writer) in WRITERS.into_iter().enumerate() {
        for foreign in ["none", "nft", "legacy"] {
            let pod = bridge.pod(&format!("p{number}{foreign}"));
            if foreign != "none" {
                foreign_rules(&pod, foreign);
                with_input(
                    &pod,
                    "nft",
                    &["-f", "-"],
                    "table inet other {\n chain x {\n counter packets 3 bytes 9 accept\n }\n}\n",
                );
            }
            if writer == "iptables-legacy" {
                // The kernel makes this table when it is first looked at, and never takes it away.
                for tool in ["iptables-legacy", "ip6tables-legacy"] {
                    must(run(pod.command(tool).args(["-t", "nat", "-S"])));
                }
            }
            let case = format!("{writer}, foreign rules: {foreign}");
            let before = all_rules(&pod);
            let text = must(redirect(&pod, "install", writer, &[]));
            assert!(text.contains("all TCP -> port 15001"), "{case}: {text}");
            let once = all_rules(&pod);
            assert_ne!(before, once, "{case}");
            must(redirect(&pod, "install", writer, &[]));
            assert_eq!(all_rules(&pod), once, "{case}: twice is once");
            must(redirect(
                &pod,
                "install",
                writer,
                &["--exclude-outbound-ports=77", "--inbound-port=7"],
            ));
            let other = all_rules(&pod);
            assert!(other.contains("77") && !other.contains("15006"), "{case}: {other}");
            must(redirect(&pod, "install", writer, &[]));
            assert_eq!(all_rules(&pod), once, "{case}: other options are gone");
            must(redirect(&pod, "remove", "auto", &[]));
            assert_eq!(all_rules(&pod), before, "{case}: as it was");
            assert_eq!(must(redirect(&pod, "remove", writer, &[])), "nothing to remove\n");
            assert_eq!(all_rules(&pod), before, "{case}: as it was");
        }
    }
}

#[test]
fn another_writer_replaces_the_rules_and_an_address_of_somebody_else_stays() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    let pod = bridge.pod("p");
    let before = all_rules(&pod);
    for writer in ["nft", "iptables", "nft"] {
        must(redirect(&pod, "install", writer, &[]));
        let rules = all_rules(&pod);
        assert_eq!(rules.contains("table inet tsunagi"), writer == "nft", "{rules}");
        assert_eq!(rules.contains("TSUNAGI_OUTBOUND"), writer == "iptables", "{rules}");
        assert_eq!(rules.contains("inet6 ::6/128"), pod.has_ipv6());
    }
    must(redirect(&pod, "remove", "auto", &[]));
    assert_eq!(all_rules(&pod), before, "whoever made the address, it is gone");
    if pod.has_ipv6() {
        must(run(pod
            .command("ip")
            .args(["-6", "address", "add", "::6/128", "dev", "lo"])));
        let before = all_rules(&pod);
        for writer in WRITERS {
            must(redirect(&pod, "install", writer, &[]));
            must(redirect(&pod, "install", writer, &[]));
            must(redirect(&pod, "remove", writer, &[]));
            assert!(all_rules(&pod).contains("inet6 ::6/128"), "{writer}");
        }
        assert!(before.contains("inet6 ::6/128"));
    }
}

#[test]
fn auto_respects_legacy_tables_in_use() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    let (fresh, legacy) = (bridge.pod("fresh"), bridge.pod("legacy"));
    assert!(must(redirect(&fresh, "install", "auto", &[])).starts_with("redirected by nft,"));
    foreign_rules(&legacy, "legacy");
    assert!(must(redirect(&legacy, "install", "auto", &[])).starts_with("redirected by iptables-legacy,"));
}

#[test]
fn print_needs_no_privileges_and_is_what_install_writes() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    for (number, writer) in WRITERS.into_iter().enumerate() {
        let (installed, by_hand) = (bridge.pod(&format!("i{number}")), bridge.pod(&format!("h{number}")));
        let flags = [
            "--exclude-outbound-cidrs=10.0.0.0/8,fd00::/8",
            "--include-inbound-ports=80,443",
        ];
        let mut command = by_hand.command_as(65534, &binaries().proxy);
        command.args(["redirect", "print", "--backend", writer]).args(flags);
        let printed = must(run(&mut command));
        assert_eq!(
            must(redirect(&installed, "print", writer, &flags)),
            printed,
            "{writer}: as root too"
        );
        must(redirect(&installed, "install", writer, &flags));
        for part in printed.split("# ").skip(1) {
            let (command, script) = part.split_once('\n').unwrap();
            let words: Vec<&str> = command.split(' ').collect();
            if words[0] == "ip" {
                must(run(by_hand.command("ip").args(&words[1..])));
            } else if !script.is_empty() {
                with_input(&by_hand, words[0], &words[1..], script);
            }
        }
        assert_eq!(all_rules(&by_hand), all_rules(&installed), "{writer}:\n{printed}");
    }
}

#[test]
fn net_admin_and_net_raw_suffice_on_a_file_system_that_cannot_be_written_and_without_them_it_says_so() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    for (number, writer) in WRITERS.into_iter().enumerate() {
        let pod = bridge.pod(&format!("p{number}"));
        let before = all_rules(&pod);
        let confined = |what: &str, capabilities: &str| {
            // Nothing can be written, and there is no lock file.
            let script = format!(
                "mount --make-rprivate / && mount -t tmpfs -o ro none /run && mount -o remount,bind,ro / && \
                 exec setpriv --no-new-privs --bounding-set=-all{capabilities} --inh-caps=-all{capabilities} \
                 {} redirect {what} --backend {writer}",
                binaries().proxy.display()
            );
            run(pod.command("unshare").args(["--mount", "sh", "-c", &script]))
        };
        let few = ",+net_admin,+net_raw";
        let text = must(confined("install", few));
        assert!(text.contains("redirected by"), "{text}");
        assert!(all_rules(&pod).contains("15001"), "{writer}");
        must(confined("remove", few));
        if writer != "iptables-legacy" {
            assert_eq!(all_rules(&pod), before, "{writer}");
        }
        let denied = confined("install", ",+net_raw");
        assert_eq!(denied.code, 1);
        assert!(denied.stderr.contains("NET_ADMIN"), "{writer}: {}", denied.stderr);
    }
}

#[test]
fn wrong_usage_and_a_missing_tool_are_told_apart() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    let pod = bridge.pod("p");
    let wrong = redirect(&pod, "install", "nft", &["--exclude-outbound-cidrs=10.0.0.0/40"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    let wrong = redirect(&pod, "install", "nft", &["--inbound-port=15001"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    // A file system with nothing on it but the program and what it needs to start.
    let script = format!(
        "for folder in /usr/sbin /sbin /usr/local/sbin; do \
            if [ -d $folder ] && [ ! -L $folder ]; then mount -t tmpfs none $folder; fi; done; exec {} redirect install",
        binaries().proxy.display()
    );
    let missing = run(pod.command("unshare").args(["--mount", "sh", "-c", &script]));
    assert_eq!(missing.code, 1, "{}", missing.stdout);
    assert!(missing.stderr.contains("nftables, iptables"), "{}", missing.stderr);
}

#[test]
fn a_failure_of_the_second_family_gives_the_first_one_back_what_it_had() {
    if !able() {
        return;
    }
    let bridge = Bridge::new();
    let pod = bridge.pod("p");
    if !pod.has_ipv6() {
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    }
    // The kernel takes no redirection in a chain that POSTROUTING leads to.
    with_input(
        &pod,
        "ip6tables-nft-restore",
        &["--noflush"],
        "*nat\n:TSUNAGI_OUTBOUND - [0:0]\n:LOOP - [0:0]\n-A LOOP -j TSUNAGI_OUTBOUND\n-A POSTROUTING -j LOOP\nCOMMIT\n",
    );
    let before = all_rules(&pod);
    let failed = redirect(&pod, "install", "iptables", &[]);
    assert_eq!(failed.code, 1, "{}", failed.stdout);
    assert_eq!(all_rules(&pod), before, "{}", failed.stderr);
}
