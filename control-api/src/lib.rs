//! The control plane (`tsunagi serve`) and the command line for people. Floors as in the design: a room imports lower
//! floors and itself.

pub mod analyze;
pub mod api;
pub mod app;
pub mod body;
pub mod bootstrap;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod explain;
pub mod ingest;
pub mod inject;
pub mod kubernetes;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod webhook;
pub mod xds;
