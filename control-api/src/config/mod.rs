//! Kubernetes- and Istio-shaped YAML or JSON becomes typed, checked documents; every problem has a file, line and field.
//!
//! Text -> trees that remember lines (`yaml`) -> plain values, read field by field (`read`, one reader a kind). A field
//! is supported, known but not supported yet, or unknown: only the first is taken, none is ignored.

mod client_tls;
mod connection_pool;
mod connection_rule;
mod cors;
mod destination_rule;
mod distribution;
mod document;
mod document_set;
mod duration;
mod endpoint_slice;
mod fault;
mod http_action;
mod http_match;
mod http_route;
mod http_rule;
mod kind;
mod limits;
mod load_balancer;
mod locality;
mod mirror;
mod names;
mod outlier_detection;
mod problem;
mod protocol;
mod raw;
mod read;
mod reader;
mod regex_size;
mod regex_syntax;
mod report;
mod scalar;
mod service;
mod service_entry;
mod share;
mod sidecar;
mod slips;
mod text;
mod traffic_policy;
mod virtual_service;
mod visibility;
mod workload_entry;
mod yaml;

pub use client_tls::{ClientTls, TlsMode};
pub use connection_pool::ConnectionPool;
pub use destination_rule::{DestinationRule, Subset};
pub use distribution::{DISTRIBUTION_ANNOTATION, TrafficDistribution};
pub use document::{About, Created, Document, Origin, Remark, Spec};
pub use document_set::DocumentSet;
pub use endpoint_slice::{EndpointSlice, Machine, PodState, SliceEndpoint};
pub use kind::{Key, Kind, check_namespace};
pub use load_balancer::{Algorithm, LoadBalancer};
pub use locality::{Failover, LocalitySetting};
pub use outlier_detection::OutlierDetection;
pub use problem::Problem;
pub use protocol::Protocol;
pub use raw::{Raw, parse_raw};
pub use regex_size::bytes as regex_bytes;
pub use service::{Service, ServicePort, TargetPort};
pub use service_entry::{Resolution, ServiceEndpoints, ServiceEntry};
pub use sidecar::{OutboundTrafficPolicy, Sidecar};
pub use text::{Survey, from_object, from_stored, parse, survey};
pub use traffic_policy::{PortPolicy, TrafficPolicy};
pub use virtual_service::{
    Abort, ConnectionMatch, ConnectionRule, CorsPolicy, Delay, Delegate, DirectResponse, ExportTo, Fault,
    HeaderOperations, Headers, HttpMatch, HttpRule, Mirror, Redirect, RedirectPort, Retries, Rewrite, SourceMatch,
    StringMatch, VirtualService, WeightedDestination,
};
pub use workload_entry::{Address, WorkloadEntry};

#[cfg(test)]
mod tests;
