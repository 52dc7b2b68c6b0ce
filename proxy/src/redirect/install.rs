//! Install, remove and print: which tool writes the rules, what stands there already, and in which order things change so
//! that a failure leaves what was there. Called by `redirect::run`.

use super::capability::require_net_admin;
use super::error::RedirectError;
use super::iptables::{Kind, Tools};
use super::rules::{self, Rules};
use super::summary::{Outcome, print_text, remove_text};
use super::{loopback_address, nft, tool};
use crate::bootstrap::{PacketFilter, RedirectOptions};

/// Somebody who can write the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Writer {
    Nft,
    Iptables(Tools),
}

impl Writer {
    pub(super) fn name(&self) -> String {
        match self {
            Writer::Nft => "nft".to_owned(),
            Writer::Iptables(tools) => tools.name(),
        }
    }

    fn install(&self, rules: &Rules, address: bool, ipv6: bool) -> Result<(), RedirectError> {
        match self {
            Writer::Nft => nft::install(rules, address),
            Writer::Iptables(tools) => tools.install(&tools.steps(rules, address, ipv6)),
        }
    }

    fn remove(&self) -> Result<(), RedirectError> {
        match self {
            Writer::Nft => nft::remove(),
            Writer::Iptables(tools) => tools.remove(),
        }
    }

    /// What it has written here.
    fn standing(&self) -> Result<Standing, RedirectError> {
        match self {
            Writer::Nft => match nft::installed() {
                Ok(installed) => Ok(Standing {
                    installed: installed.is_some(),
                    made_address: installed.is_some_and(|it| it.made_address),
                    ..Standing::default()
                }),
                // The kernel knows no nftables: nothing is there.
                Err(RedirectError::Unsupported { .. }) => Ok(Standing::default()),
                Err(error) => Err(error),
            },
            Writer::Iptables(tools) => {
                let tables = tools.read()?;
                Ok(Standing {
                    installed: tables.iter().any(|table| table.is_installed()),
                    made_address: tables.iter().any(|table| table.made_address()),
                    foreign_rules: tables.iter().any(|table| table.has_foreign_rules()),
                    istio: tables.iter().any(|table| table.has_istio()),
                })
            }
        }
    }

