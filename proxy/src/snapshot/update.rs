//! One response of the control plane, checked: applied whole, as one snapshot swap.

use std::sync::Arc;

use tsunagi_proto::model;

#[derive(Debug, Default)]
pub struct Update {
    /// By FQDN; `None`: known not to exist.
    pub hosts: Vec<(String, Option<Arc<model::Host>>)>,
    /// By FQDN. They come with or before the hosts that reach them.
    pub endpoints: Vec<(String, Option<Arc<model::EndpointSet>>)>,
    pub workload: Option<Arc<model::Workload>>,
    /// Of the control plane, for people.
    pub version: String,
}
