//! libFuzzer on the admission of YAML.
#![no_main]

#[path = "../targets/admission.rs"]
mod admission;
#[path = "../targets/judged.rs"]
mod judged;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    admission::admission(input);
});
