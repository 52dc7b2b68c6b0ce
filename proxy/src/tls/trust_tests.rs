//! Tests of what counts of several lists of revoked certificates, of certificates that were themselves given as trusted, and
//! of those of X.509 version 1: handshakes with real endpoints on loopback.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Offer;
use super::testing::{Authority, Folder, Issued, client, echo, exchange, server};

const NAMES: &[&str] = &["users.example"];

/// What becomes of a client with these files, from the authorities to the lists, that asks this endpoint.
async fn outcome(endpoint: ServerConfig, authorities: &[&str], lists: &[&str], names: &[&str]) -> Result<(), String> {
    let folder = Folder::new();
    folder.write("ca.pem", &authorities.concat());
    folder.write("crl.pem", &lists.concat());
    let mut told = folder.told("", "", "ca.pem", if lists.is_empty() { "" } else { "crl.pem" });
    told.subject_alt_names = names.iter().map(ToString::to_string).collect();
    let endpoint = echo(endpoint).await;
    exchange(&client(&folder.store(), &told).0, endpoint.address, Offer::Bytes)
        .await
        .map(drop)
}

fn says(outcome: &Result<(), String>, reason: Option<&str>) -> bool {
    match (outcome, reason) {
        (Ok(()), None) => true,
        (Err(said), Some(reason)) => said.contains(reason),
        _ => false,
    }
}

const REVOKED: Option<&str> = Some("certificate was revoked");
const EXPIRED: Option<&str> = Some("has expired (caCrl)");
const FUTURE: Option<&str> = Some("is of the future (caCrl, thisUpdate)");

