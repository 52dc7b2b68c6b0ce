//! Serving one request: `request_path` is the way, every other file one step of it.

mod attempts;
mod connection;
mod control_headers;
mod deadline;
mod downstream;
mod exchange;
mod expectation;
mod forward;
mod head;
mod http1;
mod http2;
mod local_reply;
mod redirected;
mod request_body;
mod request_id;
mod request_path;
mod response;
mod retry;
mod route;
mod tunnel;
mod unanswered;

pub use connection::{read_start, serve_connection, serve_recognised};
pub use downstream::DownstreamConnection;
pub use redirected::{Found, find_address, find_upgrade, is_for_the_mesh};
pub use request_path::Proxy;
