//! An external host that applications call by plain HTTP and the sidecar by HTTPS, as Istio's page on egress TLS origination
//! has it: a name, a port whose endpoint speaks TLS behind another number, and a rule for that port alone; and many names at once.

use std::net::SocketAddr;

use tsunagi_tests::{ControlPlane, LIMIT, Sidecar, SidecarOptions, eventually, require_tools, within};

use crate::mesh::Files;
use crate::name_server::NameServer;
use crate::nginx::Nginx;

/// That the certificate `server` is for.
const HOST: &str = "edition.example.com";

/// The page's, but for the endpoint's port: nobody has 443 to give away.
fn entry(target_port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: edition
spec:
  hosts:
  - {HOST}
  ports:
  - number: 80
    name: http-port
    protocol: HTTP
    targetPort: {target_port}
  - number: 443
    name: https-port
    protocol: HTTPS
    targetPort: {target_port}
  resolution: DNS
"
    )
}

/// The page's. Whom to trust, it does not say: the authorities of the system.
const ORIGINATE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: edition
spec:
  host: edition.example.com
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 80
      tls:
        mode: SIMPLE
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_requests_to_an_external_name_leave_as_https_and_its_tls_port_is_left_alone() {
    if !require_tools(&[("nginx", &["nginx", "-v"]), ("curl", &["curl", "--version"])]) {
        return;
    }
    let files = Files::new();
    let listens = [("ssl", files.served("server")), ("ssl", files.served("stranger"))];
    let nginx = Nginx::start(&listens).await;
    let names = NameServer::start().await;
    names.say(HOST, &[nginx.listener(0)], 60);
    let control = ControlPlane::start();
    let options = SidecarOptions {
        args: vec![format!("--dns-resolver={}", names.address)],
        env: vec![("SSL_CERT_FILE".to_owned(), files.named("ca.pem"))],
        ..SidecarOptions::default()
    };
    let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    control.apply(&entry(nginx.listener(0).port())).await;
    let plain = sidecar.get(HOST, "/").await;
    let told = "The plain HTTP request was sent to HTTPS port";
    assert_eq!(plain.status, 400, "{} {}", plain.flags(), plain.text());
    assert!(plain.text().contains(told), "{}", plain.text());

    control.apply(ORIGINATE).await;
    for host in [HOST, "edition.example.com:80"] {
        let reply = sidecar.get(host, "/").await;
        assert_eq!(reply.status, 200, "{host}: {} {}", reply.flags(), reply.text());
        let seen = format!("sni={HOST} protocol=HTTP/1.1 ");
        assert!(reply.text().contains(&seen), "{host}: {}", reply.text());
    }
    let labels = [("destination_service", HOST), ("status_code", "200")];
    assert_eq!(sidecar.metrics().await.sum("http_requests_total", &labels), 2.0);

    // An application's own TLS goes through as it is: nobody puts it into another one.
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--noproxy", "", "--proxytunnel"]);
    curl.args(["--cacert", &files.named("ca.pem")]);
    curl.args(["--proxy", &format!("http://{}", sidecar.outbound)]);
    curl.arg(format!("https://{HOST}/"));
    let output = within("curl ends", LIMIT, curl.output()).await.expect("curl starts");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        seen.contains(&format!("sni={HOST} ")),
        "{seen}{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // The same name, with a certificate that nobody whom the system trusts has signed.
    control.apply(&entry(nginx.listener(1).port())).await;
    let reason = eventually("the other endpoint is refused", LIMIT, async || {
        let reply = sidecar.get(HOST, "/").await;
        (reply.status == 503).then(|| reply.text())
    })
    .await;
    assert!(reason.contains("signed by no authority"), "{reason}");
}

/// Many names that the same endpoint serves.
fn any(listener: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: any
spec:
  hosts: ['*.example.com']
  ports:
  - number: 80
    name: http
    targetPort: {}
  resolution: STATIC
  endpoints:
  - address: {}
---
",
        listener.port(),
        listener.ip()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_wildcard_each_requests_host_is_asked_for_on_connections_of_its_own() {
    if !require_tools(&[("nginx", &["nginx", "-v"])]) {
        return;
    }
    let files = Files::new();
    let nginx = Nginx::start(&[("ssl http2", files.served("server"))]).await;
    let control = ControlPlane::start();
    let options = SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    };
    let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    let rule = |pool: &str| {
        let ca = files.named("ca.pem");
        let policy = format!("{{connectionPool: {pool}, tls: {{mode: SIMPLE, caCertificates: {ca}}}}}");
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: any}\n";
        format!(
            "{}{rule}spec: {{host: '*.example.com', trafficPolicy: {policy}}}\n",
            any(nginx.listener(0))
        )
    };
    for (pool, protocol) in [
        ("{http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", "HTTP/1.1"),
        ("{http: {h2UpgradePolicy: UPGRADE}}", "HTTP/2.0"),
    ] {
        control.apply(&rule(pool)).await;
        for (host, name, nth) in [
            ("a.example.com", "a.example.com", 1),
            ("b.example.com", "b.example.com", 1),
            ("A.Example.com:80", "a.example.com", 2),
            ("b.example.com", "b.example.com", 2),
        ] {
            let reply = sidecar.get(host, "/").await;
            assert_eq!(reply.status, 200, "{host}: {} {}", reply.flags(), reply.text());
            let (seen, times) = (format!("sni={name} protocol={protocol} "), format!(" nth={nth}"));
            let text = reply.text();
            assert!(
                text.contains(&seen) && text.ends_with(&times),
                "{host} by {protocol}: {text}"
            );
        }
        let wrong = sidecar.get("not.covered.example.com", "/").await;
        assert_eq!(wrong.status, 503, "{}", wrong.flags());
        assert!(
            wrong.text().contains("not for not.covered.example.com"),
            "{}",
            wrong.text()
        );
        assert_eq!(sidecar.get("a.example.com", "/").await.status, 200);
    }

    // Where there may be one connection, that of another name makes room.
    control.apply(&rule("{tcp: {maxConnections: 1}}")).await;
    for host in ["a.example.com", "b.example.com", "a.example.com"] {
        let reply = sidecar.get(host, "/").await;
        let seen = format!("sni={host} ");
        assert!(
            reply.text().contains(&seen),
            "{host}: {} {}",
            reply.flags(),
            reply.text()
        );
        assert!(reply.text().ends_with(" nth=1"), "{host}: {}", reply.text());
    }
}
