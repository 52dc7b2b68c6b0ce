//! The sidecar: doors (`listener`, `xds`, `admin`), serving (`http`, `tcp`), what was told (`snapshot`), what was learned (`upstream`).

pub mod admin;
pub mod app;
pub mod bootstrap;
pub mod codec;
pub mod dns;
pub mod drain;
pub mod error;
pub mod http;
pub mod limits;
pub mod listener;
pub mod net;
pub mod redirect;
pub mod snapshot;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod xds;
