//! Serving one request: `request_path` is the way, every other file one step of it.

mod actions;
mod attempts;
mod connection;
mod control_headers;
mod deadline;
mod downstream;
mod exchange;
mod expectation;
mod explained;
mod fault;
mod formatted;
mod forward;
mod h2c;
mod head;
mod http1;
mod http2;
mod local_reply;
mod mirror;
mod mirror_body;
mod outcome;
mod own_answer;
mod redirected;
mod request_body;
mod request_id;
mod request_path;
mod response;
mod retry;
mod rewritten;
mod route;
mod tunnel;
mod unanswered;
mod upgrade;

pub use connection::{read_start, serve_connection, serve_recognised};
pub use downstream::DownstreamConnection;
pub use redirected::{find_address, find_server_name, find_sharing, is_for_the_mesh};
pub use request_path::Proxy;
