//! libFuzzer on regexes.
#![no_main]

#[path = "../targets/judged.rs"]
mod judged;
#[path = "../targets/regex.rs"]
mod regex;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    regex::regex(input);
});
