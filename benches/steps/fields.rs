//! Header operations of a rule on the fields of a message: HTTP/1's bytes and HTTP/2's map. A message that is edited has to
//! be made first, so its making is measured beside.

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue};
use tsunagi_proto::model::{HeaderOperations, HeaderText};
use tsunagi_proxy::codec::{Headers, RequestHead, parse_request};

const REQUEST: &[u8] = b"GET /api/v1/users/1234/orders?page=2 HTTP/1.1\r\n\
    Host: user-service.default.svc.cluster.local:8080\r\n\
    User-Agent: curl/8.14.1\r\n\
    Accept: */*\r\n\
    X-Request-Id: 0f8fad5b-d9cb-469f-a165-70867728950e\r\n\
    X-Debug: 1\r\n\r\n";

#[derive(Clone, Copy, Debug)]
enum Operation {
    Nothing,
    Set,
    Add,
    Remove,
    RemoveAbsent,
}

const OPERATIONS: [Operation; 5] = [
    Operation::Nothing,
    Operation::Set,
    Operation::Add,
    Operation::Remove,
    Operation::RemoveAbsent,
];

fn operations(operation: Operation) -> HeaderOperations {
    let pair = |name| {
        (
            HeaderName::from_static(name),
            HeaderText::from(HeaderValue::from_static("bench")),
        )
    };
    let mut operations = HeaderOperations::default();
    match operation {
        Operation::Nothing => {}
        Operation::Set => operations.set.push(pair("x-request-id")),
        Operation::Add => operations.add.push(pair("x-added")),
        Operation::Remove => operations.remove.push(pair("x-debug").0),
        Operation::RemoveAbsent => operations.remove.push(pair("x-absent").0),
    }
    operations
}

/// Parsed, then edited.
#[divan::bench(args = OPERATIONS, sample_size = 1000)]
fn of_an_http1_request(bencher: Bencher<'_, '_>, operation: Operation) {
    let operations = operations(operation);
    let mut head = RequestHead::default();
    let mut edit = || {
        let read = parse_request(black_box(REQUEST), &mut head);
        operations.apply(&mut head.headers, |_, _, _| {});
        read
    };
    // The first makes the buffers that are kept.
    assert_eq!(edit(), Ok(Some(REQUEST.len())));
    bencher.bench_local(edit);
}

/// On a map that is there.
#[divan::bench(args = OPERATIONS, sample_size = 1000)]
fn of_an_http2_request(bencher: Bencher<'_, '_>, operation: Operation) {
    let operations = operations(operation);
    let mut head = RequestHead::default();
    parse_request(REQUEST, &mut head).expect("a request");
    let map: HeaderMap = head.headers.to_map();
    bencher
        .with_inputs(|| Headers::Map(map.clone()))
        .bench_local_refs(|headers| operations.apply(headers, |_, _, _| {}));
}
