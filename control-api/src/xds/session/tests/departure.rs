//! A proxy that leaves: when it is told, and what of its workload is looked at again.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::snapshot::departure;

const NAME: &str = "departure/default/pod-1";

#[test]
fn a_departure_is_answered_when_it_is_there_and_not_before() {
    let mut session = start(Fake::first(), &["host/c"]);
    assert_eq!(acknowledged(&mut session), ["endpoints/c=ec1", "host/c=c1"]);
    assert!(!session.is_leaving() && !session.take_departure());
    session.request(&request(&[NAME], &[])).unwrap();
    assert!(session.is_leaving() && session.news().is_some_and(|progress| progress.leaving));
    assert!(session.take_departure() && !session.take_departure());
    assert_eq!(session.response(), None);
    // Asked again meanwhile, it is under way already.
    session.request(&request(&[NAME], &[])).unwrap();
    assert!(!session.take_departure());
    assert_eq!(session.response(), None);

    session.depart(departure(
        "default",
        "pod-1",
        vec!["default/b".into(), "default/a".into()],
    ));
    let response = session.response().unwrap();
    assert_eq!((response.resources.len(), response.removed_resources.len()), (1, 0));
    let any = response.resources[0].resource.as_ref().unwrap();
    let resource = mesh::Resource::decode(any.value.as_slice()).unwrap();
    let Some(mesh::resource::Kind::Departure(told)) = resource.kind else {
        panic!("{resource:?}")
    };
    assert_eq!(
        (told.node_id.as_str(), told.unanswered),
        ("pod-1", vec!["default/a".to_owned(), "default/b".into()])
    );
    session.request(&ack(&response)).unwrap();
    assert_eq!(session.response(), None);
    // And once more for one that asks once more.
    session.request(&request(&[NAME], &[])).unwrap();
    assert_eq!(session.response().unwrap().resources.len(), 1);
}

#[test]
fn a_proxy_that_comes_back_asking_leaves_still_and_nobody_leaves_for_another() {
    let mut session = start(
        Fake::first(),
        &[NAME, "departure/default/other", "departure/shop/pod-1"],
    );
    assert!(session.is_leaving() && session.take_departure());
    assert_eq!(
        acknowledged(&mut session),
        ["-departure/default/other", "-departure/shop/pod-1"]
    );
    // What it held of an earlier stream does not answer it.
    let first = first_request(&[NAME], &[(NAME, "d1")]);
    let mut session = Session::new(Arc::new(Fake::first()), &first).unwrap();
    assert!(session.take_departure());
    assert_eq!(session.response(), None);
    session.depart(departure("default", "pod-1", Vec::new()));
    assert_eq!(session.response().unwrap().resources[0].name, NAME);
}

/// Counts how often it is asked for a workload, which is new in every revision that is given as the last change.
struct Counting {
    revision: u64,
    changed: u64,
    asked: AtomicUsize,
}

impl Resources for Counting {
    fn revision(&self) -> u64 {
        self.revision
    }
    fn host(&self, _: &str, _: &str) -> Option<Arc<Encoded>> {
        None
    }
    fn endpoints(&self, _: &str) -> Option<Arc<Encoded>> {
        None
    }
    fn reaches(&self, _: &str, _: &str) -> Arc<[String]> {
        Arc::new([])
    }
    fn workload(&self, _: &crate::snapshot::Node) -> Arc<Encoded> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        encoded("workload/default/pod-1".into(), &format!("w{}", self.changed), None)
    }
    fn workload_revision(&self, _: &str) -> u64 {
        self.changed
    }
}

#[test]
fn a_workload_is_pushed_when_it_changes_and_not_even_made_when_nothing_could_have_changed_it() {
    let world = |revision: u64, changed: u64| {
        Arc::new(Counting {
            revision,
            changed,
            asked: AtomicUsize::new(0),
        })
    };
    let first = world(1, 1);
    let subscribed = first_request(&["workload/default/pod-1"], &[]);
    let mut session = Session::new(Arc::clone(&first), &subscribed).unwrap();
    let response = session.response().unwrap();
    session.request(&ack(&response)).unwrap();
    assert_eq!(
        (shown(&response), first.asked.load(Ordering::Relaxed)),
        (vec!["workload/default/pod-1=w1".to_owned()], 1)
    );
    let same = world(2, 1);
    assert_eq!(session.world(Arc::clone(&same)), None);
    assert_eq!((session.response(), same.asked.load(Ordering::Relaxed)), (None, 0));
    let other = world(3, 3);
    assert_eq!(session.world(Arc::clone(&other)), Some(Span { after: 2, upto: 3 }));
    let response = session.response().unwrap();
    assert_eq!(
        (shown(&response), other.asked.load(Ordering::Relaxed)),
        (vec!["workload/default/pod-1=w3".to_owned()], 1)
    );
}
