//! Why the packet filter could not be changed, with what an operator can do about it. Made by every file of this room.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    #[error("no tool for the packet filter is installed: looked for {looked_for} (packages nftables, iptables)")]
    NoTool { looked_for: String },
    #[error(
        "no permission to change the packet filter{}: run it as root with NET_ADMIN and NET_RAW \
         (an init container: securityContext.capabilities.add)", said_by(.said)
    )]
    Denied { said: String },
    #[error(
        "the kernel lacks what {tool} needs; load its modules on the node (nf_nat, nft_redir; for iptables iptable_nat, \
         xt_REDIRECT, xt_owner), or choose another --backend: {said}"
    )]
    Unsupported { tool: String, said: String },
    #[error("{tool} failed: {said}")]
    Failed { tool: String, said: String },
    #[error("cannot run {tool}: {source}")]
    Start { tool: String, source: io::Error },
    #[error("cannot set ::6/128 on lo: {0}")]
    Address(io::Error),
    #[error("no packet filter does it here: {}", .0.join("; "))]
    NothingWorks(Vec<String>),
    #[error("the new rules are in force, but the former ones could not be removed: {0}")]
    Leftover(Box<RedirectError>),
    #[error("{cause}; and what was there before could not be restored: {undo}")]
    NotUndone {
        cause: Box<RedirectError>,
        undo: Box<RedirectError>,
    },
}

fn said_by(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" ({said})")
    }
}

impl RedirectError {
    /// What a tool's complaint means. The tools have no codes: their words are all there is.
    pub(super) fn from_tool(tool: &str, stderr: &str) -> RedirectError {
        let said = shortened(stderr);
        let says = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
        if says(&["Operation not permitted", "Permission denied", "must be root"]) {
            RedirectError::Denied {
                said: format!("{tool}: {said}"),
            }
        } else if says(&[
            "insmod",
            "Table does not exist",
            "Protocol not supported",
            "Operation not supported",
            "Could not process rule: No such file or directory",
            "cache initialization failed",
            "Could not fetch rule set generation id",
            "RULE_APPEND failed",
            "Couldn't load match",
            "missing kernel module",
        ]) {
            RedirectError::Unsupported {
                tool: tool.to_owned(),
                said,
            }
        } else {
            RedirectError::Failed {
                tool: tool.to_owned(),
                said,
            }
        }
    }
}

/// One line of bounded length.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "it did not say why".to_owned();
    }
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
