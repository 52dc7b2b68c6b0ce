//! `tls`: how connections to the endpoints are secured. Checked as Istio checks it (agent/validation.go: ValidateTLS).
//! Called by `traffic_policy`.

use std::net::IpAddr;

use super::names;
use super::read::{Field, Fields};
use super::scalar::shown;

/// Text that is empty: not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientTls {
    pub mode: TlsMode,
    /// `clientCertificate`, `privateKey`, `caCertificates`, `caCrl`: files of the proxy, in PEM.
    pub client_certificate: String,
    pub private_key: String,
    /// Empty: the system's authorities, which `system` means, too.
    pub ca_certificates: String,
    pub ca_crl: String,
    /// `credentialName`: a Secret that has all of these.
    pub credential_name: String,
    pub sni: String,
    pub subject_alt_names: Vec<String>,
    pub insecure_skip_verify: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    #[default]
    Disable,
    Simple,
    Mutual,
}

pub(super) const TLS: Fields = Fields {
    supported: &[
        "mode",
        "clientCertificate",
        "privateKey",
        "caCertificates",
        "credentialName",
        "subjectAltNames",
        "sni",
        "insecureSkipVerify",
        "caCrl",
    ],
    later: &[],
};

/// Names of one endpoint's certificate.
const MOST_NAMES: usize = 256;
const LONGEST_NAME: usize = 2048;
const LONGEST_PATH: usize = 4096;

pub(super) fn read(block: &Field<'_>) -> ClientTls {
    if !block.is_message(&TLS) {
        return ClientTls::default();
    }
    let path = |name| block.get(name).map(|field| path(&field)).unwrap_or_default();
    let ca_certificates = path("caCertificates");
    let tls = ClientTls {
        mode: block.get("mode").map(|field| mode(&field)).unwrap_or_default(),
        client_certificate: path("clientCertificate"),
        private_key: path("privateKey"),
        ca_certificates: if ca_certificates == "system" {
            String::new()
        } else {
            ca_certificates
        },
        ca_crl: path("caCrl"),
        credential_name: block
            .get("credentialName")
            .map(|field| credential(&field))
            .unwrap_or_default(),
        sni: block.get("sni").map(|field| server_name(&field)).unwrap_or_default(),
        subject_alt_names: block
            .get("subjectAltNames")
            .map(|list| subject_alt_names(&list))
            .unwrap_or_default(),
        insecure_skip_verify: block
            .get("insecureSkipVerify")
            .and_then(|field| field.flag())
            .unwrap_or(false),
    };
    if tls.mode != TlsMode::Disable {
        check_sources(block, &tls);
        check_skip(block, &tls);
    }
    tls
}

fn mode(field: &Field<'_>) -> TlsMode {
    if field.is("ISTIO_MUTUAL") {
        field.not_supported_yet("ISTIO_MUTUAL: leave `tls` out, sidecars speak plaintext to each other for now");
        return TlsMode::Disable;
    }
    match field.one_of(&["DISABLE", "SIMPLE", "MUTUAL"]) {
        Some("SIMPLE") => TlsMode::Simple,
        Some("MUTUAL") => TlsMode::Mutual,
        _ => TlsMode::Disable,
    }
}

/// Certificates come from files or from a credential.
fn check_sources(block: &Field<'_>, tls: &ClientTls) {
    if !tls.credential_name.is_empty() {
        for name in ["clientCertificate", "privateKey", "caCertificates", "caCrl"] {
            if block.get(name).is_some_and(|field| !field.is("")) {
                block.refuse_at(
                    name,
                    "is part of the credential: only one of it and credentialName may be set",
                );
            }
        }
    } else if tls.mode == TlsMode::Mutual && block.get("credentialName").is_none_or(|field| field.is("")) {
        for (name, path) in [
            ("clientCertificate", &tls.client_certificate),
            ("privateKey", &tls.private_key),
        ] {
            if path.is_empty() && block.get(name).is_none_or(|field| field.is("")) {
                block.refuse_at(name, "is required with mode MUTUAL, unless credentialName is set");
            }
        }
    }
}

/// What is not verified needs nothing to verify it with.
fn check_skip(block: &Field<'_>, tls: &ClientTls) {
    if !tls.insecure_skip_verify {
        return;
    }
    // A credential of mode MUTUAL is about the client's own certificate.
    let with_credential = tls.mode == TlsMode::Simple && !tls.credential_name.is_empty();
    for (name, is_set) in [
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("credentialName", with_credential),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
    ] {
        if is_set {
            block.refuse_at(name, "contradicts `insecureSkipVerify: true`, which verifies nothing");
        }
    }
}

fn path(field: &Field<'_>) -> String {
    let Some(text) = field.text() else { return String::new() };
    if text.len() > LONGEST_PATH || text.chars().any(char::is_control) {
        field.refuse(format!("{} is not the path of a file", shown(text)));
        return String::new();
    }
    text.to_owned()
}

/// The name of a Secret.
fn credential(field: &Field<'_>) -> String {
    let Some(text) = field.text().filter(|text| !text.is_empty()) else {
        return String::new();
    };
    if text.contains("://") {
        field.not_supported_yet("a credential that is no Secret; write the Secret's name");
    } else if !names::is_dns_subdomain(text) {
        field.refuse(format!("{} is not the name of a Secret", shown(text)));
    } else {
        return text.to_owned();
    }
    String::new()
}

fn server_name(field: &Field<'_>) -> String {
    let Some(text) = field.text().filter(|text| !text.is_empty()) else {
        return String::new();
    };
    if text.parse::<IpAddr>().is_ok() {
        field.refuse("TLS has no server name for an IP address: write a name");
    } else if !names::is_host_name(text) {
        field.refuse(format!("{} is not a server name", shown(text)));
    } else {
        return text.to_ascii_lowercase();
    }
    String::new()
}

fn subject_alt_names(list: &Field<'_>) -> Vec<String> {
    let items = list.items();
    if items.len() > MOST_NAMES {
        list.refuse(format!("{} names, more than {MOST_NAMES}", items.len()));
        return Vec::new();
    }
    let mut names = Vec::with_capacity(items.len());
    for item in &items {
        let Some(name) = item.word() else { continue };
        if name.len() > LONGEST_NAME || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            item.refuse(format!("{} is not a name of a certificate", shown(name)));
        }
        names.push(name.to_owned());
    }
    names
}
