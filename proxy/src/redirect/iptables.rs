//! The rules in the language of `iptables-restore`, for IPv4 and IPv6, in chains of their own in the table `nat`. Called by
//! `install`. Reading what `iptables-save` shows is in `table`.
//!
//! With `--noflush` a chain that is named is emptied and filled anew, and all lines up to COMMIT are one transaction. Two
//! families are two: if the second fails, the first gets back what it had.

mod table;

use super::error::RedirectError;
use super::rules::{Family, Rule, Rules, Then, When};
use super::tool;
pub(super) use table::Table;
use table::{ADDRESS_MARK, BASE_CHAINS, INBOUND, NEW_CONNECTION, OUTBOUND, TABLE_MARK};

/// Other processes may hold the lock for a moment.
const WAIT: &str = "--wait=10";

/// The two implementations. Both can have rules at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NfTables,
    Legacy,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Kind::NfTables => "nft",
            Kind::Legacy => "legacy",
        }
    }

    /// Of the tool that is just called `iptables`.
    pub(super) fn usual() -> Kind {
        match tool::is_installed("iptables-save") && !tool::speaks_to_nf_tables("iptables-save") {
            true => Kind::Legacy,
            false => Kind::NfTables,
        }
    }
}

/// The tools of one kind. Without IPv6's, IPv6 cannot be redirected by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tools {
    pub(super) kind: Kind,
    v4: FamilyTools,
    v6: Option<FamilyTools>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FamilyTools {
    family: Family,
    kind: Kind,
    save: String,
    restore: String,
}

/// One call of a tool: what `print` shows and `install` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) tool: String,
    pub(super) script: String,
    family: Family,
    before: Table,
}

impl Tools {
    pub(super) fn find(kind: Kind) -> Option<Tools> {
        Some(Tools {
            kind,
            v4: FamilyTools::find(kind, Family::V4)?,
            v6: FamilyTools::find(kind, Family::V6),
        })
    }

    pub(super) fn name(&self) -> String {
        match self.kind {
            Kind::NfTables => "iptables (nf_tables)".to_owned(),
            Kind::Legacy => "iptables-legacy".to_owned(),
        }
    }

    pub(super) fn has_ipv6(&self) -> bool {
        self.v6.is_some()
    }

    fn families(&self) -> impl Iterator<Item = &FamilyTools> {
        std::iter::once(&self.v4).chain(&self.v6)
    }

    /// What stands in each family's table now. A kind that the kernel does not know has nothing there.
    pub(super) fn read(&self) -> Result<Vec<Table>, RedirectError> {
        self.families().map(FamilyTools::read).collect()
    }

    /// What install does, given what stands there; a table that cannot be read counts as not there.
    pub(super) fn steps(&self, rules: &Rules, made_address: bool, ipv6: bool) -> Vec<Step> {
        let families = self.families().filter(|tools| ipv6 || tools.family == Family::V4);
        families
            .map(|tools| {
                let before = tools.read().unwrap_or_default();
                let mut marks = tools.marks(&before);
                if made_address && tools.family == Family::V6 {
                    marks.push(ADDRESS_MARK.to_owned());
                }
                Step {
                    tool: tools.restore.clone(),
                    script: script(rules, tools.family, &marks, &before),
                    family: tools.family,
                    before,
                }
            })
            .collect()
    }

    /// All steps or none.
    pub(super) fn install(&self, steps: &[Step]) -> Result<(), RedirectError> {
        for (done, step) in steps.iter().enumerate() {
            if let Err(cause) = restore(&step.tool, &step.script) {
                return Err(match self.undo(&steps[..done]) {
                    Ok(()) => cause,
                    Err(undo) => RedirectError::NotUndone {
                        cause: Box::new(cause),
                        undo: Box::new(undo),
                    },
                });
            }
        }
        Ok(())
    }

