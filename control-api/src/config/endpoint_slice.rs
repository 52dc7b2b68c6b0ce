//! Where the endpoints of a Service are, as a cluster says it: one EndpointSlice, joined with the Pods that it names.
//! Nobody writes it; `kubernetes` makes it, `snapshot` turns it into endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// A part of the endpoints of one Service of the same namespace. All of a slice have the same ports and the same family.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// Name of the Service.
    pub service: String,
    /// Name of the Service's port -> number at the endpoint. An unnamed port has the empty name.
    pub ports: BTreeMap<String, u16>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// Name of the Pod in the slice's namespace; empty: not a Pod.
    pub pod: String,
    pub address: IpAddr,
    pub state: PodState,
    /// Of the Pod.
    pub labels: BTreeMap<String, String>,
    /// Of the Pod; empty: not known.
    pub service_account: String,
    /// Of the Pod, in seconds of the Unix epoch: when it became ready. 0: it is not, or not known.
    pub ready_since: u64,
    /// Of its machine; empty: not known.
    pub node_name: String,
    /// Of its machine, unless the Pod's labels say another: `region/zone/subzone`. Empty: not known.
    pub locality: String,
}

/// A machine of the cluster, as `kubernetes` makes it of a Node: where the proxies are that run there.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub locality: String,
}

/// The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodState {
    Ready,
    /// It is going: requests in flight finish, new ones go elsewhere.
    Leaving,
    NotReady,
}
