//! What the operator chose for every injected pod: a YAML file (`--inject-config`) whose every field has a default and
//! whose unknown fields are refused. Read once at start by `webhook` and `tsunagi inject`.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::values;

/// Every field may be left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Image of the sidecar and of its init container. Default: this version's.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`. Default: `IfNotPresent`.
    pub image_pull_policy: PullPolicy,
    /// Where the sidecars get their config from, `http://HOST:PORT`. Default: `http://tsunagi.tsunagi-system.svc:15010`.
    pub control_plane: String,
    /// `true`, `false` or `auto` (the default): what the API server's version can do.
    pub native_sidecars: NativeSidecars,
    /// Of the sidecar and its init container. Default: requests of 10m CPU and 32Mi memory, a limit of 128Mi memory.
    pub resources: Resources,
    /// Of the sidecar. Default: `info`.
    pub log_level: String,
    /// Whether the kubelet's probes of the application lead through the sidecar. Default: `true`.
    pub rewrite_probes: bool,
    /// Ports of every pod that are not redirected. Default: none.
    pub exclude_inbound_ports: Vec<u16>,
    /// Ports to which no pod is redirected. Default: none.
    pub exclude_outbound_ports: Vec<u16>,
    /// Address ranges (CIDR) to which no pod is redirected. Default: none.
    pub exclude_outbound_cidrs: Vec<String>,
    /// The value of the namespace label `istio.io/rev` that asks for this mesh. Default: none does.
    pub revision: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Whether init containers with `restartPolicy: Always` are sidecars, as they are from Kubernetes 1.29 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NativeSidecars {
    #[default]
    Auto,
    Always,
    Never,
}

impl NativeSidecars {
    /// `known`: whether the cluster has them, where that could be asked. Every Kubernetes that is still cared for has them.
    pub fn decide(self, known: Option<bool>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => known.unwrap_or(true),
        }
    }
}

impl std::str::FromStr for NativeSidecars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "true" => Ok(Self::Always),
            "false" => Ok(Self::Never),
            _ => Err(format!("{} is none of auto, true, false", values::shown(text))),
        }
    }
}

impl<'de> Deserialize<'de> for NativeSidecars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    #[serde(deserialize_with = "amount")]
    pub cpu: Option<String>,
    #[serde(deserialize_with = "amount")]
    pub memory: Option<String>,
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = scalar(deserializer)?;
    // Empty: not set, which is how a template turns a default off.
    if text.is_empty() {
        return Ok(None);
    }
    values::quantity(&text).map(Some).map_err(D::Error::custom)
}

/// A text, or a number or truth value as it is written without quotes.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(D::Error::custom("must be text")),
    }
}

impl Default for Settings {
    fn default() -> Self {
        let amounts = |cpu: Option<&str>, memory: &str| Amounts {
            cpu: cpu.map(str::to_owned),
            memory: Some(memory.to_owned()),
        };
        Self {
            image: concat!("tsunagi-proxy:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: PullPolicy::default(),
            control_plane: "http://tsunagi.tsunagi-system.svc:15010".to_owned(),
            native_sidecars: NativeSidecars::default(),
            resources: Resources {
                requests: amounts(Some("10m"), "32Mi"),
                limits: amounts(None, "128Mi"),
            },
            log_level: "info".to_owned(),
            rewrite_probes: true,
            exclude_inbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            exclude_outbound_cidrs: Vec::new(),
            revision: String::new(),
        }
    }
}

/// Why settings are not taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{0}")]
    Syntax(String),
    #[error("{field}: {reason}")]
    Value { field: &'static str, reason: String },
}

impl Settings {
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        // An empty file means the defaults.
        let settings: Option<Self> =
            serde_saphyr::from_str(text).map_err(|error| SettingsError::Syntax(error.to_string()))?;
        settings.unwrap_or_default().checked()
    }

    /// What is fit for a pod, or what is not.
    pub fn checked(self) -> Result<Self, SettingsError> {
        let check = |field, result: Result<(), String>| result.map_err(|reason| SettingsError::Value { field, reason });
        check("image", values::image(&self.image).map(drop))?;
        check("logLevel", values::log_level(&self.log_level).map(drop))?;
        check("controlPlane", control_plane(&self.control_plane))?;
        for port in self.exclude_inbound_ports.iter().chain(&self.exclude_outbound_ports) {
            let field = "excludeInboundPorts, excludeOutboundPorts";
            check(field, values::port(&port.to_string()).map(drop))?;
        }
        for range in &self.exclude_outbound_cidrs {
            check("excludeOutboundCidrs", values::range(range))?;
        }
        Ok(self)
    }
}

/// As the sidecar takes it.
fn control_plane(text: &str) -> Result<(), String> {
    let uri: http::Uri = text
        .parse()
        .map_err(|_| format!("{} is not a URL", values::shown(text)))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(_)) if !text.contains('$') => Ok(()),
        _ => Err(format!("{} is not of the form http://HOST:PORT", values::shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_only_what_differs_from_the_defaults() {
        let settings = Settings::parse(
            "image: example.org/p:2\nresources: {limits: {memory: 1Gi}, requests: {cpu: 1}}\nnativeSidecars: false\n",
        );
        let settings = settings.expect("good settings");
        assert_eq!(settings.image, "example.org/p:2");
        assert_eq!(settings.resources.limits.memory.as_deref(), Some("1Gi"));
        assert_eq!(settings.resources.requests.cpu.as_deref(), Some("1"));
        assert_eq!(settings.native_sidecars, NativeSidecars::Never);
        assert_eq!(settings.control_plane, Settings::default().control_plane);
        assert!(Settings::parse("").is_ok());
        assert!(Settings::default().checked().is_ok());
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_field_named() {
        for (text, named) in [
            ("imagee: x", "imagee"),
            ("image: a b", "image"),
            ("controlPlane: tsunagi:15010", "controlPlane"),
            ("logLevel: loud", "logLevel"),
            ("excludeInboundPorts: [0]", "excludeInboundPorts"),
            ("excludeOutboundCidrs: [10.0.0.0]", "excludeOutboundCidrs"),
            ("nativeSidecars: maybe", "auto, true, false"),
            ("imagePullPolicy: Sometimes", "Sometimes"),
            ("resources: {requests: {cpu: lots}}", "lots"),
        ] {
            let refused = Settings::parse(text).map(drop).expect_err(text).to_string();
            assert!(refused.contains(named), "{text}: {refused}");
        }
    }
}
