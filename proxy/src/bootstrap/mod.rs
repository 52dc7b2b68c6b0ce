//! The command line and environment of `tsunagi-proxy`: who this proxy is, where it listens, where its config comes from.
//!
//! Read once by `main`; wrong usage ends the process with code 2 before anything is opened. Every flag is also an
//! environment variable: `--http-addr` would be `TSUNAGI_HTTP_ADDR`.

mod probes;
mod redirect;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use tracing_subscriber::filter::Targets;

pub use probes::{AppProbe, AppProbes, Question};
pub use redirect::{Choice, Cidr, Cidrs, PacketFilter, Ports, RedirectCommand, RedirectOptions, RemoveOptions, Uids};
pub use values::{Labels, log_level};

/// The sidecar of the Tsunagi service mesh.
#[derive(Debug, Parser)]
#[command(name = "tsunagi-proxy", version)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the sidecar until SIGTERM or SIGINT.
    Run(Box<Options>),
    /// Writes, undoes or shows the packet-filter rules that send a pod's traffic through the sidecar.
    #[command(subcommand)]
    Redirect(RedirectCommand),

    /// Returns when the sidecar of this pod is ready. For a postStart hook, which keeps the application from starting
    /// before; it needs neither a shell nor curl in the image.
    Wait(WaitOptions),

    /// Asks the sidecar of this pod to leave and waits until it may be ended: its callers were told, and inbound requests
    /// have finished. For a preStop hook: it needs neither a shell nor curl in the image.
    Drain(DrainOptions),
}

/// What `tsunagi-proxy wait` is told.
#[derive(Debug, Clone, Args)]
pub struct WaitOptions {
    /// The sidecar's health listener
    #[arg(
        long,
        env = "TSUNAGI_HEALTH_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15021"
    )]
    pub health_addr: SocketAddr,

    /// How long to wait at most, then exit with code 1 (500ms, 30s, 5m)
    #[arg(long, env = "TSUNAGI_TIMEOUT", value_name = "DURATION", default_value = "60s",
          value_parser = values::duration)]
    pub timeout: Duration,
}

/// What `tsunagi-proxy drain` is told.
#[derive(Debug, Clone, Args)]
pub struct DrainOptions {
    /// The sidecar's admin listener
    #[arg(
        long,
        env = "TSUNAGI_ADMIN_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15000"
    )]
    pub admin_addr: SocketAddr,

    /// How long to wait at most, then exit with code 1 (500ms, 30s, 5m)
    #[arg(long, env = "TSUNAGI_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = values::duration)]
    pub timeout: Duration,
}

