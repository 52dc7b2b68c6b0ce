//! What the benchmarks share: simulated proxies that speak the real protocol, what a control plane would tell, endpoints
//! that cost little, a load of a fixed rate, and percentiles.

mod answers;
pub mod compare_output;
mod fleet;
mod load;
pub mod strace;
pub mod told;
mod writer;

use std::time::Duration;

pub use answers::answers;
pub use fleet::Fleet;
pub use load::Load;
pub use writer::Writer;

/// The value that `share` of the times do not exceed.
pub fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let index = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
    times.get(index).copied().unwrap_or_default()
}

/// An option of the benchmark, from the environment: `cargo bench` passes no arguments through cleanly.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_of_a_hundred_is_the_99th() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&mut times, 0.5), Duration::from_millis(50));
    }
}
