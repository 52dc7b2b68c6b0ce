//! Authority and serving certificate, and when the next ones are due: an authority for 10 years, a certificate for 90 days,
//! each renewed when two thirds of its life are over, so that a control plane that was away for weeks still has a valid
//! one. Pure but for new keys; the time is passed in. Called by `keeper`.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use super::CaError;

const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
pub(super) const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// Clocks of a cluster differ: a certificate counts from a little before it was made.
const SKEW: Duration = Duration::from_secs(3600);
/// Authorities that are still trusted while their successor spreads.
const MOST_FORMER: usize = 2;

/// Everything that is kept, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The authority's certificate first, then those of its predecessors that are still valid.
    pub authorities: String,
    pub(super) authority_key: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for Material {
    /// Without keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").finish_non_exhaustive()
    }
}

/// What is to take the place of `current`; `None`: it is good for now.
pub(super) fn next(current: Option<&Material>, names: &[String], now: SystemTime) -> Result<Option<Material>, CaError> {
    let authority = current.and_then(|current| good_authority(current, now));
    let Some((current, authority)) = current.zip(authority) else {
        return Ok(Some(found(current, names, now)?));
    };
    if is_good_certificate(current, &authority, names, now) {
        return Ok(None);
    }
    let (certificate, key) = issue(&authority.key, names, now)?;
    let next = Material {
        certificate,
        key,
        ..current.clone()
    };
    Ok(Some(next))
}

/// A new authority, beside its predecessors, and its first certificate.
fn found(current: Option<&Material>, names: &[String], now: SystemTime) -> Result<Material, CaError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params();
    (params.not_before, params.not_after) = ((now - SKEW).into(), (now + AUTHORITY_LIFE).into());
    let own = params.self_signed(&key)?.pem();
    let former = current
        .map(|current| still_valid(&current.authorities, now))
        .unwrap_or_default();
    let (certificate, serving_key) = issue(&key, names, now)?;
    Ok(Material {
        authorities: own + &former,
        authority_key: key.serialize_pem(),
        certificate,
        key: serving_key,
    })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("tsunagi webhook authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// A certificate for `names` and its key.
fn issue(authority_key: &KeyPair, names: &[String], now: SystemTime) -> Result<(String, String), CaError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = common_name("tsunagi webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = ((now - SKEW).into(), (now + CERTIFICATE_LIFE).into());
    let key = KeyPair::generate()?;
    // The authority's name and usages are always the same, so its key is all that is needed of it.
    let issuer = Issuer::new(authority_params(), authority_key);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

struct Authority {
    key: KeyPair,
    key_id: Vec<u8>,
}

/// The authority, if it is whole and not due.
fn good_authority(current: &Material, now: SystemTime) -> Option<Authority> {
    let key = KeyPair::from_pem(&current.authority_key).ok()?;
    let der = ders(&current.authorities).next()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    if !is_young(&certificate, now) || !certificate.is_ca() || !belongs(&certificate, &key) {
        return None;
    }
    let key_id = certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })?;
    Some(Authority { key, key_id })
}

fn is_good_certificate(current: &Material, authority: &Authority, names: &[String], now: SystemTime) -> bool {
    let good = || {
        let key = KeyPair::from_pem(&current.key).ok()?;
        let der = ders(&current.certificate).next()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let issued = certificate
            .extensions()
            .iter()
            .any(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().is_some_and(|id| id.0 == authority.key_id)
                }
                _ => false,
            });
        let wanted: BTreeSet<String> = names.iter().cloned().collect();
        let good =
            issued && is_young(&certificate, now) && belongs(&certificate, &key) && names_of(&certificate) == wanted;
        Some(good)
    };
    good().unwrap_or(false)
}

fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
                _ => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            },
            _ => None,
        })
        .collect()
}

/// Within the first two thirds of its life.
fn is_young(certificate: &X509Certificate<'_>, now: SystemTime) -> bool {
    let (from, to) = (
        certificate.validity().not_before.timestamp(),
        certificate.validity().not_after.timestamp(),
    );
    let now = seconds(now);
    from <= now && now < from.saturating_add((to - from) / 3 * 2)
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn belongs(certificate: &X509Certificate<'_>, key: &KeyPair) -> bool {
    certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

fn ders(pem: &str) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok)
}

/// Those of the authorities whose time is not over.
fn still_valid(authorities: &str, now: SystemTime) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let each = authorities.split_inclusive(END).filter(|pem| pem.contains(END));
    let valid = each.filter(|pem| {
        let der = ders(pem).next();
        der.is_some_and(|der| {
            X509Certificate::from_der(&der)
                .is_ok_and(|(_, certificate)| certificate.validity().not_after.timestamp() > seconds(now))
        })
    });
    valid.take(MOST_FORMER).map(|pem| format!("{}\n", pem.trim())).collect()
}
