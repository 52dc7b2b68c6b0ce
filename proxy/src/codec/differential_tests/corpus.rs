//! Messages as clients, endpoints and attackers send them: good, odd, hostile.

fn owned(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.to_vec()).collect()
}

pub(super) fn requests() -> Vec<Vec<u8>> {
    let mut all = owned(REQUESTS);
    // Targets, in every position that a method allows.
    for method in ["GET", "OPTIONS", "CONNECT", "POST", "X-Own!"] {
        for target in TARGETS {
            all.push(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes());
        }
    }
    for lines in FRAMING {
        for version in ["1.1", "1.0"] {
            let next = "5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n";
            all.push(format!("POST /framed HTTP/{version}\r\nHost: a\r\n{lines}\r\n{next}").into_bytes());
        }
    }
    for body in CHUNKED {
        let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        all.push(
            format!("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{next}").into_bytes(),
        );
    }
    for line in FIELDS {
        all.push([b"GET /field HTTP/1.1\r\nHost: a\r\n", *line, b"\r\n\r\n"].concat());
        all.push([b"GET /field HTTP/1.1\r\n", *line, b"\nHost: a\n\n"].concat());
    }
    all.extend(large("GET /large HTTP/1.1\r\nHost: a\r\n"));
    all.push(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(60_000)).into_bytes());
    all.push(format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(70_000)).into_bytes());
    all.push(
        format!(
            "{}GET / HTTP/1.1\r\nA: {}\r\n\r\n",
            "\r\n".repeat(500),
            "x".repeat(64_500)
        )
        .into_bytes(),
    );
    all
}

