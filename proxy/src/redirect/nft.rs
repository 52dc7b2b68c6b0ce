//! The rules in the language of `nft` (nftables 0.9 or newer, kernel 5.2 or newer): one table `inet tsunagi` for both
//! families, replaced or deleted in one transaction, so that nothing is ever half there. Called by `install`.

use std::fmt::Write;

use super::error::RedirectError;
use super::rules::{Family, Rule, Rules, Then, When};
use super::tool;

pub(super) const TOOL: &str = "nft";
const TABLE: &str = "inet tsunagi";
/// An empty chain: install has put ::6 on `lo`.
const ADDRESS_MARK: &str = "made_address";

/// A connection's first packet. One that is older than the rules would look new in its middle, and would be torn.
const NEW_CONNECTION: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// What stands in the table now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) made_address: bool,
}

pub(super) fn installed() -> Result<Option<Installed>, RedirectError> {
    // Names of tables only: a list of all rules fails on one that this version of the tool does not know.
    let tables = tool::run(TOOL, &["list", "tables"], "")?;
    if !tables.lines().any(|line| line.trim() == format!("table {TABLE}")) {
        return Ok(None);
    }
    let table = tool::run(TOOL, &["list", "table", "inet", "tsunagi"], "")?;
    let made_address = table.contains(&format!("chain {ADDRESS_MARK} "));
    Ok(Some(Installed { made_address }))
}

pub(super) fn install(rules: &Rules, made_address: bool) -> Result<(), RedirectError> {
    tool::run(TOOL, &["-f", "-"], &script(rules, made_address)).map(drop)
}

pub(super) fn remove() -> Result<(), RedirectError> {
    tool::run(TOOL, &["-f", "-"], &emptied()).map(drop)
}

/// The table is made first, so that it can be deleted if it was not there.
fn emptied() -> String {
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

pub(super) fn script(rules: &Rules, made_address: bool) -> String {
    let mut text = emptied();
    let _ = writeln!(text, "table {TABLE} {{");
    for (name, hook, chain) in [
        ("inbound", "prerouting", &rules.inbound),
        ("outbound", "output", &rules.outbound),
    ] {
        let _ = writeln!(text, "\tchain {name} {{");
        for rule in chain {
            let _ = writeln!(text, "\t\t{}", line(rule));
        }
        // -100 is where every packet filter translates destinations.
        let _ = writeln!(
            text,
            "\t}}\n\tchain {hook} {{\n\t\ttype nat hook {hook} priority -100; policy accept;\n\
             \t\t{NEW_CONNECTION} jump {name}\n\t}}"
        );
    }
    if made_address {
        let _ = writeln!(text, "\tchain {ADDRESS_MARK} {{\n\t}}");
    }
    text.push_str("}\n");
    text
}

fn line(rule: &Rule) -> String {
    let mut words: Vec<String> = rule.when.iter().map(condition).collect();
    words.push(match rule.then {
        Then::LeaveAlone => "return".to_owned(),
        Then::WalkInbound => "jump inbound".to_owned(),
        Then::Redirect(port) => format!("meta l4proto tcp redirect to :{port}"),
    });
    words.join(" ")
}

fn condition(when: &When) -> String {
    match when {
        When::OverLoopback => "oifname \"lo\"".to_owned(),
        When::From(address) => format!("{} saddr {address}", protocol(Family::of(*address))),
        When::NotTo(cidr) => format!("{} daddr != {cidr}", protocol(Family::of(cidr.address))),
        When::User(uids) => format!("meta skuid {}", set(uids)),
        When::ToPort(ports) => format!("tcp dport {{ {ports} }}"),
        When::To(cidrs) => {
            // A set cannot hold everything; a list with all addresses in it is just the family.
            let family = cidrs.first().map_or(Family::V4, |cidr| Family::of(cidr.address));
            match (cidrs.iter().any(|cidr| cidr.prefix == 0), family) {
                (true, Family::V4) => "meta nfproto ipv4".to_owned(),
                (true, Family::V6) => "meta nfproto ipv6".to_owned(),
                (false, family) => format!("{} daddr {}", protocol(family), set(cidrs)),
            }
        }
    }
}

fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn set<T: ToString>(members: &[T]) -> String {
    let members: Vec<String> = members.iter().map(T::to_string).collect();
    format!("{{ {} }}", members.join(", "))
}