/// What `tsunagi-proxy run` is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where config comes from: the control plane's gRPC address
    #[arg(long, env = "TSUNAGI_CONTROL_PLANE", value_name = "URL", default_value = "http://127.0.0.1:15010",
          value_parser = values::control_plane)]
    pub control_plane: Uri,

    /// Listener for connections from the application to the mesh
    #[arg(
        long,
        env = "TSUNAGI_OUTBOUND_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15001"
    )]
    pub outbound_addr: SocketAddr,

    /// Listener for connections from the mesh to the application
    #[arg(
        long,
        env = "TSUNAGI_INBOUND_ADDR",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:15006"
    )]
    pub inbound_addr: SocketAddr,

    /// Where an inbound connection goes when it was not redirected
    #[arg(long, env = "TSUNAGI_APP_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:8080",
          value_parser = values::destination)]
    pub app_addr: SocketAddr,

    /// Listener for /config_dump, /clusters, /listeners, /logging, /drain, /drain_status and /quitquitquit
    #[arg(
        long,
        env = "TSUNAGI_ADMIN_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15000"
    )]
    pub admin_addr: SocketAddr,

    /// Listener for /metrics (also /stats/prometheus)
    #[arg(
        long,
        env = "TSUNAGI_METRICS_ADDR",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:15090"
    )]
    pub metrics_addr: SocketAddr,

    /// Listener for /healthz/ready and /healthz/live
    #[arg(
        long,
        env = "TSUNAGI_HEALTH_ADDR",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:15021"
    )]
    pub health_addr: SocketAddr,

    /// The kubelet's probes of the application that the health listener answers by asking the application: JSON, written by
    /// injection: {"/app-health/CONTAINER/livez": {"httpGet": {"port": 8080, "path": "/"}, "timeoutSeconds": 1}}
    #[arg(
        long,
        env = "TSUNAGI_APP_PROBES",
        value_name = "JSON",
        default_value = "",
        hide_default_value = true
    )]
    pub app_probes: AppProbes,

    /// Name of this proxy, unique in its namespace [default: the host's name]
    #[arg(long, env = "TSUNAGI_NODE_ID", value_name = "NAME", default_value_t = values::host_name(),
          hide_default_value = true, value_parser = values::node_id)]
    pub node_id: String,

    /// Namespace of this proxy's workload
    #[arg(long, env = "TSUNAGI_NAMESPACE", value_name = "NAME", default_value = "default",
          value_parser = values::dns_label)]
    pub namespace: String,

    /// Service account of this proxy's workload
    #[arg(long, env = "TSUNAGI_SERVICE_ACCOUNT", value_name = "NAME", default_value = "default",
          value_parser = values::service_account)]
    pub service_account: String,

    /// Labels of this proxy's workload
    #[arg(
        long,
        env = "TSUNAGI_LABELS",
        value_name = "K=V,K=V",
        default_value = "",
        hide_default_value = true
    )]
    pub labels: Labels,

    /// Where this proxy is, for balancing by locality: goes over what the control plane knows, which is what its
    /// WorkloadEntry, its pod's labels or its node's labels say
    #[arg(long, env = "TSUNAGI_LOCALITY", value_name = "REGION/ZONE/SUBZONE", default_value = "",
          hide_default_value = true, value_parser = values::locality)]
    pub locality: String,

    /// Kubernetes node that this proxy runs on: tells the control plane where it is
    #[arg(
        long,
        env = "TSUNAGI_NODE_NAME",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub node_name: String,

    /// Worker threads, at least 1 [default: min(2, cores)]
    #[arg(long, env = "TSUNAGI_WORKERS", value_name = "COUNT", default_value_t = values::default_workers(),
          hide_default_value = true, value_parser = values::workers)]
    pub workers: usize,

    /// How long leaving may take on SIGTERM: telling callers, requests in flight, the application's end (500ms, 30s, 5m)
    #[arg(long, env = "TSUNAGI_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = values::duration)]
    pub drain_timeout: Duration,

    /// How long the control plane may take to tell callers that this proxy leaves, at most --drain-timeout (500ms, 5s)
    #[arg(long, env = "TSUNAGI_DEPARTURE_TIMEOUT", value_name = "DURATION", default_value = "5s",
          value_parser = values::duration)]
    pub departure_timeout: Duration,

    /// On SIGTERM keeps outbound open until the application has exited: no other user of this network namespace listens
    /// or has a connection. Once a connection was redirected to this proxy it does so anyway
    #[arg(long, env = "TSUNAGI_AWAIT_APPLICATION", value_name = "BOOL", default_value_t = false,
          action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub await_application: bool,

    /// Exits with code 0 when the application's processes have come and gone, so that a Job completes. Needs
    /// shareProcessNamespace: true in the pod, and is of use where there are no native sidecars
    #[arg(long, env = "TSUNAGI_EXIT_WITH_APPLICATION", value_name = "BOOL", default_value_t = false,
          action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub exit_with_application: bool,

    /// How long the first request to a host waits for that host's config (500ms, 2s)
    #[arg(long, env = "TSUNAGI_ON_DEMAND_TIMEOUT", value_name = "DURATION", default_value = "2s",
          value_parser = values::duration)]
    pub on_demand_timeout: Duration,

    /// Server that the names of endpoints are asked of [default: those of /etc/resolv.conf]
    #[arg(long, env = "TSUNAGI_DNS_RESOLVER", value_name = "IP:PORT")]
    pub dns_resolver: Option<SocketAddr>,

    /// Directory that keeps the last config, for a start without the control plane
    #[arg(
        long,
        env = "TSUNAGI_STATE_DIR",
        value_name = "DIR",
        default_value = "./tsunagi-proxy-data"
    )]
    pub state_dir: PathBuf,

    /// Directory of the credentials that DestinationRules name (credentialName): a folder for each, with the keys of a
    /// Kubernetes Secret (tls.crt, tls.key, ca.crt, ca.crl) or of Istio's (cert, key, cacert, crl)
    #[arg(
        long,
        env = "TSUNAGI_CREDENTIALS_DIR",
        value_name = "DIR",
        default_value = "/etc/tsunagi/credentials"
    )]
    pub credentials_dir: PathBuf,

    /// Access log: one JSON line per request on stdout
    #[arg(
        long,
        env = "TSUNAGI_ACCESS_LOG",
        value_name = "ON|OFF",
        default_value = "on",
        ignore_case = true
    )]
    pub access_log: Switch,

    /// Adds the proxy's own findings to responses: x-tsunagi-response-flags, where there are any, and the answer to
    /// x-tsunagi-explain: 1
    #[arg(long, env = "TSUNAGI_DEBUG_HEADERS", value_name = "BOOL", default_value_t = false,
          action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub debug_headers: bool,

    /// Log level on stderr: off, error, warn, info, debug, trace, also by module (info,tsunagi_proxy::xds=debug)
    #[arg(long, env = "TSUNAGI_LOG_LEVEL", value_name = "LEVEL", default_value = "info",
          value_parser = values::log_level)]
    pub log_level: Targets,
}

impl Options {
    /// The workload that this proxy stands beside, as metrics name it: the usual labels for it, else the node id, which
    /// in Kubernetes is the name of one pod of it.
    pub fn workload_name(&self) -> &str {
        let label = |wanted: &str| {
            self.labels
                .0
                .iter()
                .find(|(key, _)| key == wanted)
                .map(|(_, value)| value.as_str())
        };
        label("app.kubernetes.io/name")
            .or_else(|| label("app"))
            .unwrap_or(&self.node_id)
    }
}

/// On or off, in words that also read well in an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    #[value(alias = "true")]
    On,
    #[value(alias = "false")]
    Off,
}

impl Switch {
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

#[cfg(test)]
mod redirect_tests;
#[cfg(test)]
mod tests;