pub(super) fn responses() -> Vec<Vec<u8>> {
    let mut all = owned(RESPONSES);
    for lines in FRAMING {
        for version in ["1.1", "1.0"] {
            let body = "5\r\nhello\r\n0\r\n\r\n";
            all.push(format!("HTTP/{version} 200 OK\r\n{lines}\r\n{body}").into_bytes());
        }
    }
    for body in CHUNKED {
        all.push(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes());
    }
    for line in FIELDS {
        all.push([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", *line, b"\r\n\r\n"].concat());
    }
    for status in [
        "000", "099", "100", "101", "103", "199", "200", "204", "205", "206", "299", "304", "404", "500", "599", "999",
    ] {
        all.push(format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\nhello").into_bytes());
        all.push(
            format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes(),
        );
    }
    all.extend(large("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"));
    all
}

/// Around the limits: number of fields, size of a head, trailers, extensions.
fn large(start: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for count in [99, 100, 101, 200] {
        all.push(format!("{start}{}\r\n", "a: b\r\n".repeat(count - 1)));
    }
    for bytes in [60_000, 65_000, 66_000, 70_000] {
        all.push(format!("{start}A: {}\r\n\r\n", "x".repeat(bytes)));
    }
    let chunked = start.replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let chunked = chunked.replace("Host: a", "Transfer-Encoding: chunked");
    for count in [99, 100, 101] {
        all.push(format!("{chunked}\r\n0\r\n{}\r\n", "a: b\r\n".repeat(count)));
    }
    for bytes in [15_000, 16_300, 17_000, 20_000] {
        all.push(format!("{chunked}\r\n0\r\na: {}\r\n\r\n", "x".repeat(bytes)));
        all.push(format!("{chunked}\r\n1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes)));
        all.push(format!("{chunked}\r\n{}1\r\na\r\n0\r\n\r\n", "0".repeat(bytes)));
        all.push(format!("{chunked}\r\n1{}\r\na\r\n0\r\n\r\n", " ".repeat(bytes)));
    }
    all.into_iter().map(String::into_bytes).collect()
}

const REQUESTS: &[&[u8]] = &[
    b"",
    b"\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\rGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\nGET /never HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /next HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\nGET /never HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: x, cLose ,y\r\n\r\nGET /never HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: closed\r\n\r\nGET /next HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\nGET /next HTTP/1.1\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    b"GET /",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"GET / HTTP/1.2\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET / http/1.1\r\n\r\n",
    b"GET / HTTP/1.1 \r\n\r\n",
    b"GET / HTTP/1.1x\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\n\r\n",
    b" GET / HTTP/1.1\r\n\r\n",
    b"GET /\r\n",
    b"GET /\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n",
    b"G(T / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\r\nGET /next HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"GET /a?b=c&d=%20 HTTP/1.1\r\nHost: user-service.default.svc.cluster.local:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux \
      x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nCookie: a=b; c=d\r\n\
      Cookie: e=f\r\nX-Request-ID: 0f0f\r\nTE: trailers\r\n\r\n",
    b"POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n\
      GET /next HTTP/1.1\r\n\r\n",
];

const TARGETS: &[&str] = &[
    "/",
    "*",
    "/*",
    "//",
    "/a/../b",
    "/%00",
    "/%zz",
    "/?",
    "/??",
    "/a?b#c",
    "/#",
    "#",
    "?",
    "?a",
    "/a;b=c",
    "/{a}",
    "/\"",
    "/?\"",
    "/<a>",
    "/a\\b",
    "/^|",
    "/`",
    "/?`{}|^",
    "/\u{e9}",
    "/?\u{e9}",
    "a",
    "a:1",
    "a:b",
    "a:99999",
    "a/b",
    "a@b:1",
    "[::1]:443",
    "[::1",
    ":80",
    "a:",
    "http://a",
    "http://a/",
    "http://a?b",
    "http://a#b",
    "http://a/b?c#d",
    "HTTP://A/b",
    "https://a:443/",
    "http://a:b/",
    "http://u@a/",
    "http://u:p@a/",
    "http://@/",
    "http:///",
    "http://",
    "http:/a",
    "http:a",
    "ftp://a/b",
    "x-y+z.1://a/",
    "1://a/",
    "://a",
    "http://[::1]:1/a",
    "http://[::1/a",
    "http://a b/",
    "http://a%20b/",
    "http://a\u{e9}/",
    "http://a/\u{e9}",
    "http://*/",
    "ws://a/b",
    "/a://b",
    "x://y?a://b",
];

const FRAMING: &[&str] = &[
    "",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length:10\r\n",
    "Content-Length: 05\r\n",
    "Content-Length:  5 \t\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 05\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 5,5\r\nContent-Length: 5\r\n",
    "Content-Length: 5, 6\r\n",
    "Content-Length: 5,\r\n",
    "Content-Length: ,5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 5.0\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: five\r\n",
    "Content-Length:\r\n",
    "Content-Length: \u{665}\r\n",
    "Content-Length: 9223372036854775807\r\n",
    "Content-Length: 9223372036854775808\r\n",
    "Content-Length: 18446744073709551613\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    "Content-Length\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:CHUNKED\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: chunked;a=b\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunke\r\n",
    "Transfer-Encoding:\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding:\tchunked\t\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
    "Connection: close\r\nTransfer-Encoding: chunked\r\n",
];

const CHUNKED: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "00000000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
    "5;ext\r\nhello\r\n0;ext=1\r\n\r\n",
    "5 ; ext = \"a;b\" \r\nhello\r\n0\r\n\r\n",
    "5;\x00\x7f\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0 \t\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "\t5\r\nhello\r\n0\r\n\r\n",
    "5 5\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhellohello\r\n0\r\n\r\n",
    "5\r\nhell\r\n0\r\n\r\n",
    "5\r\n\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "\r\n",
    ";\r\n\r\n",
    "x\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "5h\r\nhello\r\n0\r\n\r\n",
    "5.0\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello",
    "10000000000000000\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n",
    "5\r\nhello\r\n0",
    "5\r\nhello\r\n0\r\n",
    "5\r\nhello\r\n0\r\n\r",
    "0\r\nX: y\r\n\r\n",
    "0\r\nX: y\r\nx: z\r\nA:b\r\n\r\n",
    "0\r\nX: y\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX: y\r\n z\r\n\r\n",
    "0\r\nX: y\nA: b\r\n\r\n",
    "0\r\nX: y\n\r\n\r\n",
    "0\r\nX: y\n\n",
    "0\r\nX: \0\r\n\r\n",
    "0\r\nX: y\rz\r\n\r\n",
    "0\r\nX\r\n\r\n",
    "0\r\n: y\r\n\r\n",
    "0\r\nX:\r\n\r\n",
    "0\r\nX: \u{e9}\r\n\r\n",
    "0\r\nHost: evil\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "0\r\n\n",
    "0\n\r\n",
];

const FIELDS: &[&[u8]] = &[
    b"A: b",
    b"A:b",
    b"A:",
    b"A: ",
    b"A:\t \tb\t",
    b"A : b",
    b"A\t: b",
    b" A: b",
    b"\tA: b",
    b"A",
    b": b",
    b":",
    b"A: b\r\n c",
    b"A: b\r\n\tc",
    b"A: b\n c",
    b"A: \0",
    b"A: b\0c",
    b"A: \x01",
    b"A: \x1f",
    b"A: \x7f",
    b"A: \x80\xff",
    b"A: \xc3\xa9",
    b"A: b\rc",
    b"A: b\r",
    b"A\0: b",
    b"A\x80: b",
    b"A(: b",
    b"A\": b",
    b"A[: b",
    b"A/: b",
    b"!#$%&'*+-.^_`|~0aZ: b",
    b"A: b: c",
    b"A: \"b",
    b"a: 1\r\nA: 2\r\na: 3",
    b"A: 1\r\nB: 2\r\na: 3",
    b"Host: b",
    b"Host: a b",
    b"Host:",
    b"Expect: 100-continue",
    b"TE: trailers, gzip",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Connection: close",
    b"Connection: \"close\"",
    b"Connection: close;x",
    b"Connection: ,,close",
    b"Connection: \xff, close",
    b"Connection:",
    b"Cookie: a=b; c=d",
    b"Set-Cookie: a=b; Path=/; Expires=Wed, 09 Jun 2027 10:18:14 GMT",
];

const RESPONSES: &[&[u8]] = &[
    b"",
    b"\r\n",
    b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
    b"HTTP/1.1 200 OK\r\n\r\nuntil close",
    b"HTTP/1.0 200 OK\r\n\r\nuntil close",
    b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200  OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 Fine, thanks\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 \xe9t\xe9\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 a\tb\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 a\0b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 a\rb\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 2x0 OK\r\n\r\n",
    b"HTTP/1.1 -20 OK\r\n\r\n",
    b"HTTP/1.1 200OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/0.9 200 OK\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1200 OK\r\n\r\n",
    b"200 OK\r\n\r\n",
    b"hello",
    b"<html>hello</html>",
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes",
    b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: Wed, 09 Jun 2027 10:18:14 GMT\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: a=b\r\n\
      Set-Cookie: c=d\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status\r\n\r\n5\r\nhello\r\n0\r\nGrpc-Status: 0\r\n\r\n",
];
