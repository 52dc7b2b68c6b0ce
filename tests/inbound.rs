//! The inbound path: what every request carries, what an application that is down means to its callers, and, in network
//! namespaces, a redirected connection's port, labels and limits.

#[path = "inbound/headers.rs"]
mod headers;
#[path = "inbound/passed_on.rs"]
mod passed_on;
#[path = "inbound/redirected.rs"]
mod redirected;
#[path = "inbound/told.rs"]
mod told;
#[path = "inbound/unprocessed.rs"]
mod unprocessed;
