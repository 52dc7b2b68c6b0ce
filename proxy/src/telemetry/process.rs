//! What Linux says about this process (`/proc/self`), for the usual `process_*` metrics and `/memory`.
//!
//! Read at a scrape only. Elsewhere than on Linux the files are missing and the metrics are left out.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The moment this process began to keep metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started(SystemTime);

impl Started {
    pub(crate) fn now() -> Started {
        Started(SystemTime::now())
    }

    pub(crate) fn seconds(self) -> f64 {
        self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

/// Resident memory. `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    parse_resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

/// User and system time. `None` where the system does not say.
pub(crate) fn cpu_time() -> Option<Duration> {
    parse_cpu_time(&fs::read_to_string("/proc/self/stat").ok()?)
}

pub(crate) fn open_files() -> Option<usize> {
    // The directory that is being read is one of them, and is closed again.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Fields 14 and 15 in clock ticks; Linux counts 100 of them a second towards user space on every architecture.
fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The second field is the command in parentheses and may contain anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            parse_resident_bytes("Name:\tx\nVmRSS:\t    9876 kB\nRssAnon: 1 kB\n"),
            Some(9876 * 1024)
        );
        assert_eq!(parse_resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn processor_time_is_found_behind_any_command_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 99";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu_time("nonsense"), None);
    }
}
