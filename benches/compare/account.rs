//! The kernel's account of a proxy: processor time of all its threads in nanoseconds, and resident memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::Outcome;

/// Processor time, user and system, of each thread since it started. A thread that ends between two readings is lost to
/// the second: proxies keep theirs.
pub struct CpuReading(BTreeMap<(u32, String), u64>);

impl CpuReading {
    /// From `schedstat`, which is exact where `stat` counts ticks of 10 ms.
    pub fn of(processes: &[u32]) -> Outcome<CpuReading> {
        let mut threads = BTreeMap::new();
        for process in processes {
            let folder = format!("/proc/{process}/task");
            let listed = fs::read_dir(&folder).map_err(|error| format!("process {process} is gone: {error}"))?;
            for thread in listed.flatten() {
                let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
                let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
                let name = thread.file_name().to_string_lossy().into_owned();
                if let Some(nanoseconds) = nanoseconds {
                    threads.insert((*process, name), nanoseconds);
                }
            }
        }
        if threads.is_empty() && !processes.is_empty() {
            return Err("this kernel has no /proc/PID/task/TID/schedstat (CONFIG_SCHED_INFO)".to_owned());
        }
        Ok(CpuReading(threads))
    }

    pub fn since(&self, earlier: &CpuReading) -> Duration {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or_default();
        let spent = self.0.iter().map(|(thread, now)| now.saturating_sub(before(thread)));
        Duration::from_nanos(spent.sum())
    }
}

/// How long a core has been busy since the machine started, with whatever: in ticks of 10 ms, time that the hypervisor
/// took included. What proxies did not spend of it disturbed them.
pub fn core_busy(core: u64) -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")));
    let fields = line
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.parse().unwrap_or(0));
    // user nice system idle iowait irq softirq steal; the rest is contained in these.
    let busy = fields.take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    Duration::from_millis(10 * busy.map(|(_, ticks)| ticks).sum::<u64>())
}

/// `VmRSS` of all, in bytes.
pub fn resident_bytes(processes: &[u32]) -> u64 {
    let of_one = |process: &u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        let kilobytes = line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok());
        kilobytes.unwrap_or_default() * 1024
    };
    processes.iter().map(of_one).sum()
}
