//! TLS and the PROXY protocol to endpoints, from a DestinationRule to what a real nginx, haproxy or
//! gRPC server saw.

#[path = "upstream_tls/egress.rs"]
mod egress;
#[path = "upstream_tls/grpc.rs"]
mod grpc;
#[path = "upstream_tls/haproxy.rs"]
mod haproxy;
#[path = "upstream_tls/mesh.rs"]
mod mesh;
#[path = "service_entries/name_server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod name_server;
#[path = "upstream_tls/nginx.rs"]
mod nginx;
#[path = "upstream_tls/pki.rs"]
mod pki;
#[path = "upstream_tls/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "upstream_tls/turns.rs"]
mod turns;

use std::time::Duration;

use mesh::{Files, Mesh, NAME};
use nginx::Nginx;
use pki::write;
use tokio::task::JoinSet;
use tsunagi_tests::{Connection, LIMIT, Process, RawConnection, SidecarOptions, Version, eventually, require_tools};

fn has_nginx() -> bool {
    require_tools(&[("nginx", &["nginx", "-v"])])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_checks_the_endpoints_certificate_and_says_what_is_wrong_with_it() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let listens = [
        ("ssl", files.served("server")),
        ("ssl", files.served("revoked")),
        ("ssl", files.served("stranger")),
    ];
    let nginx = Nginx::start(&listens).await;
    let ca = files.named("ca.pem");
    let mesh = Mesh::single("http", nginx.listener(0)).await;
    let plain = mesh.get().await;
    assert_eq!(plain.status, 400, "without a rule it is plaintext: {}", plain.text());

    mesh.policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
        .await;
    assert!(mesh.seen().await.contains(&format!("sni={NAME} ")));
    mesh.policy(&format!(
        "{{tls: {{mode: SIMPLE, caCertificates: {ca}, sni: a.example.com}}}}"
    ))
    .await;
    assert!(mesh.seen().await.contains("sni=a.example.com "));
    mesh.policy(&format!(
        "{{tls: {{mode: SIMPLE, caCertificates: {ca}, sni: elsewhere.com, subjectAltNames: [b.example.com]}}}}"
    ))
    .await;
    assert!(mesh.seen().await.contains("sni=elsewhere.com "));

    mesh.policy(&format!(
        "{{tls: {{mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [other.com]}}}}"
    ))
    .await;
    let wrong = mesh.refused().await;
    assert!(
        wrong.contains(&format!("is for {NAME}, *.example.com, not for other.com")),
        "{wrong}"
    );
    assert!(mesh.failures("wrong_name").await >= 1.0);

    mesh.policy("{tls: {mode: DISABLE}}").await;
    assert_eq!(mesh.get().await.status, 400, "no connection of before is used");

    let stranger = Mesh::single("http", nginx.listener(2)).await;
    stranger
        .policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
        .await;
    let unknown = stranger.refused().await;
    assert!(unknown.contains("signed by no authority"), "{unknown}");
    assert!(stranger.failures("unknown_authority").await >= 1.0);
    let is_logged =
        |line: &String| line.contains(r#""upstream_transport_failure_reason":""#) && line.contains("no authority");
    eventually("the access log says why", LIMIT, async || {
        stranger.sidecar.process.stdout().iter().any(is_logged).then_some(())
    })
    .await;
    stranger.policy("{tls: {mode: SIMPLE, insecureSkipVerify: true}}").await;
    stranger.seen().await;

    let revoked = Mesh::single("http", nginx.listener(1)).await;
    revoked
        .policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
        .await;
    revoked.seen().await;
    let crl = files.named("crl.pem");
    revoked
        .policy(&format!(
            "{{tls: {{mode: SIMPLE, caCertificates: {ca}, caCrl: {crl}}}}}"
        ))
        .await;
    let reason = revoked.refused().await;
    assert!(reason.contains("was revoked"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_shows_a_certificate_and_a_refusal_of_it_says_so() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl", files.verified("server"))]).await;
    let mesh = Mesh::single("http", nginx.listener(0)).await;
    let ca = files.named("ca.pem");
    let tls = |name: &str| {
        let (certificate, key) = (files.named(&format!("{name}.crt")), files.named(&format!("{name}.key")));
        format!("{{tls: {{mode: MUTUAL, caCertificates: {ca}, clientCertificate: {certificate}, privateKey: {key}}}}}")
    };
    mesh.policy(&tls("client")).await;
    let seen = mesh.seen().await;
    assert!(seen.contains("client=CN=client"), "{seen}");
    // nginx answers 400 in HTTP where a certificate is not good enough for it.
    mesh.policy(&tls("stranger")).await;
    assert_eq!(mesh.get().await.status, 400);
}

/// One that ends TLS where a client's certificate is not good enough, as most servers do: behind a handshake that is over for
/// the client.
async fn strict_server(files: &Files) -> (Process, std::net::SocketAddr) {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = std::net::SocketAddr::from(([127, 32 | (high & 31), low, 9], 8443));
    let mut command = std::process::Command::new("openssl");
    command.args([
        "s_server",
        "-accept",
        &address.to_string(),
        "-quiet",
        "-www",
        "-alpn",
        "h2,http/1.1",
    ]);
    command.args([
        "-Verify",
        "1",
        "-verify_return_error",
        "-CAfile",
        &files.named("ca.pem"),
    ]);
    command.args(["-cert", &files.named("server.crt"), "-key", &files.named("server.key")]);
    let process = Process::start("openssl s_server", &mut command);
    let connects = async || tokio::net::TcpStream::connect(address).await.ok();
    eventually("openssl listens", LIMIT, connects).await;
    (process, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_refused_behind_the_handshake_is_why_a_request_fails() {
    if !require_tools(&[("openssl", &["openssl", "version"])]) {
        return;
    }
    let files = Files::new();
    let (_server, address) = strict_server(&files).await;
    let ca = files.named("ca.pem");
    for port_name in ["http", "http2"] {
        let mesh = Mesh::single(port_name, address).await;
        mesh.policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
            .await;
        let wanted = mesh.refused().await;
        assert!(wanted.contains("wants a client certificate"), "{port_name}: {wanted}");
        let (certificate, key) = (files.named("stranger.crt"), files.named("stranger.key"));
        mesh.policy(&format!(
            "{{tls: {{mode: MUTUAL, caCertificates: {ca}, clientCertificate: {certificate}, privateKey: {key}}}}}"
        ))
        .await;
        let refused = mesh.refused().await;
        assert!(
            refused.contains("refused the client certificate"),
            "{port_name}: {refused}"
        );
        assert!(mesh.failures("client_certificate").await >= 2.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_chooses_http2_unless_the_rule_says_otherwise() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let listens = [("ssl http2", files.served("server")), ("ssl", files.served("server"))];
    let nginx = Nginx::start(&listens).await;
    let ca = files.named("ca.pem");
    let tls = format!("tls: {{mode: SIMPLE, caCertificates: {ca}}}");
    let (both, old) = (nginx.listener(0), nginx.listener(1));
    for (port_name, endpoint, more, protocol) in [
        ("http", both, "", "HTTP/2.0"),
        ("http", old, "", "HTTP/1.1"),
        ("http2", both, "", "HTTP/2.0"),
        ("grpc", both, "", "HTTP/2.0"),
        (
            "http",
            both,
            ", connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}",
            "HTTP/1.1",
        ),
        (
            "http",
            both,
            ", connectionPool: {http: {useClientProtocol: true}}",
            "HTTP/1.1",
        ),
    ] {
        let mesh = Mesh::single(port_name, endpoint).await;
        mesh.policy(&format!("{{{tls}{more}}}")).await;
        for nth in 1..=3 {
            let seen = mesh.seen().await;
            let expected = format!("protocol={protocol} ");
            assert!(seen.contains(&expected), "{port_name} {more}: {seen}");
            assert!(seen.ends_with(&format!("nth={nth}")), "one connection: {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_whichever_thread_connects() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl", files.served("server"))]).await;
    let mesh = Mesh::start("http", &[nginx.listener(0)], SidecarOptions::default()).await;
    let ca = files.named("ca.pem");
    mesh.policy(&format!(
        "{{tls: {{mode: SIMPLE, caCertificates: {ca}}}, connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}"
    ))
    .await;
    let first = mesh.seen().await;
    assert!(first.contains("resumed=. "), "{first}");
    for _ in 0..20 {
        let next = mesh.seen().await;
        assert!(next.contains("resumed=r ") && next.ends_with("nth=1"), "{next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_while_requests_run_and_none_fails() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl", files.verified("server"))]).await;
    let mesh = Mesh::start("http", &[nginx.listener(0)], SidecarOptions::default()).await;
    let (ca, certificate, key) = (files.named("ca.pem"), files.named("mine.crt"), files.named("mine.key"));
    mesh.policy(&format!(
        "{{tls: {{mode: MUTUAL, caCertificates: {ca}, clientCertificate: {certificate}, privateKey: {key}}}}}"
    ))
    .await;
    let missing = mesh.refused().await;
    assert!(missing.contains("mine.crt"), "{missing}");
    assert!(mesh.failures("files").await >= 1.0);

    let become_ = |name: &str| {
        for end in ["crt", "key"] {
            let text = std::fs::read_to_string(files.path().join(format!("{name}.{end}"))).expect("it was issued");
            write(files.path(), &format!("mine.{end}"), &text);
        }
    };
    files
        .authority
        .issue(files.path(), "second", &["client.example.com"], 9);
    become_("client");
    let is = async |name: &str| {
        let wanted = format!("client=CN={name} ");
        eventually("the certificate is shown", LIMIT, async || {
            let reply = mesh.get().await;
            (reply.status == 200 && reply.text().contains(&wanted)).then_some(())
        })
        .await;
    };
    is("client").await;

    let outbound = mesh.sidecar.outbound;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let stopped = stopped.clone();
        load.spawn(async move {
            let mut connection = Connection::open(outbound, Version::Http1).await;
            let mut answered = 0_u32;
            while !*stopped.borrow() {
                let reply = connection.get("echo", "/").await;
                assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
                answered += 1;
            }
            answered
        });
    }
    become_("second");
    is("second").await;
    write(files.path(), "mine.crt", "nonsense");
    eventually("the refused file is told", LIMIT, async || {
        let dump = mesh.sidecar.admin("GET", "/config_dump").await.text();
        (dump.contains("mine.crt: there is no certificate in it")).then_some(())
    })
    .await;
    become_("client");
    is("client").await;
    stop.send(true).expect("the load runs");
    let answered: u32 = load.join_all().await.into_iter().sum();
    assert!(answered > 20, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_a_folder_with_the_keys_of_a_secret() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl", files.verified("server"))]).await;
    let credentials = files.path().join("credentials");
    let options = SidecarOptions {
        args: vec!["--credentials-dir".into(), credentials.display().to_string()],
        ..SidecarOptions::default()
    };
    let mesh = Mesh::start("http", &[nginx.listener(0)], options).await;
    mesh.policy("{tls: {mode: MUTUAL, credentialName: shop}}").await;
    let missing = mesh.refused().await;
    assert!(missing.contains("credentials/shop/tls.crt"), "{missing}");
    let folder = credentials.join("shop");
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for (key, file) in [
        ("tls.crt", "client.crt"),
        ("tls.key", "client.key"),
        ("ca.crt", "ca.pem"),
    ] {
        std::fs::copy(files.path().join(file), folder.join(key)).expect("a temporary folder");
    }
    eventually("the credential is used", LIMIT, async || {
        let reply = mesh.get().await;
        (reply.status == 200 && reply.text().contains("client=CN=client ")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_a_tcp_port_go_through_tls_too() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl", files.served("server"))]).await;
    let mesh = Mesh::single("tcp", nginx.listener(0)).await;
    let ca = files.named("ca.pem");
    mesh.policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
        .await;
    let mut tunnel = RawConnection::open(mesh.sidecar.outbound).await;
    tunnel.write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n").await;
    let head = tunnel.read_head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    tunnel.write("GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&tunnel.read_to_end().await).into_owned();
    assert!(answer.contains(&format!("sni={NAME} ")), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_counts_into_the_connect_timeout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("it is bound");
    let mesh = Mesh::single("http", address).await;
    mesh.policy("{tls: {mode: SIMPLE, insecureSkipVerify: true}, connectionPool: {tcp: {connectTimeout: 300ms}}}")
        .await;
    let started = std::time::Instant::now();
    let reason = mesh.refused().await;
    assert!(
        reason.contains("has not answered the TLS handshake within 300ms"),
        "{reason}"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(mesh.failures("timeout").await >= 1.0);
}
