//! What becomes of a target on its way: its path is the one that rules saw, its query is the client's, whatever characters
//! the client left as they are.

use tsunagi_tests::{Connection, LIMIT, RawConnection, RawUpstream, Sidecar, Upstream, Version, eventually};

use crate::chain::Chain;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: echo\r\n\r\n")
}

/// What the endpoint was asked for last.
fn arrived(app: &RawUpstream) -> String {
    let head = app.heads().pop().expect("a request arrived");
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn logged(sidecar: &Sidecar, path: &str) {
    let wanted = format!("\"path\":{}", serde_json::json!(path));
    eventually(&format!("{wanted} is logged"), LIMIT, async || {
        let lines = sidecar.process.stdout();
        lines.iter().any(|line| line.contains(&wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sidecar_normalizes_the_path_that_its_application_and_its_log_see() {
    let app = RawUpstream::start(OK).await;
    let chain = Chain::start(app.address).await;
    for (side, sidecar, address) in [
        ("out", &chain.outbound, chain.outbound.outbound),
        ("in", &chain.inbound, chain.inbound.inbound),
    ] {
        for (sent, seen) in [
            ("x/../admin?a=/../b", "admin?a=/../b"),
            ("%2e%2E/../{side}/%61/b/..;x=y/./admin", "a/admin"),
            ("a\\b\\..\\c//d", "a/c//d"),
            ("a%2f..%5C%3a%C3%a9", "a%2f..%5C%3a%C3%a9"),
            ("<a|\"b\">?<a|\"b\">", "%3Ca%7C%22b%22%3E?<a|\"b\">"),
        ] {
            let (sent, seen) = (
                format!("/{side}/{}", sent.replace("{side}", side)),
                format!("/{side}/{seen}"),
            );
            for target in [sent.clone(), format!("http://echo{sent}")] {
                let response = RawConnection::exchange(address, get(&target)).await;
                assert_eq!((response.status, arrived(&app)), (200, seen.clone()), "{target}");
            }
            logged(sidecar, &seen).await;
        }
        let before = app.heads().len();
        let refused = RawConnection::exchange(address, get("/a%00b")).await;
        assert_eq!((refused.status, app.heads().len()), (400, before), "{}", refused.text());
        for version in [Version::Http1, Version::Http2] {
            let mut connection = Connection::open(address, version).await;
            assert_eq!(connection.get("echo", "/a/%00/..").await.status, 400, "{version:?}");
        }
    }
    // The callee's sidecar would ask in HTTP/2, which this application does not speak; the caller's asks it in HTTP/1.
    let mut connection = Connection::open(chain.outbound.outbound, Version::Http2).await;
    let reply = connection.get("echo", "/x/%2e%2e/out/%7E?%7E").await;
    assert_eq!((reply.status, arrived(&app)), (200, "/out/~?%7E".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_leave_unescaped_reaches_endpoints_of_either_version() {
    let target = |byte: u8| format!("/a{0}b?q={0}c", char::from(byte));
    let app = RawUpstream::start(OK).await;
    let chain = Chain::start(app.address).await;
    let mut client = RawConnection::open(chain.outbound.outbound).await;
    for byte in 0x21..0x7f {
        client.write(get(&target(byte))).await;
        let wanted = match byte {
            b'#' => "/a".to_owned(),
            b'?' => "/a?b?q=?c".to_owned(),
            b'\\' => "/a/b?q=\\c".to_owned(),
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                format!("/a%{byte:02X}b?q={}c", char::from(byte))
            }
            _ => target(byte),
        };
        assert_eq!(
            (client.response().await.status, arrived(&app)),
            (200, wanted),
            "{}",
            target(byte)
        );
    }
    for byte in [1, b'\t', 0x0b, b' ', 0x1f, 0x7f] {
        let refused = RawConnection::exchange(chain.outbound.outbound, get(&target(byte))).await;
        assert_eq!(refused.status, 400, "{:?}", target(byte));
    }

    let app = Upstream::start("app").await;
    let chain = Chain::speaking("http2", app.address).await;
    let filter = get("/?filter={\"a\":[\"<1>\"]}");
    let response = RawConnection::exchange(chain.outbound.outbound, filter).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let seen = app.last();
    assert_eq!(seen.version, "HTTP/2.0");
    assert!(seen.uri.ends_with("/?filter={%22a%22:[%22%3C1%3E%22]}"), "{}", seen.uri);
}
