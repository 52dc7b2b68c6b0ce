//! What a connection costs while it is open.

use super::*;

/// Of a future, by the function that makes it.
fn bytes_of<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_connection_that_is_passed_on_costs_little_memory_besides_its_sockets() {
    let task = bytes_of(|a: &'static Arc<Proxy>, b, c, d, e| serve(a, b, c, d, e));
    let detected = bytes_of(|a: Redirected<'static>, b, c, d, e| async move {
        a.detected(b, c, d, e).await;
    });
    assert!(
        task < 2688 && detected < 2688,
        "{task} bytes, and {detected} where the protocol is detected"
    );
}
