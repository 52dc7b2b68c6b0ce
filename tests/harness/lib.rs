//! What end-to-end tests stand on: real processes on free ports, scriptable upstreams, clients that show every byte, and
//! the few numbers that statistics needs. Called by the test files beside this folder and by the benchmarks.
#![allow(
    clippy::panic,
    reason = "a harness fails the test that uses it, with the logs in the message"
)]

mod ads;
mod binaries;
mod binomial;
mod black_hole;
mod client;
mod eventually;
mod kube_api;
mod mesh;
mod pods;
mod postgresql;
mod process;
mod prometheus;
mod raw;
mod raw_upstream;
mod sample;
mod tools;
mod upstream;
mod yaml;

pub use ads::AdsClient;
pub use binaries::{Binaries, binaries};
pub use binomial::binomial_bounds;
pub use black_hole::BlackHole;
pub use client::{Body, Connection, Reply, Version, body, empty, request, slow_body};
pub use eventually::{LIMIT, eventually, within};
pub use kube_api::{KubeApi, Patched};
pub use mesh::{CliOutput, ControlPlane, Sidecar, SidecarOptions};
pub use pods::{Bridge, PROXY_UID, Pod, require_root, require_root_and};
pub use postgresql::PostgreSql;
pub use process::Process;
pub use prometheus::Metrics;
pub use raw::{RawConnection, RawResponse};
pub use raw_upstream::RawUpstream;
pub use sample::Sample;
pub use tools::require_tools;
pub use upstream::{Behaviour, Group, Seen, Upstream};
pub use yaml::{ISSUE_RULES, Workload, service};
