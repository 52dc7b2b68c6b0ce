//! `tls`: what its fields are read as, and what is refused at which field.

use super::traffic_policies::{assert_each_refused, policy};
use super::*;

fn tls(fields: &str) -> ClientTls {
    policy(&format!("tls: {{{fields}}}")).tls.unwrap()
}

#[test]
fn tls_to_endpoints_is_read() {
    assert_eq!(tls("mode: DISABLE"), ClientTls::default());
    assert_eq!(tls("sni: a.b").mode, TlsMode::Disable);
    let mutual = tls(
        "mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c, caCrl: /d, sni: A.example.com, subjectAltNames: ['spiffe://a/b', a.b]",
    );
    let expected = ClientTls {
        mode: TlsMode::Mutual,
        client_certificate: "/a".into(),
        private_key: "/b".into(),
        ca_certificates: "/c".into(),
        ca_crl: "/d".into(),
        credential_name: String::new(),
        sni: "a.example.com".into(),
        subject_alt_names: vec!["spiffe://a/b".into(), "a.b".into()],
        insecure_skip_verify: false,
    };
    assert_eq!(mutual, expected);
    assert_eq!(tls("mode: SIMPLE, caCertificates: system"), tls("mode: SIMPLE"));
    assert_eq!(
        tls("mode: MUTUAL, credentialName: my-secret").credential_name,
        "my-secret"
    );
    assert!(tls("mode: MUTUAL, credentialName: a, insecureSkipVerify: true").insecure_skip_verify);
}

#[test]
fn tls_to_endpoints_is_refused_where_it_is_wrong() {
    let both = "clientCertificate: /a, privateKey: /b";
    assert_each_refused(&[
        (
            "tls: {mode: ISTIO_MUTUAL}",
            "tls.mode",
            "known but not supported yet: ISTIO_MUTUAL",
        ),
        ("tls: {mode: TLS}", "tls.mode", "none of DISABLE, SIMPLE, MUTUAL"),
        (
            "tls: {mode: MUTUAL, privateKey: /b}",
            "tls.clientCertificate",
            "is required with mode MUTUAL",
        ),
        (
            "tls: {mode: MUTUAL, clientCertificate: /a}",
            "tls.privateKey",
            "is required with mode MUTUAL",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: a, caCertificates: /c}",
            "tls.caCertificates",
            "only one of it and credentialName",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: a, caCrl: /c}",
            "tls.caCrl",
            "only one of it and credentialName",
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /c}",
            "tls.caCertificates",
            "contradicts",
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, credentialName: c}",
            "tls.credentialName",
            "contradicts",
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}",
            "tls.subjectAltNames",
            "contradicts",
        ),
        (
            &format!("tls: {{mode: MUTUAL, {both}, insecureSkipVerify: true, caCertificates: /c}}"),
            "tls.caCertificates",
            "contradicts",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: 'configmap://a'}",
            "tls.credentialName",
            "not supported yet",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: ../a}",
            "tls.credentialName",
            "not the name of a Secret",
        ),
        ("tls: {mode: SIMPLE, sni: 10.0.0.1}", "tls.sni", "IP address"),
        ("tls: {mode: SIMPLE, sni: 'a b'}", "tls.sni", "not a server name"),
        (
            "tls: {mode: SIMPLE, subjectAltNames: ['']}",
            "tls.subjectAltNames[0]",
            "must not be empty",
        ),
        (
            "tls: {mode: SIMPLE, subjectAltNames: ['a b']}",
            "tls.subjectAltNames[0]",
            "not a name of a certificate",
        ),
        (
            "tls: {mode: SIMPLE, caCertificates: \"/a\\0\"}",
            "tls.caCertificates",
            "not the path",
        ),
    ]);
    let names = vec!["a"; 257].join(", ");
    let many = format!("tls: {{mode: SIMPLE, subjectAltNames: [{names}]}}");
    assert_each_refused(&[(&many, "tls.subjectAltNames", "more than 256")]);
}
