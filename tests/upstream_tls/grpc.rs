//! gRPC over TLS to its server: a client of the mesh speaks plaintext, grpcio's server TLS alone, with ALPN `h2`.

use std::process::Command;

use tokio::task::block_in_place;
use tsunagi_tests::{LIMIT, Process, require_tools};

use crate::mesh::{Files, Mesh};

const PYTHON: &str = "/usr/bin/python3";
const SERVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grpc/service.py");

/// What grpcio's client says of a call.
fn call(mesh: &Mesh, arguments: &[&str]) -> String {
    let mut client = Command::new(PYTHON);
    client.env("GRPC_DNS_RESOLVER", "native");
    client.args([SERVICE, "call", &mesh.sidecar.outbound.to_string(), "echo"]);
    let output = block_in_place(|| client.args(arguments).output()).expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_passes_to_a_server_that_speaks_tls() {
    if !require_tools(&[("python3-grpcio", &[PYTHON, "-c", "import grpc"])]) {
        return;
    }
    let files = Files::new();
    let (certificate, key) = (files.named("server.crt"), files.named("server.key"));
    let mut server = Command::new(PYTHON);
    server.args([SERVICE, "serve", "app", &certificate, &key]);
    let server = Process::start("the gRPC server", &mut server);
    let address = block_in_place(|| server.address("grpc", LIMIT));
    let ca = files.named("ca.pem");
    // A port that says nothing of gRPC is asked what it speaks.
    for port_name in ["grpc", "http"] {
        let mesh = Mesh::single(port_name, address).await;
        let plain = call(&mesh, &["Say", "hello"]);
        assert!(!plain.contains("OK"), "it speaks TLS alone: {plain}");
        mesh.policy(&format!("{{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}"))
            .await;
        assert_eq!(call(&mesh, &["Say", "hello"]), "app: hello\nOK\n", "{port_name}");
        assert_eq!(call(&mesh, &["Count", "3"]), "0\n1\n2\nOK\n");
        assert_eq!(call(&mesh, &["Add", "1,2,3"]), "6\nOK\n");
        assert_eq!(call(&mesh, &["Talk", "a,b"]), "A\nB\nOK\n");
        assert_eq!(call(&mesh, &["Fail", "NOT_FOUND"]), "NOT_FOUND: as asked\n");
        mesh.policy(&format!(
            "{{tls: {{mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [other.com]}}}}"
        ))
        .await;
        let wrong = call(&mesh, &["Say", "hello"]);
        assert!(
            wrong.starts_with("UNAVAILABLE") && wrong.contains("not for other.com"),
            "{wrong}"
        );
    }
}
