//! Sockets: listening with one accept queue a worker, connecting within a time, and bytes that were read too early.

mod connect;
mod head_watch;
mod lingering;
mod listen;
mod prefixed;
mod settings_watch;

pub use connect::{ConnectError, connect};
pub use head_watch::{HeadWatch, RawHead};
pub use lingering::Lingering;
pub use listen::bind;
pub use prefixed::Prefixed;
pub use settings_watch::{SettingsWatch, StreamLimit};
