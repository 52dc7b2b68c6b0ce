//! The options of `tsunagi serve`: what an operator can choose, with unit and default. Called by `cli`, read by `app`.
//! Every flag has an environment variable (`--http-addr` is `TSUNAGI_HTTP_ADDR`).

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;

/// As Istio's `istio-system`.
pub const DEFAULT_ROOT_NAMESPACE: &str = "tsunagi-system";
const LONGEST_NAMESPACE: usize = 63;

/// Runs the control plane: keeps the configuration and pushes it to the proxies.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// Address (IP:PORT) of the HTTP API, /metrics, /healthz and /readyz. Port 0: any free one, told in the log
    #[arg(
        long,
        env = "TSUNAGI_HTTP_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15014"
    )]
    pub http_addr: SocketAddr,

    /// Address (IP:PORT) of gRPC in plaintext: discovery for the proxies and the config API. Port 0: any free one
    #[arg(
        long,
        env = "TSUNAGI_GRPC_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15010"
    )]
    pub grpc_addr: SocketAddr,

    /// Folder of the embedded store; made when missing (mode 0700), used by one process at a time
    #[arg(long, env = "TSUNAGI_DATA_DIR", value_name = "DIR", default_value = "./tsunagi-data")]
    pub data_dir: PathBuf,

    /// Folder of YAML and JSON files (*.yaml, *.yml, *.json, also in subfolders) to apply at start and to follow: looked at
    /// once a second, taken whole or not at all, followed in deletions too. What comes from it is changed in it only:
    /// the API refuses. Empty at start it deletes nothing: that is a volume that is not mounted. While the store is empty,
    /// /readyz waits for its first good content. At most 16 MiB, 4 MiB a file. Default: none
    #[arg(long, env = "TSUNAGI_CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,

    /// Config and endpoints come from the Kubernetes API (kubeconfig or in-cluster), which is the store: the embedded one is
    /// not opened, and this API only shows what there is. /readyz waits until every kind was listed
    #[arg(long, env = "TSUNAGI_KUBERNETES", value_name = "BOOL", default_value_t = false,
          action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub kubernetes: bool,

    /// With --kubernetes, what this replica is called in the statuses that it writes: each one needs a name of its own.
    /// Default: the host's name, which in a pod is the pod's
    #[arg(long, env = "TSUNAGI_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,
    /// Namespace whose DestinationRules and Sidecars (those without a workloadSelector) are for every namespace that has none
    /// of its own
    #[arg(
        long,
        env = "TSUNAGI_ROOT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = DEFAULT_ROOT_NAMESPACE,
        value_parser = namespace
    )]
    pub root_namespace: String,

    /// Address (IP:PORT) of the HTTPS admission webhook: POST /inject adds the sidecar to pods, POST /validate refuses what
    /// `apply` would refuse. Conventionally 0.0.0.0:15017. Its certificate makes and renews itself. Default: off
    #[arg(long, env = "TSUNAGI_WEBHOOK_ADDR", value_name = "IP:PORT")]
    pub webhook_addr: Option<SocketAddr>,

    /// DNS names and IP addresses that the webhook's certificate is for: what its callers call it
    #[arg(long, env = "TSUNAGI_WEBHOOK_NAMES", value_name = "NAME,NAME", value_delimiter = ',', value_parser = certificate_name,
          default_value = "tsunagi.tsunagi-system.svc,tsunagi.tsunagi-system.svc.cluster.local")]
    pub webhook_names: Vec<String>,

    /// YAML file of injection settings: image, imagePullPolicy, controlPlane, nativeSidecars, resources, logLevel,
    /// rewriteProbes, excludeInboundPorts, excludeOutboundPorts, excludeOutboundCidrs, revision. Read at start. Default:
    /// none, and each setting its default
    #[arg(long, env = "TSUNAGI_INJECT_CONFIG", value_name = "FILE")]
    pub inject_config: Option<PathBuf>,

    /// What is logged on stderr: error, warn, info, debug or trace, or a filter such as `info,tsunagi::xds=debug`
    #[arg(long, env = "TSUNAGI_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

/// The name of a namespace, as of an option.
pub fn namespace(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = !text.is_empty()
        && text.len() <= LONGEST_NAMESPACE
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-');
    good.then(|| text.to_owned())
        .ok_or_else(|| "not a namespace name: use a-z, 0-9 and -".to_owned())
}

/// In the one spelling that a certificate has for it.
fn certificate_name(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = text.to_ascii_lowercase();
    let good = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(good) {
        Ok(name)
    } else {
        Err("must be a DNS name or an IP address".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::namespace;

    #[test]
    fn a_root_namespace_is_a_name_that_a_namespace_can_have() {
        assert_eq!(namespace("istio-system").as_deref(), Ok("istio-system"));
        for wrong in ["", "Mesh", "a_b", "-a", "a-", "a/b", &"a".repeat(64)] {
            assert!(namespace(wrong).is_err(), "{wrong:?}");
        }
    }
}