    /// Whether it can redirect IPv6.
    fn has_ipv6(&self) -> bool {
        match self {
            Writer::Nft => true,
            Writer::Iptables(tools) => tools.has_ipv6(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    installed: bool,
    made_address: bool,
    foreign_rules: bool,
    istio: bool,
}

/// Everybody on this machine, and what each has written in this namespace.
fn look_around() -> Vec<(Writer, Result<Standing, RedirectError>)> {
    let nft = tool::is_installed(nft::TOOL).then_some(Writer::Nft);
    let iptables = [Kind::NfTables, Kind::Legacy].into_iter().filter_map(Tools::find);
    nft.into_iter()
        .chain(iptables.map(Writer::Iptables))
        .map(|writer| {
            let standing = writer.standing();
            (writer, standing)
        })
        .collect()
}

/// Those that `wanted` allows, the best first.
fn choose(
    wanted: PacketFilter,
    around: &[(Writer, Result<Standing, RedirectError>)],
) -> Result<Vec<Writer>, RedirectError> {
    let of_kind = |kind| {
        let is_it = move |writer: &&Writer| matches!(writer, Writer::Iptables(tools) if tools.kind == kind);
        around.iter().map(|(writer, _)| writer).find(is_it).cloned()
    };
    let nft = around
        .iter()
        .map(|(writer, _)| writer)
        .find(|it| **it == Writer::Nft)
        .cloned();
    let (looked_for, found) = match wanted {
        PacketFilter::Nft => ("nft", vec![nft]),
        PacketFilter::IptablesLegacy => ("iptables-legacy", vec![of_kind(Kind::Legacy)]),
        PacketFilter::Iptables => (
            "iptables",
            vec![
                of_kind(Kind::usual())
                    .or_else(|| of_kind(Kind::NfTables))
                    .or_else(|| of_kind(Kind::Legacy)),
            ],
        ),
        PacketFilter::Auto => {
            let in_use = |(writer, standing): &&(Writer, Result<Standing, RedirectError>)| {
                matches!(writer, Writer::Iptables(tools) if tools.kind == Kind::Legacy)
                    && standing.as_ref().is_ok_and(|standing| standing.foreign_rules)
            };
            // Whoever has rules in legacy tables looks for them there, and the kernel asks both.
            let legacy = around.iter().find(in_use).map(|(writer, _)| writer.clone());
            let rest = if legacy.is_some() { None } else { of_kind(Kind::Legacy) };
            (
                "nft, iptables, iptables-legacy",
                vec![legacy, nft, of_kind(Kind::NfTables), rest],
            )
        }
    };
    let found: Vec<Writer> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Err(RedirectError::NoTool {
            looked_for: looked_for.to_owned(),
        });
    }
    Ok(found)
}

pub(super) fn install(options: &RedirectOptions) -> Result<String, RedirectError> {
    require_net_admin()?;
    let around = look_around();
    let writers = choose(options.backend, &around)?;
    let standing = |pick: fn(&Standing) -> bool| around.iter().any(|(_, it)| it.as_ref().is_ok_and(pick));

    let mut notes = Vec::new();
    let ipv6 = loopback_address::namespace_has_ipv6();
    let added = ipv6 && add_address(&mut notes)?;
    let made_address = added || standing(|it| it.made_address);
    let writer = match first_that_works(&writers, &rules::rules(options), made_address, ipv6, &mut notes) {
        Ok(writer) => writer,
        Err(error) => {
            if added {
                loopback_address::remove()?;
            }
            return Err(error);
        }
    };
    // The others' rules go last: until then both redirect, and at no moment neither does.
    for (other, standing) in &around {
        if other != &writer.0 && standing.as_ref().is_ok_and(|it| it.installed) {
            other
                .remove()
                .map_err(|error| RedirectError::Leftover(Box::new(error)))?;
        }
    }
    if standing(|it| it.istio) {
        notes.push("chains of Istio's installer redirect here too: remove one of the two".to_owned());
    }
    let outcome = Outcome {
        writer: writer.0.name(),
        ipv6: writer.1,
        made_address,
        notes,
    };
    Ok(outcome.text(options))
}

/// Whether it was added. A namespace that nobody reaches over IPv6 can do without.
fn add_address(notes: &mut Vec<String>) -> Result<bool, RedirectError> {
    match loopback_address::add() {
        Err(error) if !loopback_address::namespace_is_reachable_over_ipv6() => {
            notes.push(error.to_string());
            Ok(false)
        }
        done => done,
    }
}

/// Who wrote the rules, and whether for IPv6 too.
fn first_that_works(
    writers: &[Writer],
    rules: &Rules,
    address: bool,
    ipv6: bool,
    notes: &mut Vec<String>,
) -> Result<(Writer, bool), RedirectError> {
    let optional = ipv6 && !loopback_address::namespace_is_reachable_over_ipv6();
    let mut failures = Vec::new();
    for writer in writers {
        if ipv6 && !optional && !writer.has_ipv6() {
            failures.push(RedirectError::NoTool {
                looked_for: "ip6tables".to_owned(),
            });
            continue;
        }
        match writer.install(rules, address, ipv6) {
            Ok(()) => return Ok((writer.clone(), ipv6 && writer.has_ipv6())),
            Err(error) if optional && *writer != Writer::Nft => match writer.install(rules, address, false) {
                Ok(()) => {
                    notes.push(format!("IPv6 is not redirected, and no address here has it: {error}"));
                    return Ok((writer.clone(), false));
                }
                Err(error) => failures.push(error),
            },
            Err(error) => failures.push(error),
        }
    }
    Err(one_of(failures))
}

/// The failure if it is one, or if all say the same; else all of them.
fn one_of(mut failures: Vec<RedirectError>) -> RedirectError {
    let denied = |failure: &RedirectError| matches!(failure, RedirectError::Denied { .. });
    match failures.pop() {
        Some(only) if failures.is_empty() => only,
        Some(last) if denied(&last) && failures.iter().all(denied) => last,
        last => RedirectError::NothingWorks(failures.iter().chain(&last).map(ToString::to_string).collect()),
    }
}

pub(super) fn remove(wanted: PacketFilter) -> Result<String, RedirectError> {
    require_net_admin()?;
    let around = look_around();
    let allowed = choose(wanted, &around)?;
    let mut removed = Vec::new();
    let mut made_address = false;
    let mut failures = Vec::new();
    for (writer, standing) in around.into_iter().filter(|(writer, _)| allowed.contains(writer)) {
        let done = standing.and_then(|standing| {
            if standing.installed {
                writer.remove()?;
                made_address |= standing.made_address;
                removed.push(writer.name());
            }
            Ok(())
        });
        // One that fails keeps nobody else's rules here.
        failures.extend(done.err());
    }
    if made_address {
        loopback_address::remove()?;
    }
    if failures.is_empty() {
        Ok(remove_text(&removed, made_address))
    } else {
        Err(one_of(failures))
    }
}

/// What install would do here. Without privileges nobody tells what stands here already: then, as where nothing does.
pub(super) fn print(options: &RedirectOptions) -> Result<String, RedirectError> {
    let around = look_around();
    let writer = match choose(options.backend, &around) {
        Ok(writers) => writers.into_iter().next(),
        Err(_) => None,
    };
    let rules = rules::rules(options);
    let ipv6 = loopback_address::namespace_has_ipv6();
    let known = around.iter().any(|(_, it)| it.as_ref().is_ok_and(|it| it.made_address));
    let made_address = ipv6 && (known || !loopback_address::is_there());
    let steps = match writer {
        Some(Writer::Iptables(tools)) => {
            let steps = tools.steps(&rules, made_address, ipv6);
            let step = |step: super::iptables::Step| (format!("{} --noflush", step.tool), step.script);
            steps.into_iter().map(step).collect()
        }
        Some(Writer::Nft) | None if matches!(options.backend, PacketFilter::Auto | PacketFilter::Nft) => {
            vec![("nft -f -".to_owned(), nft::script(&rules, made_address))]
        }
        _ => {
            return Err(RedirectError::NoTool {
                looked_for: "iptables".to_owned(),
            });
        }
    };
    Ok(print_text(options, &steps, made_address))
}
