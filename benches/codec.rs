//! The HTTP/1 codec, in nanoseconds and allocations: what each message costs before anything is decided about it. In the
//! steady state nothing is allocated.

use divan::{AllocProfiler, Bencher, black_box};
use http::{HeaderName, HeaderValue, Method, Version, header};
use tsunagi_proxy::codec::{
    BodyLength, Decoded, Decoder, Encoder, RequestHead, ResponseHead, parse_request, parse_response,
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:18080\r\n\r\n";

const BROWSER: &[u8] = b"GET /api/v1/users/1234/orders?page=2&size=50 HTTP/1.1\r\n\
    Host: user-service.default.svc.cluster.local:8080\r\n\
    Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n\
    Cache-Control: max-age=0\r\n\
    Cookie: session=7c9e6679f7425640de944be07fc1f90ae7; theme=dark\r\n\
    Referer: http://user-service.default.svc.cluster.local:8080/api/v1/users\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    X-Request-Id: 0f8fad5b-d9cb-469f-a165-70867728950e\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.27.3\r\n\
    Date: Sun, 22 Nov 2026 18:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\r\n";

/// wrk's request, or a browser's.
fn sent_by(client: &str) -> &'static [u8] {
    if client == "small" { SMALL } else { BROWSER }
}

fn request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    let read = parse_request(bytes, &mut head);
    assert_eq!(read, Ok(Some(bytes.len())));
    head
}

fn response(bytes: &[u8]) -> ResponseHead {
    let mut head = ResponseHead::default();
    let read = parse_response(bytes, &mut head);
    assert_eq!(read, Ok(Some(bytes.len())));
    head
}

#[divan::bench(args = ["small", "browser"], sample_size = 1000)]
fn parse_a_request(bencher: Bencher<'_, '_>, client: &str) {
    let bytes = sent_by(client);
    let mut head = request(bytes);
    bencher.bench_local(|| parse_request(black_box(bytes), &mut head));
}

#[divan::bench]
fn parse_a_response(bencher: Bencher<'_, '_>) {
    let mut head = response(RESPONSE);
    bencher.bench_local(|| parse_response(black_box(RESPONSE), &mut head));
}

#[divan::bench(args = ["small", "browser"], sample_size = 1000)]
fn ask_what_every_request_is_asked(bencher: Bencher<'_, '_>, client: &str) {
    let bytes = sent_by(client);
    let head = request(bytes);
    bencher.bench_local(|| {
        let head = black_box(&head);
        let body = (head.body_length(), head.keeps_alive(), head.expects_continue());
        let grpc = head.headers.get(&header::CONTENT_TYPE).is_some();
        (body, grpc, head.headers.get(&header::HOST).is_some(), head.path())
    });
}

#[divan::bench(args = ["small", "browser"])]
fn look_up_a_field_that_rules_name(bencher: Bencher<'_, '_>, client: &str) {
    let bytes = sent_by(client);
    let head = request(bytes);
    let name = HeaderName::from_static("x-version");
    bencher.bench_local(|| black_box(&head).headers.get(black_box(&name)).is_some());
}

#[divan::bench(args = ["small", "browser"])]
fn parse_then_remove_what_ends_at_a_hop(bencher: Bencher<'_, '_>, client: &str) {
    let bytes = sent_by(client);
    let mut head = request(bytes);
    bencher.bench_local(|| {
        let read = parse_request(black_box(bytes), &mut head);
        head.headers.remove_hop_by_hop();
        read
    });
}

#[divan::bench(args = ["small", "browser"])]
fn write_a_request(bencher: Bencher<'_, '_>, client: &str) {
    let bytes = sent_by(client);
    let mut head = request(bytes);
    head.headers.remove_hop_by_hop();
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        black_box(&head).write_http1(&mut out, BodyLength::None);
        out.len()
    });
}

#[divan::bench]
fn write_a_response(bencher: Bencher<'_, '_>) {
    let mut head = response(RESPONSE);
    head.headers.remove_hop_by_hop();
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        black_box(&head).write_http1(&mut out, Version::HTTP_11, BodyLength::Exact(1024), false);
        out.len()
    });
}

/// Two fields changed by rules, on the way.
#[divan::bench(sample_size = 1000)]
fn edit_a_request(bencher: Bencher<'_, '_>) {
    let mut head = request(BROWSER);
    let (set, add) = (
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("x-added"),
    );
    let value = HeaderValue::from_static("value");
    let mut edit = || {
        let read = parse_request(black_box(BROWSER), &mut head);
        head.headers.set(&set, &value);
        head.headers.append(&add, &value);
        read
    };
    // The first makes the buffer of what is added.
    assert_eq!(edit(), Ok(Some(BROWSER.len())));
    bencher.bench_local(edit);
}

/// A whole exchange's heads: request in and out, response in and out.
#[divan::bench(args = ["small", "browser"], sample_size = 1000)]
fn forward_both_heads(bencher: Bencher<'_, '_>, client: &str) {
    let bytes = sent_by(client);
    let (mut request, mut response) = (request(bytes), response(RESPONSE));
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        let read = parse_request(black_box(bytes), &mut request);
        let kept = (request.body_length(), request.keeps_alive(), request.expects_continue());
        request.headers.remove_hop_by_hop();
        request.write_http1(&mut out, BodyLength::None);
        let answered = parse_response(black_box(RESPONSE), &mut response);
        let follows = (response.body_length(&Method::GET), response.keeps_alive());
        response.headers.remove_hop_by_hop();
        response.write_http1(&mut out, Version::HTTP_11, BodyLength::Exact(1024), false);
        (read, kept, answered, follows, out.len())
    });
}

#[divan::bench]
fn decode_a_kib_in_one_chunk(bencher: Bencher<'_, '_>) {
    let mut bytes = b"400\r\n".to_vec();
    bytes.extend_from_slice(&[b'x'; 1024]);
    bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    bencher.bench_local(|| {
        let mut decoder = Decoder::new(BodyLength::Chunked);
        let mut input = black_box(&bytes[..]);
        let mut total = 0;
        while let Ok(Decoded::Data { skip, data }) = decoder.decode(input) {
            decoder.consume(data);
            total += data;
            input = &input[skip + data..];
        }
        (total, decoder.is_over())
    });
}

#[divan::bench]
fn encode_a_kib_in_one_chunk(bencher: Bencher<'_, '_>) {
    let body = [b'x'; 1024];
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        let mut encoder = Encoder::new(BodyLength::Chunked);
        let begun = encoder.before(black_box(&body).len(), &mut out);
        out.extend_from_slice(&body);
        encoder.after(&mut out);
        (begun, encoder.finish(None, &mut out), out.len())
    });
}