    fn undo(&self, done: &[Step]) -> Result<(), RedirectError> {
        for step in done {
            match step.before.is_installed() {
                true => restore(&step.tool, &step.before.own_rules())?,
                false => self
                    .families()
                    .filter(|tools| tools.family == step.family)
                    .try_for_each(FamilyTools::remove)?,
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<(), RedirectError> {
        self.families().try_for_each(FamilyTools::remove)
    }
}

impl FamilyTools {
    fn find(kind: Kind, family: Family) -> Option<FamilyTools> {
        let plain = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let exact = format!("{plain}-{}", kind.suffix());
        let stem = if tool::is_installed(&format!("{exact}-save")) {
            exact
        } else {
            let save = format!("{plain}-save");
            let is_it = tool::is_installed(&save) && tool::speaks_to_nf_tables(&save) == (kind == Kind::NfTables);
            is_it.then(|| plain.to_owned())?
        };
        Some(FamilyTools {
            family,
            kind,
            save: format!("{stem}-save"),
            restore: format!("{stem}-restore"),
        })
    }

    /// Without naming a table: naming one would make it.
    fn read(&self) -> Result<Table, RedirectError> {
        match tool::run(&self.save, &[], "") {
            Ok(text) => Ok(Table::parse(&text)),
            Err(RedirectError::Unsupported { .. }) => Ok(Table::default()),
            Err(error) => Err(error),
        }
    }

    fn remove(&self) -> Result<(), RedirectError> {
        let before = self.read()?;
        if !before.is_installed() {
            return Ok(());
        }
        restore(&self.restore, &before.removal())?;
        let marked: Vec<&str> = BASE_CHAINS
            .into_iter()
            .filter(|chain| before.has_mark(&mark_of(chain)))
            .collect();
        self.remove_what_was_made(&marked, before.has_mark(TABLE_MARK))
    }

    /// iptables makes `nat` and its chains when they are first named, which in nf_tables can be undone. What somebody else
    /// has begun to use since then stays.
    fn remove_what_was_made(&self, chains: &[&str], table: bool) -> Result<(), RedirectError> {
        let now = self.read()?;
        for chain in chains.iter().filter(|chain| now.is_unused(chain)) {
            // Before 1.8.8 such a chain cannot be deleted. It does nothing.
            let _ = restore(&self.restore, &format!("*nat\n-X {chain}\nCOMMIT\n"));
        }
        if table && self.listed_by_nft().is_some_and(|text| !text.contains("chain")) {
            // Only `nft` can delete a table; without it an empty one stays.
            let _ = tool::run("nft", &["delete", "table", self.nft_family(), "nat"], "");
        }
        Ok(())
    }

    /// What install will make besides its own chains. In legacy tables nothing can be unmade, so nothing is noted.
    fn marks(&self, before: &Table) -> Vec<String> {
        if self.kind == Kind::Legacy {
            return Vec::new();
        }
        let listed = self.listed_by_nft();
        // `iptables-save` shows chains that are not there; without `nft`, those of a table that is there count as there.
        let there = |chain: &str| match &listed {
            Some(text) => text.contains(&format!("chain {chain} {{")),
            None => before.exists,
        };
        let mut marks: Vec<String> = BASE_CHAINS
            .into_iter()
            .filter(|chain| !there(chain) || before.has_mark(&mark_of(chain)))
            .map(mark_of)
            .collect();
        if !before.exists || before.has_mark(TABLE_MARK) {
            marks.push(TABLE_MARK.to_owned());
        }
        marks
    }

    fn listed_by_nft(&self) -> Option<String> {
        tool::run("nft", &["list", "table", self.nft_family(), "nat"], "").ok()
    }

    fn nft_family(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }
}

fn mark_of(chain: &str) -> String {
    format!("TSUNAGI_MADE_{chain}")
}

fn restore(restore: &str, script: &str) -> Result<(), RedirectError> {
    tool::run(restore, &["--noflush", WAIT], script).map(drop)
}

fn script(rules: &Rules, family: Family, marks: &[String], before: &Table) -> String {
    let mut lines = vec!["*nat".to_owned()];
    let marks = marks.iter().map(String::as_str);
    lines.extend(
        [INBOUND, OUTBOUND]
            .into_iter()
            .chain(marks)
            .map(|chain| format!(":{chain} - [0:0]")),
    );
    for (chain, rules) in [(INBOUND, &rules.inbound), (OUTBOUND, &rules.outbound)] {
        let ours = rules
            .iter()
            .filter(|rule| rule.family.is_none_or(|only| only == family));
        lines.extend(ours.flat_map(|rule| rule_lines(chain, rule)));
    }
    for (base, chain) in BASE_CHAINS.into_iter().zip([INBOUND, OUTBOUND]) {
        if !before.jumps(base, chain) {
            lines.push(format!("-A {base} {NEW_CONNECTION} -j {chain}"));
        }
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// A line for each member of the rule's list.
fn rule_lines(chain: &str, rule: &Rule) -> Vec<String> {
    let mut lines = vec![format!("-A {chain}")];
    for when in &rule.when {
        let words = conditions(when);
        lines = lines
            .iter()
            .flat_map(|line| words.iter().map(move |words| format!("{line} {words}")))
            .collect();
    }
    let verdict = match rule.then {
        Then::LeaveAlone => "-j RETURN".to_owned(),
        Then::WalkInbound => format!("-j {INBOUND}"),
        Then::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
    };
    let needs_protocol = matches!(rule.then, Then::Redirect(_));
    for line in &mut lines {
        if needs_protocol && !line.contains(" -p tcp") {
            line.push_str(" -p tcp");
        }
        line.push(' ');
        line.push_str(&verdict);
    }
    lines
}

fn conditions(when: &When) -> Vec<String> {
    match when {
        When::OverLoopback => vec!["-o lo".to_owned()],
        When::From(address) => vec![format!("-s {address}")],
        When::NotTo(cidr) => vec![format!("! -d {cidr}")],
        When::User(uids) => uids.iter().map(|uid| format!("-m owner --uid-owner {uid}")).collect(),
        When::ToPort(ports) => {
            let port = |range: &std::ops::RangeInclusive<u16>| match (range.start(), range.end()) {
                (from, to) if from == to => format!("-p tcp -m tcp --dport {from}"),
                (from, to) => format!("-p tcp -m tcp --dport {from}:{to}"),
            };
            ports.0.iter().map(port).collect()
        }
        When::To(cidrs) => cidrs.iter().map(|cidr| format!("-d {cidr}")).collect(),
    }
}
