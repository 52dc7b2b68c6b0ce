//! What fuzzing runs: each target takes any bytes, panics when something holds that must not, and says whether the bytes
//! were worth anything (admitted, a valid resource, a rule that was met). Called with the committed corpus and damaged
//! copies of it by `tests/fuzz.rs`, with whatever libFuzzer finds by the crate in `tests/fuzz/guided`.

mod admission;
mod choices;
mod decision;
mod judged;
mod regex;
mod resource;

pub use admission::{admission, encoded};
pub use decision::decision;
pub use regex::regex;
pub use resource::resource;
