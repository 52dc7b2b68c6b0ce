//! Making, keeping, sharing and renewing, on a clock of the tests' own.

use std::{
    convert::Infallible,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::material::{AUTHORITY_LIFE, CERTIFICATE_LIFE, next};
use super::*;

fn names() -> Vec<String> {
    vec!["tsunagi.tsunagi-system.svc".to_owned(), "127.0.0.1".to_owned()]
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn made() -> Material {
    next(None, &names(), start()).expect("made").expect("there was none")
}

#[test]
fn a_certificate_is_good_for_two_thirds_of_its_life_and_then_renewed_by_the_same_authority() {
    let first = made();
    let (before, after) = (CERTIFICATE_LIFE / 100 * 65, CERTIFICATE_LIFE / 100 * 67);
    assert_eq!(next(Some(&first), &names(), start() + before).expect("judged"), None);
    let renewed = next(Some(&first), &names(), start() + after)
        .expect("made")
        .expect("due");
    assert_ne!(renewed.certificate, first.certificate);
    assert_eq!(
        (&renewed.authorities, &renewed.authority_key),
        (&first.authorities, &first.authority_key)
    );
    assert_eq!(
        next(Some(&renewed), &names(), start() + after + before).expect("judged"),
        None
    );
}

#[test]
fn a_new_authority_stands_beside_the_old_one_until_that_is_over() {
    let first = made();
    let late = start() + AUTHORITY_LIFE / 100 * 67;
    let second = next(Some(&first), &names(), late).expect("made").expect("due");
    assert_eq!(second.authorities.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(second.authorities.ends_with(&first.authorities) && second.authorities != first.authorities);
    let third = next(Some(&second), &names(), late + AUTHORITY_LIFE / 100 * 67)
        .expect("made")
        .expect("due");
    assert_eq!(
        third.authorities.matches("BEGIN CERTIFICATE").count(),
        2,
        "the first one is over"
    );
}

#[test]
fn what_does_not_belong_together_is_made_anew() {
    let (one, other) = (made(), made());
    let good = |material: &Material| next(Some(material), &names(), start()).expect("judged").is_none();
    assert!(good(&one));
    for broken in [
        Material {
            key: other.key.clone(),
            ..one.clone()
        },
        Material {
            authority_key: other.authority_key.clone(),
            ..one.clone()
        },
        Material {
            authorities: other.authorities.clone(),
            ..one.clone()
        },
        Material {
            certificate: "rubbish".to_owned(),
            ..one.clone()
        },
        Material {
            certificate: other.certificate.clone(),
            key: other.key.clone(),
            ..one.clone()
        },
    ] {
        assert!(!good(&broken));
        let mended = next(Some(&broken), &names(), start()).expect("made").expect("due");
        assert!(good(&mended));
    }
    let renamed = next(Some(&one), &["other.svc".to_owned()], start()).expect("made");
    assert!(renamed.is_some_and(|renamed| renamed.authorities == one.authorities));
    assert!(
        next(Some(&one), &names(), start() - Duration::from_secs(7200))
            .expect("made")
            .is_some(),
        "not valid yet"
    );
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?}", made());
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[tokio::test]
async fn a_folder_keeps_it_for_this_user_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = Place::Folder(folder.path().join("webhook"));
    let first = settle(&place, &names(), start()).await.expect("made");
    assert_eq!(settle(&place, &names(), start()).await.expect("kept"), first);
    for name in ["ca.key", "ca.crt", "tls.key", "tls.crt"] {
        let mode = std::fs::metadata(folder.path().join("webhook").join(name))
            .expect("written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mode = std::fs::metadata(folder.path().join("webhook"))
        .expect("made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    std::fs::remove_file(folder.path().join("webhook/tls.key")).expect("removed");
    assert_ne!(settle(&place, &names(), start()).await.expect("made anew"), first);
}

/// One Secret, as the API server keeps it: a version that is not the newest is a conflict.
#[derive(Default)]
struct Kept {
    version: u64,
    secret: Option<Value>,
    writes: usize,
}

fn cluster(kept: &Arc<Mutex<Kept>>) -> Client {
    let kept = Arc::clone(kept);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let kept = Arc::clone(&kept);
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.expect("a body").to_bytes();
            // Everybody reads before anybody writes.
            tokio::task::yield_now().await;
            let (status, object) = answer(&mut kept.lock().expect("no panic"), &head.method, &bytes);
            let answer = http::Response::builder().status(status);
            Ok::<_, Infallible>(
                answer
                    .body(Body::from(object.to_string().into_bytes()))
                    .expect("an answer"),
            )
        }
    });
    Client::new(service, "tsunagi-system")
}

fn answer(kept: &mut Kept, method: &http::Method, body: &[u8]) -> (u16, Value) {
    let failure = |code: u16| {
        let reason = if code == 409 { "Conflict" } else { "NotFound" };
        (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code}),
        )
    };
    if method == http::Method::GET {
        return kept.secret.clone().map_or(failure(404), |secret| (200, secret));
    }
    let mut secret: Value = serde_json::from_slice(body).expect("a Secret");
    let seen = secret["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let is_current = match &kept.secret {
        Some(held) => method == http::Method::PUT && held["metadata"]["resourceVersion"].as_str() == seen.as_deref(),
        None => method == http::Method::POST,
    };
    if !is_current {
        return failure(409);
    }
    kept.version += 1;
    kept.writes += 1;
    secret["metadata"]["resourceVersion"] = kept.version.to_string().into();
    kept.secret = Some(secret.clone());
    (200, secret)
}

