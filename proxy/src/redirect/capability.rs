//! Whether this process may change the packet filter at all, asked before any tool is: the tools' own complaints do not name
//! the capability. Called by `install`.

use super::error::RedirectError;

const NET_ADMIN: u32 = 12;

/// Fails without NET_ADMIN. Where the kernel does not tell, the tools will.
pub(super) fn require_net_admin() -> Result<(), RedirectError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if has(&status, NET_ADMIN) == Some(false) {
        return Err(RedirectError::Denied { said: String::new() });
    }
    Ok(())
}

fn has(status: &str, capability: u32) -> Option<bool> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let bits = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(bits & (1 << capability) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_read_from_the_kernels_account() {
        let status = |effective: &str| format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{effective}\n");
        assert_eq!(has(&status("0000000000003000"), NET_ADMIN), Some(true));
        assert_eq!(has(&status("0000000000002000"), NET_ADMIN), Some(false));
        assert_eq!(has("Name:\tx\n", NET_ADMIN), None);
    }
}
