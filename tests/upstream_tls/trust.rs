//! Whom a sidecar believes as time goes on and files grow: endpoints that resume sessions beyond their end, several lists of
//! revoked certificates, certificates that were given as trusted themselves, and those of long ago.

use std::process::Command;
use std::time::Duration;

use tsunagi_tests::{LIMIT, eventually, require_tools};

use crate::has_nginx;
use crate::mesh::{Files, Mesh};
use crate::nginx::Nginx;
use crate::pki::write;

/// How long certificates and lists last here.
const SHORT: Duration = Duration::from_secs(10);

const EACH_ITS_OWN: &str = "connectionPool: {http: {maxRequestsPerConnection: 1}}";

/// Its requests resume a session until they are refused for this reason.
async fn is_refused_in_the_end(mesh: &Mesh, reason: &str) {
    let mut resumed = false;
    let refused = eventually("the endpoint is refused", LIMIT, async || {
        let reply = mesh.get().await;
        if reply.status != 200 {
            return Some((reply.flags().to_owned(), reply.text()));
        }
        resumed |= reply.text().contains("resumed=r ");
        None
    })
    .await;
    assert!(resumed, "it was let in by a session before: {refused:?}");
    assert!(refused.0.ends_with("UF") && refused.1.contains(reason), "{refused:?}");
    let next = mesh.refused().await;
    assert!(next.contains(reason), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_whose_certificate_or_list_ends_is_refused_although_it_resumes_a_session() {
    if !has_nginx() {
        return;
    }
    const SHORT_NAME: &str = "short.example.com";
    let files = Files::new();
    // Read when the first asks for it.
    let short = files.served("$ssl_server_name");
    let listens = [
        ("ssl", format!("ssl_protocols TLSv1.3; {short}")),
        ("ssl", format!("ssl_protocols TLSv1.2; {short}")),
        ("ssl", files.served("server")),
    ];
    let nginx = Nginx::start(&listens).await;
    let ca = files.named("ca.pem");
    let (new, old, listed) = tokio::join!(
        Mesh::single("http", nginx.listener(0)),
        Mesh::single("http", nginx.listener(1)),
        Mesh::single("http", nginx.listener(2)),
    );
    let names = [SHORT_NAME];
    files.authority.issue_for(files.path(), SHORT_NAME, &names, 5, SHORT);
    let list = files.authority.revoke_for(&[], SHORT, SHORT);
    write(files.path(), "short.crl", &list);
    let tls = format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}, sni: {SHORT_NAME}}}, {EACH_ITS_OWN}}}");
    let crl = files.named("short.crl");
    let with_list = format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}, caCrl: {crl}}}, {EACH_ITS_OWN}}}");
    tokio::join!(new.policy(&tls), old.policy(&tls), listed.policy(&with_list));
    tokio::join!(
        is_refused_in_the_end(&new, "the endpoint's certificate has expired"),
        is_refused_in_the_end(&old, "the endpoint's certificate has expired"),
        is_refused_in_the_end(&listed, "list of revoked certificates of its authority has expired"),
    );
    assert!(new.failures("expired").await >= 2.0);
    assert!(old.failures("expired").await >= 2.0);
    assert!(listed.failures("certificate").await >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_appended_to_the_one_before_counts_for_given_certificates_too() {
    if !has_nginx() {
        return;
    }
    const HOUR: Duration = Duration::from_hours(1);
    const SERIAL: u64 = 1;
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl", files.served("server"))]).await;
    let list = |serials: &[u64], age, time| files.authority.revoke_for(serials, age, time);
    let old = list(&[], 3 * HOUR, HOUR);
    write(files.path(), "grown.crl", &old);
    let given = std::fs::read_to_string(files.path().join("server.crt")).expect("it was issued");
    write(files.path(), "both.pem", &(files.authority.pem() + &given));
    let crl = files.named("grown.crl");
    for authorities in ["ca.pem", "both.pem"] {
        write(files.path(), "grown.crl", &old);
        let mesh = Mesh::single("http", nginx.listener(0)).await;
        let ca = files.named(authorities);
        mesh.policy(&format!(
            "{{tls: {{mode: SIMPLE, caCertificates: {ca}, caCrl: {crl}}}, {EACH_ITS_OWN}}}"
        ))
        .await;
        mesh.seen().await;
        write(
            files.path(),
            "grown.crl",
            &(old.clone() + &list(&[SERIAL], 2 * HOUR, HOUR)),
        );
        let revoked = eventually("the new list counts", LIMIT, async || {
            let reply = mesh.get().await;
            (reply.status != 200).then(|| reply.text())
        })
        .await;
        assert!(revoked.contains("certificate was revoked"), "{authorities}: {revoked}");
        assert!(mesh.failures("revoked").await >= 1.0);
    }
}

/// What an appliance makes for itself: of X.509 version 1, or with a key of long ago.
fn openssl(files: &Files, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    let output = command.current_dir(files.path()).args(arguments).output();
    let output = output.expect("it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_with_certificates_of_long_ago_are_reached_where_nobody_is_verified() {
    if !has_nginx() || !require_tools(&[("openssl", &["openssl", "version"])]) {
        return;
    }
    let files = Files::new();
    let request = [
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=old", "-keyout", "old.key",
    ];
    openssl(&files, &[&request[..], &["-out", "old.csr"]].concat());
    openssl(
        &files,
        &[
            "x509", "-req", "-in", "old.csr", "-signkey", "old.key", "-out", "old.crt",
        ],
    );
    let request = [
        "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-keyout", "weak.key",
    ];
    openssl(&files, &[&request[..], &["-out", "weak.crt"]].concat());
    let lax = |name: &str, version: &str| {
        let served = files.served(name);
        (
            "ssl",
            format!("ssl_protocols {version}; ssl_ciphers DEFAULT@SECLEVEL=0; {served}"),
        )
    };
    let listens = [
        lax("old", "TLSv1.3"),
        lax("old", "TLSv1.2"),
        lax("weak", "TLSv1.3"),
        lax("weak", "TLSv1.2"),
    ];
    let nginx = Nginx::start(&listens).await;
    for index in 0..listens.len() {
        let mesh = Mesh::single("http", nginx.listener(index)).await;
        mesh.policy("{tls: {mode: SIMPLE, insecureSkipVerify: true}}").await;
        mesh.seen().await;
        let (name, reason) = match index {
            0 | 1 => ("old", "is of X.509 version 1: issue it anew"),
            _ => ("weak", "has an RSA key of 1024 bits"),
        };
        let ca = files.named("ca.pem");
        mesh.policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
            .await;
        let refused = mesh.refused().await;
        assert!(refused.contains(reason), "{refused}");
        let given = files.named(&format!("{name}.crt"));
        mesh.policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {given}}}}}"))
            .await;
        match name {
            "old" => drop(mesh.seen().await),
            _ => assert!(mesh.refused().await.contains(reason)),
        }
    }
}
