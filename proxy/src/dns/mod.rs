//! The addresses behind names: what DNS says of the endpoints that are told by name, asked again when it expires. Only the
//! control thread asks; a request never does.
//!
//! `names` decides when which name is asked for and what an answer means, without I/O; `book` is what others see of it;
//! `resolver` asks (hickory-resolver); `asking` is the loop between them.

mod asking;
mod book;
mod names;
mod resolver;

pub use asking::run;
pub use book::Book;
pub use names::{Answer, Outcome};
pub use resolver::Resolver;
