//! libFuzzer on the check of resources.
#![no_main]

#[path = "../targets/judged.rs"]
mod judged;
#[path = "../targets/resource.rs"]
mod resource;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    resource::resource(input);
});
