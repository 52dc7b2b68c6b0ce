//! What arrives is what was sent: framing, names and values of headers, bodies whatever their coding, and each piece as soon
//! as it is there.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tsunagi_tests::{LIMIT, RawUpstream, Upstream, within};

use crate::chain::{Chain, command, curl_is_installed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_keeps_its_connection_and_an_old_one_closes_it() {
    if !curl_is_installed() {
        return;
    }
    let app = Upstream::start("app").await;
    let chain = Chain::start(app.address).await;
    let url = chain.url("/");
    for (version, answers) in [
        ("--http1.1", "app 1\napp 0\napp 0\n"),
        ("--http1.0", "app 1\napp 1\napp 1\n"),
    ] {
        let shown = [&url, &url, version, "-w", " %{num_connects}\n"];
        assert_eq!(chain.curl("/", &shown).await.text(), answers, "{version}");
    }
    // Between the sidecars, and to the application, they were all kept.
    assert!(app.connections() <= 2, "{} connections", app.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_by_prior_knowledge_reaches_endpoints_of_either_version() {
    if !curl_is_installed() {
        return;
    }
    let app = Upstream::start("app").await;
    for (port_name, arrived) in [("http", "HTTP/1.1"), ("http2", "HTTP/2.0"), ("grpc", "HTTP/2.0")] {
        let chain = Chain::speaking(port_name, app.address).await;
        // One request for each: curl 7.88 cannot use such a connection a second time, whoever serves it.
        let shown = ["--http2-prior-knowledge", "-w", " %{http_version}", "-o", "/dev/null"];
        assert_eq!(chain.curl("/bytes/100000", &shown).await.text(), " 2", "{port_name}");
        assert_eq!(app.last().version, arrived, "{port_name}");
        let post = [
            "--http2-prior-knowledge",
            "--data-binary",
            "a body",
            "-w",
            " %{http_version}",
        ];
        assert_eq!(chain.curl("/echo", &post).await.text(), "a body 2", "{port_name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_curl_sends_in_chunks_comes_back_in_chunks() {
    if !curl_is_installed() {
        return;
    }
    let app = Upstream::start("app").await;
    let chain = Chain::start(app.address).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    let sent: Vec<u8> = (0..700_000_u32).map(|n| (n / 7 * 31) as u8).collect();
    std::fs::write(file.path(), &sent).expect("room");
    let data = format!("@{}", file.path().display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let chunked = [
            "--data-binary",
            &data,
            "-H",
            "Transfer-Encoding: chunked",
            "-H",
            "Expect:",
            version,
        ];
        let said = chain.curl("/echo", &chunked).await;
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{version}");
        assert!(
            said.stdout == sent,
            "{version}: {} of {} bytes",
            said.stdout.len(),
            sent.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_through_both_sidecars_both_ways() {
    let upstream = RawUpstream::serving(|mut connection| async move {
        while connection.next_head().await.is_some() {
            let body = connection.next_through(b"\r\n\r\n").await.unwrap_or_default();
            // What arrived behind the last chunk goes back behind the last chunk.
            let (_, trailers) = body.split_once("\r\n0\r\n").unwrap_or_default();
            let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}");
            connection.write(answer).await;
        }
    })
    .await;
    for port_name in ["http", "unnamed"] {
        let chain = Chain::speaking(port_name, upstream.address).await;
        let sent = "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 4\r\nX-Last: yes\r\n\r\n";
        let mut client = chain.client(sent).await;
        let head = within("a head", LIMIT, client.read_head()).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let body = within("a body", LIMIT, client.next_through(b"\r\n\r\n")).await;
        let body = body.expect("an open connection").to_lowercase();
        assert!(body.ends_with("\r\n0\r\nx-sum: 4\r\nx-last: yes\r\n\r\n"), "{body:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_values_order_and_repetition_of_headers_survive_both_sidecars() {
    const SENT: &str = "X-Zeta: 1\r\naCCept-enCODing: gzip, br\r\nX-alpha: b\r\nX-Zeta: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX-Empty: \r\nX-Mid: a  b\r\n";
    const ANSWERED: &str = "X-Zeta: 1\r\nSet-Cookie: a=1; Path=/\r\nx-ALPHA: b\r\nSet-Cookie: b=2\r\nSERVER: some/1\r\nSet-Cookie: c=3\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Digest\r\n";
    let upstream = RawUpstream::start(
        b"HTTP/1.1 200 OK\r\nX-Zeta: 1\r\nSet-Cookie: a=1; Path=/\r\nx-ALPHA: b\r\nSet-Cookie: b=2\r\nSERVER: some/1\r\nSet-Cookie: c=3\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Digest\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let chain = Chain::start(upstream.address).await;
    let sent = format!("GET /a%2Fb?c=%20&&d HTTP/1.1\r\nHost: echo\r\n{SENT}\r\n");
    let response = chain.client(sent).await.response().await;
    assert!(response.head.contains(ANSWERED), "{}", response.head);
    let head = upstream.heads().pop().expect("a request arrived");
    assert!(head.starts_with("GET /a%2Fb?c=%20&&d HTTP/1.1\r\n"), "{head}");
    // An empty value may lose its space.
    let head = head.replace("X-Empty:\r\n", "X-Empty: \r\n");
    assert!(head.contains(SENT), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_body_has_none_and_the_connection_goes_on() {
    let upstream = RawUpstream::serving(|mut connection| async move {
        while let Some(head) = connection.next_head().await {
            let answer = match head.split(' ').nth(1).unwrap_or_default() {
                "/204" => "HTTP/1.1 204 No Content\r\nX-Is: 204\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
                _ if head.starts_with("HEAD ") => "HTTP/1.1 200 OK\r\nContent-Length: 123456789\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            };
            connection.write(answer).await;
        }
    })
    .await;
    let chain = Chain::start(upstream.address).await;
    let all = "HEAD / HTTP/1.1\r\nHost: echo\r\n\r\nGET /204 HTTP/1.1\r\nHost: echo\r\n\r\nGET /304 HTTP/1.1\r\nHost: echo\r\n\r\nGET / HTTP/1.1\r\nHost: echo\r\n\r\n";
    // All at once: they are answered in their order.
    let mut client = chain.client(all).await;
    let head = client.head_response().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("123456789")));
    let no_content = client.response().await;
    assert_eq!((no_content.status, no_content.header("content-length")), (204, None));
    assert_eq!(no_content.header("transfer-encoding"), None);
    let not_modified = client.response().await;
    assert_eq!((not_modified.status, not_modified.header("etag")), (304, Some("\"x\"")));
    assert_eq!(client.response().await.text(), "body");
    if curl_is_installed() {
        let said = chain
            .curl("/", &["-I", "-w", "%{size_download} %{http_code}"])
            .await
            .text();
        assert!(said.contains("Content-Length: 123456789\r\n"), "{said}");
        assert!(said.ends_with("\r\n0 200"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_body_is_nobodys_business() {
    // `gzip -9n` of "hello hello hello hello\n".
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40,
        0x27, 0xb9, 0x00, 0x00, 0x88, 0x59, 0x0b, 0x18, 0x00, 0x00, 0x00,
    ];
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let seen = heads.clone();
    let upstream = RawUpstream::serving(move |mut connection| {
        let seen = seen.clone();
        async move {
            while let Some(head) = connection.next_head().await {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(head);
                let length = GZIP.len();
                let fields = format!("Content-Encoding: gzip\r\nContent-Length: {length}\r\nVary: x\r\n");
                connection.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await;
                connection.write(GZIP).await;
            }
        }
    })
    .await;
    let chain = Chain::start(upstream.address).await;
    let response = chain
        .client("GET / HTTP/1.1\r\nHost: echo\r\n\r\n")
        .await
        .response()
        .await;
    assert_eq!(response.body, GZIP);
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(response.header("content-length"), Some(GZIP.len().to_string().as_str()));
    assert_eq!(response.header("vary"), Some("x"));
    let head = last_of(&heads);
    assert!(!head.to_lowercase().contains("accept-encoding"), "{head}");
    if curl_is_installed() {
        assert_eq!(
            chain.curl("/", &["--compressed"]).await.text(),
            "hello hello hello hello\n"
        );
        let head = last_of(&heads);
        assert!(head.contains("Accept-Encoding: deflate, gzip"), "{head}");
    }
}

fn last_of(heads: &Mutex<Vec<String>>) -> String {
    let heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
    heads.last().cloned().expect("a request arrived")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_curl_one_by_one() {
    if !curl_is_installed() {
        return;
    }
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        // The next event is sent only once curl has shown the one before.
        let seen = Arc::new(Notify::new());
        let shown = seen.clone();
        let upstream = RawUpstream::serving(move |mut connection| {
            let shown = shown.clone();
            async move {
                connection.next_head().await;
                connection
                    .write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                for number in 0..5 {
                    let event = format!("data: {number}\n\n");
                    connection.write(format!("{:x}\r\n{event}\r\n", event.len())).await;
                    shown.notified().await;
                }
                connection.write("0\r\n\r\n").await;
            }
        })
        .await;
        let chain = Chain::start(upstream.address).await;
        let url = chain.url("/events");
        let mut curl = command(&["-N", "-H", "Host: echo", version, &url]);
        let mut curl = curl.stdout(Stdio::piped()).spawn().expect("curl starts");
        let lines = BufReader::new(curl.stdout.take().expect("stdout is piped"));
        let reading = spawn_blocking(move || {
            let mut events = Vec::new();
            for line in lines.lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
                events.push(line);
                seen.notify_one();
            }
            events
        });
        let events = within("all events", LIMIT, reading).await.expect("no panic");
        assert_eq!(
            events,
            ["data: 0", "data: 1", "data: 2", "data: 3", "data: 4"],
            "{version}"
        );
        assert!(curl.wait().expect("our own child").success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_head_passes_and_one_that_is_too_large_is_told_so() {
    if !curl_is_installed() {
        return;
    }
    let app = Upstream::start("app").await;
    let chain = Chain::start(app.address).await;
    for (count, version, status) in [
        (40, "--http1.1", "200"),
        (40, "--http2-prior-knowledge", "200"),
        (80, "--http1.1", "431"),
    ] {
        let mut file = String::new();
        for number in 0..count {
            file.push_str(&format!("X-Large-{number}: {}\n", "x".repeat(1000)));
        }
        let headers = tempfile::NamedTempFile::new().expect("a temporary folder");
        std::fs::write(headers.path(), file).expect("room");
        let headers = format!("@{}", headers.path().display());
        let shown = ["-H", &headers, version, "-w", "%{http_code}", "-o", "/dev/null"];
        assert_eq!(chain.curl("/", &shown).await.text(), status, "{count} {version}");
    }
    assert_eq!(app.requests(), 2);
}
