//! How a connection to an endpoint begins: DestinationRule `tls` and `proxyProtocol`.

use super::Invalid;
use crate::wire::mesh;

/// TLS to the endpoints. Paths are files of the proxy, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    pub files: TlsFiles,
    /// A client certificate is presented.
    pub mutual: bool,
    /// `None`: the cluster's host; where that is a wildcard, the host of each request.
    pub sni: Option<String>,
    /// One of them must be a name of the endpoint's certificate. Empty: the server name.
    pub subject_alt_names: Vec<String>,
    pub insecure_skip_verify: bool,
}

impl UpstreamTls {
    /// What connections to the cluster of this host ask for. `None`: each for the host of its requests, as Envoy's `auto_sni`
    /// does.
    pub fn server_name_of<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        self.sni.as_deref().or((!host.starts_with('*')).then_some(host))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsFiles {
    /// PEM; empty: not given.
    Paths {
        client_certificate: String,
        private_key: String,
        /// Empty: the system's authorities.
        ca_certificates: String,
        ca_crl: String,
    },
    /// `credentialName`: the folder of this name below the proxy's credentials.
    Credential(String),
}

/// What is said first on a connection: whose requests or bytes it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    V1,
    V2,
}

impl ProxyProtocol {
    pub(super) fn new(wire: mesh::ProxyProtocol) -> Option<Self> {
        match wire {
            mesh::ProxyProtocol::None => None,
            mesh::ProxyProtocol::V1 => Some(Self::V1),
            mesh::ProxyProtocol::V2 => Some(Self::V2),
        }
    }
}

impl TryFrom<mesh::UpstreamTls> for UpstreamTls {
    type Error = Invalid;

    fn try_from(wire: mesh::UpstreamTls) -> Result<Self, Invalid> {
        let has_certificate = !wire.client_certificate.is_empty();
        if has_certificate == wire.private_key.is_empty() {
            return Err(Invalid::new(
                "private_key",
                "goes with client_certificate: both or none",
            ));
        }
        if wire.mutual && !has_certificate && wire.credential_name.is_empty() {
            return Err(Invalid::new("client_certificate", "must be set"));
        }
        // It names a folder: nothing else of the file system.
        if wire.credential_name.contains('/') || wire.credential_name.starts_with('.') {
            return Err(Invalid::new("credential_name", "is not a name"));
        }
        let files = if wire.credential_name.is_empty() {
            TlsFiles::Paths {
                client_certificate: wire.client_certificate,
                private_key: wire.private_key,
                ca_certificates: wire.ca_certificates,
                ca_crl: wire.ca_crl,
            }
        } else {
            TlsFiles::Credential(wire.credential_name)
        };
        Ok(Self {
            files,
            mutual: wire.mutual,
            sni: (!wire.sni.is_empty()).then_some(wire.sni),
            subject_alt_names: wire.subject_alt_names,
            insecure_skip_verify: wire.insecure_skip_verify,
        })
    }
}
