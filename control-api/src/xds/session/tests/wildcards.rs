//! Names that only a wildcard covers, and addresses that only a range is around: what they are changes with it, though
//! nothing names them.

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

#[test]
fn a_range_that_changes_is_looked_up_for_every_address_in_it() {
    let subscribed = ["host/10.1.2.3", "host/11.0.0.1", "host/a", "host/fd00::1"];
    let mut session = start(Fake::first(), &subscribed);
    acknowledged(&mut session);
    let covering = Fake::first()
        .next()
        .host("10.1.2.3", "alias", &[])
        .host("11.0.0.1", "alias", &[])
        .knowing(&["host/10.0.0.0/8".to_owned()]);
    session.world(Arc::new(covering.clone()));
    assert_eq!(acknowledged(&mut session), ["host/10.1.2.3=alias"]);
    let gone = covering
        .without("10.1.2.3")
        .next()
        .knowing(&["host/10.0.0.0/8".to_owned()]);
    session.world(Arc::new(gone));
    assert_eq!(acknowledged(&mut session), ["-host/10.1.2.3"]);
}
