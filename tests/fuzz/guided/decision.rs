//! libFuzzer on the decision.
#![no_main]

#[path = "../targets/choices.rs"]
mod choices;
#[path = "../targets/decision.rs"]
mod decision;
#[path = "../targets/judged.rs"]
mod judged;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    decision::decision(input);
});
