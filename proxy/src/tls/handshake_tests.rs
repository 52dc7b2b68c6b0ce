//! Tests of handshakes with real endpoints on loopback: who is believed, who is not and why, what is chosen, what is
//! resumed, and what a change of files changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::testing::{Authority, Folder, client, echo, exchange, server};
use super::*;

const NAMES: &[&str] = &[
    "users.example",
    "*.wild.example",
    "127.0.0.1",
    "spiffe://cluster.local/ns/a/sa/b",
];

/// A client that trusts the authority in `ca.pem`.
fn folder(authority: &Authority) -> Folder {
    let folder = Folder::new();
    folder.write("ca.pem", &authority.pem());
    folder
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_for_the_right_name_is_accepted() {
    let authority = Authority::new("ours");
    let folder = folder(&authority);
    let endpoint = echo(server(&authority.good(NAMES), None, &[])).await;
    let store = folder.store();
    let accepted: &[(Option<&str>, &[&str])] = &[
        (None, &[]),
        (Some("a.wild.example"), &[]),
        (Some("127.0.0.1"), &[]),
        (Some("elsewhere.example"), &["users.example"]),
        (
            Some("elsewhere.example"),
            &["other.example", "spiffe://cluster.local/ns/a/sa/b"],
        ),
        (None, &["b.wild.example"]),
        (None, &["*.wild.example"]),
        (None, &["127.0.0.1"]),
        (None, &["USERS.example"]),
    ];
    for (sni, names) in accepted {
        let mut told = folder.told("", "", "ca.pem", "");
        told.sni = sni.map(ToOwned::to_owned);
        told.subject_alt_names = names.iter().map(ToString::to_string).collect();
        let outcome = exchange(&client(&store, &told).0, endpoint.address, Offer::Bytes).await;
        assert_eq!(outcome, Ok(None), "{sni:?} {names:?}");
    }
    let seen = endpoint.names.lock().unwrap().clone();
    assert_eq!(seen[0].as_deref(), Some("users.example"));
    assert_eq!(seen[1].as_deref(), Some("a.wild.example"));
    assert_eq!(seen[2], None, "an address is not asked for by name");
}

#[tokio::test]
async fn an_endpoint_that_is_not_who_it_should_be_is_refused_with_the_reason() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = folder(&authority);
    folder.write("crl.pem", &authority.revoke(&[8]));
    folder.write("other-crl.pem", &other.revoke(&[8]));
    folder.write("old-crl.pem", &authority.revoke_until(&[8], 2021));
    let store = folder.store();
    let told = folder.told("", "", "ca.pem", "");
    let with = |crl: &str, names: &[&str]| {
        let mut told = folder.told("", "", "ca.pem", crl);
        told.subject_alt_names = names.iter().map(ToString::to_string).collect();
        told
    };
    let good = authority.good(NAMES);
    let cases = [
        (
            other.good(NAMES),
            told.clone(),
            "signed by no authority that is trusted",
        ),
        (authority.issue(NAMES, 7, (2021, 1, 1)), told.clone(), "has expired"),
        (
            authority.good(&["another.example"]),
            told.clone(),
            "is for another.example, not for users.example",
        ),
        (
            good.clone(),
            with("", &["spiffe://cluster.local/ns/a/sa/c"]),
            "not for spiffe://cluster.local/ns/a/sa/c",
        ),
        (
            good.clone(),
            with("", &["x.y.wild.example"]),
            "not for x.y.wild.example",
        ),
        (
            authority.issue(NAMES, 8, (2090, 1, 1)),
            with("crl.pem", &[]),
            "was revoked",
        ),
        (
            good.clone(),
            with("other-crl.pem", &[]),
            "no list of revoked certificates",
        ),
        (
            good.clone(),
            with("old-crl.pem", &[]),
            "list of revoked certificates of its authority has expired",
        ),
    ];
    for (issued, told, reason) in cases {
        let endpoint = echo(server(&issued, None, &[])).await;
        let failure = exchange(&client(&store, &told).0, endpoint.address, Offer::Bytes).await;
        assert!(
            failure.clone().is_err_and(|it| it.contains(reason)),
            "{failure:?}: {reason}"
        );
    }
    let endpoint = echo(server(&good, None, &[])).await;
    let fine = exchange(&client(&store, &with("crl.pem", &[])).0, endpoint.address, Offer::Bytes).await;
    assert_eq!(fine, Ok(None), "the list is of others");
}

#[tokio::test]
async fn whoever_skips_verification_accepts_anybody_without_any_files() {
    let folder = Folder::new();
    let mut told = folder.told("", "", "missing.pem", "");
    told.insecure_skip_verify = true;
    let endpoint = echo(server(
        &Authority::new("theirs").issue(&["b"], 1, (2021, 1, 1)),
        None,
        &[],
    ))
    .await;
    let outcome = exchange(&client(&folder.store(), &told).0, endpoint.address, Offer::Bytes).await;
    assert_eq!(outcome, Ok(None));
}

