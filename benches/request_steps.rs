//! Single steps of a request, in nanoseconds: what a feature costs each request that does not use it.

fn main() {
    divan::main();
}
