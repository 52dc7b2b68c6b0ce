//! Tests of asking: the forms of a name, and what is made of several answers.

use super::*;

fn search() -> Vec<Name> {
    ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        .map(|domain| Name::from_str(domain).unwrap())
        .into()
}

fn shown(name: &str, ndots: usize) -> Vec<String> {
    forms(name, ndots, &search()).iter().map(Name::to_string).collect()
}

#[test]
fn a_name_is_tried_with_the_search_list_as_ndots_says() {
    let with_list = [
        "users.shop.svc.cluster.local.",
        "users.svc.cluster.local.",
        "users.cluster.local.",
    ];
    assert_eq!(shown("users", 5), [&with_list[..], &["users."]].concat());
    assert_eq!(shown("users", 0), [&["users."], &with_list[..]].concat());
    assert_eq!(shown("a.example.com", 5).last().unwrap(), "a.example.com.");
    assert_eq!(shown("a.example.com", 2)[0], "a.example.com.");
    assert_eq!(shown("a.example.com.", 5), ["a.example.com."], "it is complete");
    assert_eq!(shown("a..b", 5), [] as [&str; 0]);
}

#[test]
fn addresses_are_asked_for_in_the_families_that_the_machine_has() {
    let own = |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    assert_eq!(families(&own(&["10.0.0.1"])), [RecordType::A]);
    assert_eq!(families(&own(&[])), [RecordType::A]);
    assert_eq!(families(&own(&["10.0.0.1", "::1"])), [RecordType::A]);
    assert_eq!(
        families(&own(&["10.0.0.1", "fd00::1"])),
        [RecordType::A, RecordType::AAAA]
    );
    assert_eq!(families(&own(&["fd00::1"])), [RecordType::AAAA]);
}

#[test]
fn a_family_that_failed_leaves_the_other_and_that_there_is_no_address_must_be_certain() {
    let minute = Duration::from_secs(60);
    let addresses = |last: u8, ttl| Found::Addresses(vec![IpAddr::from([10, 0, 0, last])], ttl);
    let absent = || Found::Absent(None, "none".to_owned());
    let failed = || Found::Failed("no answer".to_owned());
    let one = [10, 0, 0, 1].into();
    for (found, expected) in [
        (
            vec![addresses(1, minute), addresses(2, minute / 2)],
            Outcome::Addresses {
                addresses: vec![one, [10, 0, 0, 2].into()],
                ttl: minute / 2,
            },
        ),
        (
            vec![failed(), addresses(1, minute)],
            Outcome::Addresses {
                addresses: vec![one],
                ttl: minute,
            },
        ),
        (vec![absent(), failed()], Outcome::Failed("no answer".to_owned())),
        (
            vec![absent(), absent()],
            Outcome::Absent {
                ttl: None,
                reason: "none".to_owned(),
            },
        ),
    ] {
        assert_eq!(together(found.into_iter()), expected);
    }
}