#[tokio::test]
async fn a_certificate_that_was_given_as_trusted_itself_needs_no_authority() {
    let (folder, alone) = (Folder::new(), Authority::new("alone").good(&["users.example"]));
    folder.write("ca.pem", &alone.certificate);
    let told = folder.told("", "", "ca.pem", "");
    let endpoint = echo(server(&alone, None, &[])).await;
    let outcome = exchange(&client(&folder.store(), &told).0, endpoint.address, Offer::Bytes).await;
    assert_eq!(outcome, Ok(None));
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_a_refusal_of_it_says_so() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = folder(&authority);
    for (name, issued) in [("good", authority.good(&["me"])), ("bad", other.good(&["me"]))] {
        folder.write(&format!("{name}.crt"), &issued.certificate);
        folder.write(&format!("{name}.key"), &issued.key);
    }
    let endpoint = echo(server(&authority.good(NAMES), Some(&authority), &[])).await;
    let store = folder.store();
    let outcome = async |certificate, key| {
        let told = folder.told(certificate, key, "ca.pem", "");
        exchange(&client(&store, &told).0, endpoint.address, Offer::Bytes).await
    };
    assert_eq!(outcome("good.crt", "good.key").await, Ok(None));
    let refused = outcome("bad.crt", "bad.key").await.unwrap_err();
    assert!(refused.contains("refused the client certificate"), "{refused}");
    let none = outcome("", "").await.unwrap_err();
    assert!(none.contains("wants a client certificate"), "{none}");
    let mixed = outcome("good.crt", "bad.key").await.unwrap_err();
    assert!(mixed.contains("bad.key: not the key of"), "{mixed}");
}

#[tokio::test]
async fn the_endpoint_chooses_among_what_is_offered() {
    let authority = Authority::new("ours");
    let folder = folder(&authority);
    let (issued, store) = (authority.good(NAMES), folder.store());
    let (client, _generation) = client(&store, &folder.told("", "", "ca.pem", ""));
    let both = echo(server(&issued, None, &["h2", "http/1.1"])).await.address;
    let old = echo(server(&issued, None, &["http/1.1"])).await.address;
    let silent = echo(server(&issued, None, &[])).await.address;
    assert_eq!(exchange(&client, both, Offer::Either).await, Ok(Some(true)));
    assert_eq!(exchange(&client, both, Offer::Http1).await, Ok(Some(false)));
    assert_eq!(exchange(&client, both, Offer::Bytes).await, Ok(None));
    assert_eq!(exchange(&client, old, Offer::Either).await, Ok(Some(false)));
    assert_eq!(exchange(&client, silent, Offer::Either).await, Ok(None));
    let refused = exchange(&client, old, Offer::Http2).await.unwrap_err();
    assert!(refused.contains("ALPN"), "{refused}");
}

#[tokio::test]
async fn sessions_are_resumed_with_either_version_until_files_change() {
    let authority = Authority::new("ours");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let folder = folder(&authority);
        let store = folder.store();
        let (client, generation) = client(&store, &folder.told("", "", "ca.pem", ""));
        let issued = authority.good(NAMES);
        let mut config = server(&issued, None, &[]);
        if version.version == rustls::ProtocolVersion::TLSv1_2 {
            config = testing::only_tls12(&issued);
        }
        let endpoint = echo(config).await;
        for _ in 0..5 {
            assert_eq!(exchange(&client, endpoint.address, Offer::Bytes).await, Ok(None));
        }
        assert_eq!(endpoint.full_handshakes.load(Ordering::SeqCst), 1, "{version:?}");
        folder.write("ca.pem", &(authority.pem() + &Authority::new("new").pem()));
        store.refresh();
        assert_eq!(generation.load(Ordering::SeqCst), 1);
        assert_eq!(exchange(&client, endpoint.address, Offer::Bytes).await, Ok(None));
        assert_eq!(endpoint.full_handshakes.load(Ordering::SeqCst), 2, "{version:?}");
    }
}