#[tokio::test]
async fn replicas_that_start_together_agree_on_one_certificate_and_renew_it_once() {
    let kept = Arc::<Mutex<Kept>>::default();
    let places: Vec<Place> = (0..3)
        .map(|_| Place::secret(cluster(&kept), "tsunagi-webhook"))
        .collect();
    let names = names();
    let all = async |now: SystemTime| {
        let (a, b, c) = tokio::join!(
            settle(&places[0], &names, now),
            settle(&places[1], &names, now),
            settle(&places[2], &names, now)
        );
        [a.expect("settled"), b.expect("settled"), c.expect("settled")]
    };
    let first = all(start()).await;
    assert!(first.iter().all(|material| *material == first[0]));
    assert_eq!(kept.lock().expect("no panic").writes, 1);
    let renewed = all(start() + CERTIFICATE_LIFE / 10 * 7).await;
    assert!(
        renewed
            .iter()
            .all(|material| *material == renewed[0] && material.authorities == first[0].authorities)
    );
    assert_ne!(renewed[0], first[0]);
    assert_eq!(kept.lock().expect("no panic").writes, 2);
    // A Secret of somebody's making, without content, is filled.
    let mut emptied = kept.lock().expect("no panic").secret.clone().expect("kept");
    emptied["data"] = json!({"note": "aGk="});
    kept.lock().expect("no panic").secret = Some(emptied);
    all(start()).await;
    let held = kept.lock().expect("no panic").secret.clone().expect("kept");
    assert!(held["data"]["note"] == "aGk=" && held["data"]["tls.crt"].is_string());
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart() {
    let serving = Serving::new();
    let config = serving.config().expect("a configuration");
    let (one, other) = (made(), made());
    for material in [&one, &other] {
        serving.install(material).expect("installed");
        assert!(handshake(&config, material).is_ok());
    }
    assert!(
        handshake(&config, &one).is_err(),
        "the other one's authority is not trusted"
    );
}

/// Of a client that trusts the material's authorities only.
fn handshake(config: &Arc<rustls::ServerConfig>, trusted: &Material) -> Result<(), rustls::Error> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(trusted.authorities.as_bytes()) {
        roots.add(authority.expect("PEM"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client =
        rustls::ClientConfig::builder_with_details(provider, Arc::new(Now)).with_safe_default_protocol_versions()?;
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let name = "tsunagi.tsunagi-system.svc".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(client), name)?;
    let mut server = rustls::ServerConnection::new(Arc::clone(config))?;
    for _ in 0..10 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("to memory");
        server.read_tls(&mut bytes.as_slice()).expect("from memory");
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).expect("to memory");
        client.read_tls(&mut bytes.as_slice()).expect("from memory");
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking());
    Ok(())
}

/// The tests' own time.
#[derive(Debug)]
struct Now;

impl rustls::time_provider::TimeProvider for Now {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since = start().duration_since(SystemTime::UNIX_EPOCH).expect("later");
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since))
    }
}
