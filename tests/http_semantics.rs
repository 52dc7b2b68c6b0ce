//! HTTP as real clients speak it (curl, and sockets where no client would), on the whole way from one application to
//! another: through the caller's sidecar and the application's own.

#[path = "http_semantics/chain.rs"]
mod chain;
#[path = "http_semantics/endings.rs"]
mod endings;
#[path = "http_semantics/expectation.rs"]
mod expectation;
#[path = "http_semantics/messages.rs"]
mod messages;
#[path = "http_semantics/proxied.rs"]
mod proxied;
#[path = "http_semantics/targets.rs"]
mod targets;