#[tokio::test]
async fn who_names_no_authorities_is_told_that_those_of_the_system_count() {
    let (known, other) = (Authority::new("known"), Authority::new("theirs"));
    let endpoint = echo(server(&other.good(NAMES), None, &[])).await;
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(known.pem().as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let trust = material::Trust {
        roots,
        given: Vec::new(),
        revoked: revoked::Revoked::default(),
    };
    let material = material::Material {
        identity: None,
        trust: Some(Arc::new(trust)),
        expires: None,
    };
    let told = Folder::new().told("", "", "", "");
    let compiled = Compiled::new(&told, "users.example", &Ok(Arc::new(material))).unwrap();
    let socket = tokio::net::TcpStream::connect(endpoint.address).await.unwrap();
    let time = testing::LIMIT;
    let unknown = compiled
        .connect(socket, Offer::Bytes, None, time, time)
        .await
        .unwrap_err();
    assert!(
        unknown.reason.contains("names none, so the system's count"),
        "{unknown}"
    );
}

#[tokio::test]
async fn what_speaks_no_tls_or_nothing_is_told_apart() {
    use tokio::io::AsyncWriteExt;
    let folder = folder(&Authority::new("ours"));
    let (client, _generation) = client(&folder.store(), &folder.told("", "", "ca.pem", ""));
    let compiled = client.current().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let mut plain = listener.accept().await.unwrap().0;
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(listener.accept().await.unwrap());
        (plain, listener.accept().await.unwrap())
    });
    let connect = async |time| {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        compiled
            .connect(socket, Offer::Http1, None, time, time)
            .await
            .unwrap_err()
    };
    use crate::telemetry::TlsFailure;
    let not_tls = connect(testing::LIMIT).await;
    assert_eq!(not_tls.cause, TlsFailure::NotTls, "{not_tls}");
    let closed = connect(testing::LIMIT).await;
    assert_eq!(closed.cause, TlsFailure::Closed, "{closed}");
    let late = connect(std::time::Duration::from_millis(20)).await;
    assert_eq!(late.cause, TlsFailure::Timeout, "{late}");
    assert!(late.reason.ends_with("within 20ms (connectTimeout)"), "{late}");
    drop(served.await.unwrap());
}

#[tokio::test]
async fn files_that_are_missing_are_waited_for_and_broken_ones_leave_the_old_in_force() {
    let authority = Authority::new("ours");
    let folder = Folder::new();
    let store = folder.store();
    let mut told = folder.told("", "", "", "");
    told.mutual = true;
    told.files = tsunagi_proto::model::TlsFiles::Credential("shop".into());
    let (client, generation) = client(&store, &told);
    let endpoint = echo(server(&authority.good(NAMES), Some(&authority), &[])).await;
    let outcome = async || exchange(&client, endpoint.address, Offer::Bytes).await;
    let missing = outcome().await.unwrap_err();
    assert!(missing.contains("client certificate is not there"), "{missing}");
    assert!(missing.contains("shop/tls.crt or "), "{missing}");

    // As Kubernetes mounts a Secret.
    let version = |number: u32, issued: &testing::Issued| {
        for (name, text) in [
            ("tls.crt", &issued.certificate),
            ("tls.key", &issued.key),
            ("ca.crt", &authority.pem()),
        ] {
            folder.write(&format!("shop/..{number}/{name}"), text);
        }
        let (swapped, link) = (folder.path().join("shop/..new"), folder.path().join("shop/..data"));
        std::os::unix::fs::symlink(format!("..{number}"), &swapped).unwrap();
        std::fs::rename(swapped, link).unwrap();
    };
    version(1, &authority.good(&["me"]));
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let link = folder.path().join("shop").join(name);
        std::os::unix::fs::symlink(format!("..data/{name}"), link).unwrap();
    }
    store.refresh();
    assert_eq!((outcome().await, generation.load(Ordering::SeqCst)), (Ok(None), 1));
    store.refresh();
    assert_eq!(generation.load(Ordering::SeqCst), 1, "nothing has changed");

    version(
        2,
        &testing::Issued {
            certificate: "nonsense".into(),
            ..authority.good(&["me"])
        },
    );
    store.refresh();
    assert_eq!(
        (outcome().await, generation.load(Ordering::SeqCst)),
        (Ok(None), 1),
        "the old is in force"
    );
    let [state] = &store.states()[..] else {
        unreachable!("one set of files")
    };
    assert!(
        state.in_force && state.refused.as_ref().is_some_and(|it| it.contains("tls.crt")),
        "{state:?}"
    );
    assert!(state.expires.is_some());

    version(3, &authority.good(&["me"]));
    store.refresh();
    assert_eq!((outcome().await, generation.load(Ordering::SeqCst)), (Ok(None), 2));
    assert_eq!(store.states()[0].refused, None);
    drop(client);
    store.refresh();
    assert_eq!(store.states(), []);
}

#[tokio::test]
async fn the_files_that_are_shown_are_those_that_were_found() {
    let authority = Authority::new("ours");
    let folder = Folder::new();
    let store = folder.store();
    let mut told = folder.told("", "", "", "");
    told.mutual = true;
    told.files = tsunagi_proto::model::TlsFiles::Credential("shop".into());
    let (_client, _) = client(&store, &told);
    let shown = || {
        let files = store.states().remove(0).files;
        files.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(shown(), "shop/tls.crt, shop/ca.crt", "what is waited for");
    let issued = authority.good(&["me"]);
    folder.write("shop/cert", &issued.certificate);
    folder.write("shop/key", &issued.key);
    folder.write("shop-cacert/ca.crt", &authority.pem());
    store.refresh();
    assert_eq!(shown(), "shop/cert, shop-cacert/ca.crt");
    folder.write("shop/ca.crl", &authority.revoke(&[]));
    store.refresh();
    assert_eq!(shown(), "shop/cert, shop-cacert/ca.crt, shop/ca.crl");
}
