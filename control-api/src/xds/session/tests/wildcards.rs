//! Names that only a wildcard covers: what they are changes with the wildcard, though nothing names them.

use super::*;

#[test]
fn a_wildcard_that_changes_is_looked_up_for_every_name_that_it_may_cover() {
    let subscribed = [
        "host/a",
        "host/c",
        "host/x.example.com",
        "host/y.example.org",
        "host/example.com",
    ];
    let mut session = start(Fake::first(), &subscribed);
    acknowledged(&mut session);
    // What the session is not told of it must not look at: the other two would be there now, too.
    let covering = Fake::first()
        .next()
        .host("x.example.com", "alias", &[])
        .host("y.example.org", "alias", &[])
        .host("example.com", "alias", &[])
        .knowing(&["host/*.example.com".to_owned()]);
    let span = session.world(Arc::new(covering.clone()));
    assert_eq!(span, Some(Span { after: 1, upto: 2 }));
    assert_eq!(acknowledged(&mut session), ["host/x.example.com=alias"]);

    let gone = covering
        .without("x.example.com")
        .next()
        .knowing(&["host/*.example.com".to_owned()]);
    session.world(Arc::new(gone));
    assert_eq!(acknowledged(&mut session), ["-host/x.example.com"]);
}
