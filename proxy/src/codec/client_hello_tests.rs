//! Tests of reading a client's hello: in pieces, over several records, and out of bytes that mean harm.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;

fn vector16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn name_extension(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &vector16(&[&[HOST_NAME][..], &vector16(name)].concat()))
}

/// The handshake message with these extensions; `None`: without any.
fn hello_message(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(extensions.map(vector16).unwrap_or_default());
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO][..], &length[1..], &body].concat()
}

/// In records of at most so many bytes.
fn records(message: &[u8], longest: usize) -> Vec<u8> {
    message
        .chunks(longest)
        .flat_map(|fragment| [&[HANDSHAKE, 3, 1][..], &vector16(fragment)].concat())
        .collect()
}

/// What a client sends that asks for the name.
pub fn client_hello(name: &str) -> Vec<u8> {
    let extensions = [
        extension(10, &[0; 6]),
        name_extension(name.as_bytes()),
        extension(16, &[0; 40]),
    ];
    records(&hello_message(Some(&extensions.concat())), LONGEST_RECORD_BYTES)
}

fn whole(name: Option<&str>) -> MaybeHello {
    MaybeHello::Whole(ClientHello {
        server_name: name.map(Box::from),
    })
}

#[test]
fn the_name_is_found_and_is_in_lower_case_without_a_last_dot() {
    for (sent, found) in [
        ("users.example.com", Some("users.example.com")),
        ("Users.Example.COM.", Some("users.example.com")),
        ("10.0.0.1", Some("10.0.0.1")),
        ("fd00::1", None),
        ("a..b", None),
        ("..", None),
        ("a b", None),
        ("*.example.com", None),
    ] {
        assert_eq!(parse_client_hello(&client_hello(sent)), whole(found), "{sent}");
    }
}

#[test]
fn a_client_that_asks_for_no_name_is_still_one() {
    for extensions in [None, Some(&[][..]), Some(&extension(16, b"x"))] {
        assert_eq!(
            parse_client_hello(&records(&hello_message(extensions), 100)),
            whole(None)
        );
    }
}

#[test]
fn what_follows_the_hello_does_not_matter() {
    let sent = [client_hello("a"), b"early data".to_vec()].concat();
    assert_eq!(parse_client_hello(&sent), whole(Some("a")));
}

#[test]
fn a_hello_in_pieces_is_partial_until_its_last_byte_whatever_its_records() {
    let message = hello_message(Some(&name_extension(b"users.example.com")));
    for longest in [1, 2, 3, 5, 40, LONGEST_RECORD_BYTES] {
        let sent = records(&message, longest);
        for length in 0..sent.len() {
            assert_eq!(
                parse_client_hello(&sent[..length]),
                MaybeHello::Partial,
                "{longest}: {length}"
            );
        }
        assert_eq!(parse_client_hello(&sent), whole(Some("users.example.com")), "{longest}");
    }
}

#[test]
fn what_is_no_hello_is_not_taken_for_one() {
    let twice = [name_extension(b"a"), name_extension(b"b")].concat();
    let two_names = extension(SERVER_NAME, &vector16(&[0, 0, 1, b'a', 0, 0, 1, b'b']));
    let no_names = extension(SERVER_NAME, &[0, 0]);
    let mut other_message = hello_message(None);
    other_message[0] = 2;
    let mut too_long = hello_message(None);
    too_long[1] = 1;
    for sent in [
        records(&hello_message(Some(&twice)), 1000),
        records(&hello_message(Some(&two_names)), 1000),
        records(&hello_message(Some(&no_names)), 1000),
        records(&other_message, 1000),
        records(&too_long, 1000),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![HANDSHAKE, 2, 0, 0, 5],
        vec![HANDSHAKE, 3, 1, 0, 0],
        vec![HANDSHAKE, 3, 1, 0xff, 0xff],
        vec![23, 3, 3, 0, 5],
    ] {
        assert_eq!(parse_client_hello(&sent), MaybeHello::Not, "{sent:?}");
    }
}

#[test]
fn a_hello_without_an_end_is_given_up() {
    // One that says it is as long as it may be, in the smallest records.
    let message = [&[CLIENT_HELLO, 0, 0x50, 0][..], &[0; 0x5000]].concat();
    let sent = records(&message, 1);
    assert_eq!(
        parse_client_hello(&sent[..LONGEST_HELLO_BYTES - 1]),
        MaybeHello::Partial
    );
    assert_eq!(parse_client_hello(&sent[..LONGEST_HELLO_BYTES]), MaybeHello::Not);
}

#[test]
fn no_bytes_break_it() {
    let mut random = StdRng::seed_from_u64(5);
    let whole = client_hello("users.example.com");
    for _ in 0..50_000 {
        let mut sent = whole.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..sent.len());
            sent[at] = random.next_u32() as u8;
        }
        sent.truncate(random.random_range(0..=whole.len()));
        if let MaybeHello::Whole(ClientHello {
            server_name: Some(name),
        }) = parse_client_hello(&sent)
        {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
        }
    }
}
