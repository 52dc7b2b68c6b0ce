//! The smallest mesh: a control plane, a sidecar, and one service `echo` with the upstreams that a test names.

use crate::client::{Connection, Reply, Version};
use crate::mesh::{ControlPlane, Sidecar, SidecarOptions};
use crate::upstream::Upstream;
use crate::yaml::{Workload, service};

pub struct Sample {
    pub control: ControlPlane,
    pub sidecar: Sidecar,
    pub upstreams: Vec<Upstream>,
}

impl Sample {
    /// One HTTP/1.1 upstream and these rules (YAML, may be empty).
    pub async fn start(rules: &str) -> Sample {
        Sample::with("http", &["v1"], rules, &SidecarOptions::default()).await
    }

    /// `versions` names the upstreams; the port's name says what they speak.
    pub async fn with(port_name: &str, versions: &[&str], rules: &str, options: &SidecarOptions) -> Sample {
        let mut upstreams = Vec::new();
        for version in versions {
            upstreams.push(Upstream::start(version).await);
        }
        Sample::of(port_name, upstreams, versions, rules, options).await
    }

    pub async fn of(
        port_name: &str,
        upstreams: Vec<Upstream>,
        versions: &[&str],
        rules: &str,
        options: &SidecarOptions,
    ) -> Sample {
        let workloads = versions.iter().zip(&upstreams);
        let workloads: Vec<Workload<'_>> = workloads
            .map(|(version, upstream)| Workload {
                version,
                address: upstream.address,
            })
            .collect();
        let control = ControlPlane::start();
        control
            .apply(&format!("{}---\n{rules}", service("echo", port_name, &workloads)))
            .await;
        let sidecar = Sidecar::start_with(control.grpc, options).ready().await;
        Sample {
            control,
            sidecar,
            upstreams,
        }
    }

    pub fn upstream(&self) -> &Upstream {
        &self.upstreams[0]
    }

    /// GET through the sidecar, on a connection of its own.
    pub async fn get(&self, path: &str) -> Reply {
        self.sidecar.get("echo", path).await
    }

    pub async fn connect(&self, version: Version) -> Connection {
        Connection::open(self.sidecar.outbound, version).await
    }

    /// Requests that reached any upstream.
    pub fn requests(&self) -> u64 {
        self.upstreams.iter().map(Upstream::requests).sum()
    }
}
