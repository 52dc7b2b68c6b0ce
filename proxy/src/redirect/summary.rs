//! What install, remove and print say to people: what is redirected, where to, and what is not. Called by `install`.

use std::fmt::Write;

use super::rules::{excluded_inbound_ports, excluded_outbound_ports};
use crate::bootstrap::{Choice, RedirectOptions};

/// What install has done.
pub(super) struct Outcome {
    pub(super) writer: String,
    pub(super) ipv6: bool,
    pub(super) made_address: bool,
    /// What is not as one would expect.
    pub(super) notes: Vec<String>,
}

impl Outcome {
    pub(super) fn text(&self, options: &RedirectOptions) -> String {
        let families = if self.ipv6 {
            "IPv4 and IPv6"
        } else {
            "IPv4 (there is no IPv6 here)"
        };
        let mut text = format!("redirected by {}, {families}\n", self.writer);
        for line in what(options) {
            let _ = writeln!(text, "  {line}");
        }
        if self.made_address {
            text.push_str("  ::6 is on lo: the sidecar calls the application from it, as from 127.0.0.6\n");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

/// The scripts, each under the command that takes it; everything else is a comment to that command.
pub(super) fn print_text(options: &RedirectOptions, steps: &[(String, String)], made_address: bool) -> String {
    let mut text = String::new();
    for line in what(options) {
        let _ = writeln!(text, "# {line}");
    }
    if made_address {
        text.push_str("# ip -6 address add ::6/128 dev lo\n");
    }
    for (command, script) in steps {
        let _ = write!(text, "# {command}\n{script}");
    }
    text
}

pub(super) fn remove_text(writers: &[String], made_address: bool) -> String {
    if writers.is_empty() {
        return "nothing to remove\n".to_owned();
    }
    let address = if made_address { ", and ::6 from lo" } else { "" };
    format!("removed the rules of {}{address}\n", writers.join(" and "))
}

fn what(options: &RedirectOptions) -> Vec<String> {
    let listed = |what: &str, list: String| (!list.is_empty()).then(|| format!("{what} {list}"));
    let words = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let or_nothing = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };

    let outbound = match &options.include_outbound_cidrs {
        Choice::All => "all TCP".to_owned(),
        Choice::Only(cidrs) => or_nothing(words(vec![
            listed("TCP to", cidrs.to_string()),
            listed("TCP to port", options.include_outbound_ports.to_string()),
        ])),
    };
    let users: Vec<String> = options.exclude_uids.0.iter().map(u32::to_string).collect();
    let outbound_not = words(vec![
        Some("loopback and the pod itself".to_owned()),
        Some(format!("user {} (the sidecar)", options.proxy_uid)),
        listed("user", users.join(", ")),
        listed("port", excluded_outbound_ports(options).to_string()),
        listed("network", options.exclude_outbound_cidrs.to_string()),
    ]);
    let inbound = match &options.include_inbound_ports {
        Choice::All => "all TCP".to_owned(),
        Choice::Only(ports) => or_nothing(words(vec![listed("TCP to port", ports.to_string())])),
    };
    vec![
        format!("outbound: {outbound} -> port {}", options.outbound_port),
        format!("     not: {outbound_not}"),
        format!("inbound:  {inbound} -> port {}", options.inbound_port),
        format!("     not: port {}", excluded_inbound_ports(options)),
    ]
}