#[tokio::test]
async fn of_one_authoritys_lists_the_newest_that_has_begun_counts_in_whichever_order_they_stand() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let issued = authority.good(NAMES);
    let list = |serials: &[u64], first, end| authority.revoke_between(serials, first, end);
    let elsewhere = other.revoke(&[7]);
    let cases = [
        (list(&[], 2020, 2090), list(&[7], 2021, 2090), REVOKED),
        (list(&[7], 2020, 2090), list(&[], 2021, 2090), None),
        (list(&[], 2020, 2021), list(&[], 2022, 2090), None),
        (list(&[], 2020, 2090), list(&[], 2021, 2022), EXPIRED),
        (list(&[], 2020, 2090), list(&[7], 2080, 2090), None),
        (elsewhere.clone(), list(&[], 2080, 2090), FUTURE),
        (list(&[7], 2079, 2090), list(&[], 2080, 2090), FUTURE),
        (elsewhere, list(&[], 2020, 2090), None),
        (
            other.revoke(&[]),
            other.revoke_between(&[], 2080, 2090),
            Some("no list of revoked certificates is by the authority"),
        ),
    ];
    for (index, (a, b, reason)) in cases.iter().enumerate() {
        for lists in [[a.as_str(), b], [b, a]] {
            let outcome = outcome(server(&issued, None, &[]), &[&authority.pem()], &lists, &[]).await;
            assert!(says(&outcome, *reason), "{index}: {outcome:?}, not {reason:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_was_itself_given_is_refused_when_its_authority_has_revoked_it() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let (issued, ca) = (authority.good(NAMES), authority.pem());
    let leaf = issued.certificate.as_str();
    let list = |serials: &[u64], first, end| authority.revoke_between(serials, first, end);
    let cases: [(&[&str], String, Option<&str>); 10] = [
        (&[&ca, leaf], list(&[7], 2020, 2090), REVOKED),
        (&[&ca, leaf], list(&[8], 2020, 2090), None),
        (&[&ca, leaf], list(&[8], 2020, 2021), EXPIRED),
        (&[&ca, leaf], list(&[8], 2080, 2090), FUTURE),
        (
            &[&ca, leaf],
            other.revoke(&[]),
            Some("no list of revoked certificates is by the authority"),
        ),
        // Its authority is not here: lists by its name count.
        (&[leaf], list(&[7], 2020, 2090), REVOKED),
        (&[leaf], list(&[8], 2020, 2090), None),
        (&[leaf], list(&[8], 2020, 2021), EXPIRED),
        (&[leaf], list(&[8], 2080, 2090), FUTURE),
        (&[leaf], other.revoke(&[7]), None),
    ];
    for (index, (authorities, list, reason)) in cases.iter().enumerate() {
        let outcome = outcome(server(&issued, None, &[]), authorities, &[list], &[]).await;
        assert!(says(&outcome, *reason), "{index}: {outcome:?}, not {reason:?}");
    }
    let alone = Authority::alone(NAMES);
    let outcome = outcome(
        server(&alone, None, &[]),
        &[&alone.certificate],
        &[&other.revoke(&[7])],
        &[],
    )
    .await;
    assert_eq!(outcome, Ok(()), "nobody has signed it but itself");
}

/// The same certificate without its extensions, so that it is of version 1. Nobody has signed it like this.
fn of_version_1(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    const VERSION_BYTES: usize = 5;
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let signed = parsed.tbs_certificate.as_ref();
    let find = |part: &[u8]| signed.windows(part.len()).position(|it| it == part).unwrap();
    let key = parsed.public_key().raw;
    let first = find(&[0xa0, 3, 2, 1, 2]) + VERSION_BYTES;
    let short = sequence(&signed[first..find(key) + key.len()]);
    let position = certificate.windows(signed.len()).position(|it| it == signed).unwrap();
    sequence(&[&short, &certificate[position + signed.len()..]].concat()).into()
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let length = match (high, low) {
        (0, 128..) => vec![0x81, low],
        (0, low) => vec![low],
        (high, low) => vec![0x82, high, low],
    };
    [&[0x30], &length[..], content].concat()
}

/// It shows the one and signs with the key of the other.
fn showing(certificate: CertificateDer<'static>, key: &Issued, old: bool) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(key.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let version = if old { &TLS12 } else { &TLS13 };
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap();
    let certified = CertifiedKey::new(vec![certificate], key);
    config
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_certificate_of_version_1_is_believed_when_it_was_given_and_its_key_signs() {
    let authority = Authority::new("ours");
    let (issued, other) = (authority.good(NAMES), authority.good(NAMES));
    let shown = of_version_1(&CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap());
    let (ca, given) = (authority.pem(), pem(&shown));
    for old in [false, true] {
        let endpoint = |key| showing(shown.clone(), key, old);
        let cases = [
            (&issued, [&ca, &given], "", &[][..], None),
            (&other, [&ca, &given], "", &[], Some("BadSignature")),
            (
                &issued,
                [&ca, &ca],
                "",
                &[],
                Some("is of X.509 version 1: issue it anew"),
            ),
            (
                &issued,
                [&ca, &given],
                "",
                NAMES,
                Some("is for nobody, not for users.example"),
            ),
            (&issued, [&ca, &given], &*authority.revoke(&[7]), &[], REVOKED),
            (&issued, [&ca, &given], &*authority.revoke(&[8]), &[], None),
        ];
        for (index, (key, authorities, list, names, reason)) in cases.into_iter().enumerate() {
            let lists: &[&str] = if list.is_empty() { &[] } else { &[list] };
            let outcome = outcome(endpoint(key), &authorities.map(String::as_str), lists, names).await;
            assert!(says(&outcome, reason), "{index} {old}: {outcome:?}, not {reason:?}");
        }
    }
}

#[tokio::test]
async fn where_nobody_is_verified_nothing_is_asked_of_the_certificate_or_of_its_key() {
    let (issued, other) = (Authority::new("a").good(NAMES), Authority::new("b").good(NAMES));
    let shown = of_version_1(&CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap());
    let folder = Folder::new();
    let mut told = folder.told("", "", "", "");
    told.insecure_skip_verify = true;
    for old in [false, true] {
        for key in [&issued, &other] {
            let endpoint = echo(showing(shown.clone(), key, old)).await;
            let outcome = exchange(&client(&folder.store(), &told).0, endpoint.address, Offer::Bytes).await;
            assert_eq!(outcome, Ok(None));
        }
    }
}
