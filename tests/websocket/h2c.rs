//! `Upgrade: h2c` (RFC 7540, 3.2): curl asks for it with `--http2`, and gets it; by hand, for what curl does not show.

use std::process::Command;

use tokio::task::spawn_blocking;
use tsunagi_tests::{LIMIT, RawConnection, Sample, SidecarOptions, Upstream, within};

use crate::peers::Mesh;

const ASKS: &str = "GET / HTTP/1.1\r\nHost: echo\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// What curl says of each of its transfers: version, status, connections opened, and the body.
async fn curl(arguments: Vec<String>) -> Vec<String> {
    let output = spawn_blocking(move || {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--http2"])
            .args(["--header", "Host: echo"])
            .args(["--write-out", " %{http_version} %{http_code} %{num_connects}\\n"])
            .args(arguments)
            .output()
    });
    let output = output.await.expect("it ran").expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_goes_on_over_http_2_whatever_the_endpoint_speaks() {
    for port_name in ["http", "http2", "unknown"] {
        let upstream = Upstream::start("v1").await;
        let sample = Sample::of(port_name, vec![upstream], &["v1"], "", &SidecarOptions::default()).await;
        let url = format!("http://{}/", sample.sidecar.outbound);
        let said = curl([url.as_str(); 3].map(str::to_owned).to_vec()).await;
        assert_eq!(said, ["v1 2 200 1", "v1 2 200 0", "v1 2 200 0"], "{port_name}");
        // The endpoint of an undeclared port is spoken to as the client began.
        let spoken = sample.upstream().last().version;
        assert_eq!(spoken == "HTTP/2.0", port_name == "http2", "{port_name}: {spoken}");
        let metrics = sample.sidecar.metrics().await;
        assert_eq!(metrics.sum("http_requests_total", &[("status_code", "200")]), 3.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_body_is_served_as_it_came() {
    let sample = Sample::start("").await;
    let url = format!("http://{}/", sample.sidecar.outbound);
    let said = curl(["--data", "x=1", &url].map(str::to_owned).to_vec()).await;
    assert_eq!(said, ["v1 1.1 200 1"]);
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
}

async fn frame(connection: &mut RawConnection) -> Frame {
    let head = within("a frame", LIMIT, connection.read_exact(9)).await;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    within("its payload", LIMIT, connection.read_exact(length)).await;
    Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        length,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_headers_settings_hold_and_one_frame_of_settings_is_acknowledged_once() {
    let sample = Sample::start("").await;
    let mut client = RawConnection::open(sample.sidecar.outbound).await;
    // An initial window of one byte, and nothing more in the client's own frame.
    client.write(format!("{ASKS}HTTP2-Settings: AAQAAAAB\r\n\r\n")).await;
    let head = within("an answer", LIMIT, client.read_head()).await;
    assert_eq!(
        head,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    );
    client.write(PREFACE).await;
    client.write([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await;
    let first = frame(&mut client).await;
    assert_eq!((first.kind, first.flags), (SETTINGS, 0));
    let mut acknowledged = 0;
    let data = loop {
        let frame = frame(&mut client).await;
        acknowledged += u32::from(frame.kind == SETTINGS && frame.flags == ACK);
        if frame.kind == 0 {
            break frame;
        }
    };
    assert_eq!((data.stream, data.length), (1, 1), "of two bytes");
    // Room for the other; behind it there is no second acknowledgement.
    client.write([0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0, 9]).await;
    client.write([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    let (mut rest, mut answered) = (0, false);
    while rest == 0 || !answered {
        let frame = frame(&mut client).await;
        acknowledged += u32::from(frame.kind == SETTINGS && frame.flags == ACK);
        rest += if frame.kind == 0 { frame.length } else { 0 };
        answered |= frame.kind == 6;
    }
    assert_eq!((acknowledged, rest), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_in_anything_else_is_not_answered_and_who_asks_badly_is_served_as_he_came() {
    let upstream = Upstream::start("v1").await;
    let mesh = Mesh::start("http", &[("v1", upstream.address)], "").await;
    for words in [
        "GET / HTTP/1.1\r\nHost: echo\r\n\r\n".to_owned() + &"x".repeat(40),
        format!("{PREFACE}\0\0\0\u{1}\0\0\0\0\u{1}{}", "x".repeat(20)),
    ] {
        let mut client = mesh.connect().await;
        client.write(format!("{ASKS}HTTP2-Settings: AAQAAAAB\r\n\r\n")).await;
        within("an answer", LIMIT, client.read_head()).await;
        client.write(words).await;
        assert!(client.read_to_end().await.is_empty());
    }
    assert_eq!(upstream.requests(), 0);
    for settings in ["HTTP2-Settings: AAQ\r\n", ""] {
        let mut client = mesh.connect().await;
        client.write(format!("{ASKS}{settings}\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, &*response.text()), (200, "v1"), "{settings}");
    }
}
