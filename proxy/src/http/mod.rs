//! Serving one request: `request_path` is the way, every other file one step of it.

mod connection;
mod exchange;
mod forward;
mod head;
mod local_reply;
mod request_path;
mod response_body;
mod retry;
mod route;
mod tunnel;

pub use connection::serve_connection;
pub use request_path::{Downstream, Proxy};
pub use response_body::ResponseBody;
