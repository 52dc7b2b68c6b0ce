//! Clients that are told of a proxy (`http_proxy`) and ask the sidecar in the words that are for proxies: the absolute form,
//! and `CONNECT`.

use tsunagi_tests::Upstream;

use crate::chain::{Chain, command, curl, curl_is_installed, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_with_a_proxy_reaches_services_by_name() {
    if !curl_is_installed() {
        return;
    }
    let app = Upstream::start("app").await;
    let chain = Chain::start(app.address).await;
    let proxy = chain.url("");
    for url in [
        "http://echo/head?a=b",
        "http://echo.default.svc.cluster.local:80/head?a=b",
    ] {
        let mut told = command(&[url]);
        told.env("http_proxy", &proxy);
        let head = run(told).await.text();
        let host = url.split('/').nth(2).unwrap_or_default().trim_end_matches(":80");
        assert!(head.starts_with("GET /head?a=b HTTP/1.1\n"), "{head}");
        assert!(head.contains(&format!("host: {host}")), "{head}");
        assert!(!head.contains("proxy-connection"), "{head}");
    }
    let posted = curl(&["-x", &proxy, "--data-binary", "words", "http://echo/echo"]).await;
    assert_eq!(posted.text(), "words");
    let unknown = curl(&["-x", &proxy, "-o", "/dev/null", "-w", "%{http_code}", "http://nobody/"]).await;
    assert_eq!(unknown.text(), "404");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_tunnels_through_the_sidecar() {
    if !curl_is_installed() {
        return;
    }
    let app = Upstream::start("app").await;
    let chain = Chain::start(app.address).await;
    let proxy = chain.url("");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let shown = ["-w", " %{http_connect} %{http_code}", version, "http://echo:80/"];
        let said = curl(&[&["-p", "-x", &proxy][..], &shown].concat()).await;
        assert_eq!(said.text(), "app 200 200", "{version}");
    }
    let refused = curl(&["-p", "-x", &proxy, "http://nobody:80/", "-w", "%{http_connect}"]).await;
    assert_eq!(refused.code, Some(56), "{refused:?}");
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "404");
}
