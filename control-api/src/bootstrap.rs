//! The options of `tsunagi serve`: what an operator can choose, with unit and default. Called by `cli`, read by `app`.
//! Every flag has an environment variable (`--http-addr` is `TSUNAGI_HTTP_ADDR`).

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

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

    /// What is logged on stderr: error, warn, info, debug or trace, or a filter such as `info,tsunagi::xds=debug`
    #[arg(long, env = "TSUNAGI_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}
