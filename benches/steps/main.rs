//! Single steps of a request in nanoseconds and allocations: what a feature costs each request. The codec has a benchmark
//! of its own.

mod balance;
mod decision;
mod fields;
mod limits;
mod pool;
mod telemetry;

use divan::AllocProfiler;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Numbers as good as random, without the cost of it.
fn sequence() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state
    }
}
