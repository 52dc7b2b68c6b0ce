//! Authorities, and what they sign, as files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};

/// Of the certificate that is revoked from the beginning.
pub(crate) const REVOKED: u64 = 13;

const LONG: Duration = Duration::from_hours(10_000);

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("its own signature"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// `NAME.crt` and `NAME.key` in the folder, for these DNS names, of somebody called `name`.
    pub(crate) fn issue(&self, folder: &Path, name: &str, names: &[&str], serial: u64) {
        self.issue_for(folder, name, names, serial, LONG);
    }

    /// The same, which ends after that time.
    pub(crate) fn issue_for(&self, folder: &Path, name: &str, names: &[&str], serial: u64, time: Duration) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (since_1970() + time);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a signature");
        write(folder, &format!("{name}.crt"), &certificate.pem());
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }

    /// A list of these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        self.revoke_for(serials, LONG, LONG)
    }

    /// One of that age, which ends after that time.
    pub(crate) fn revoke_for(&self, serials: &[u64], age: Duration, time: Duration) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(1970, 1, 1) + (since_1970() - age),
            next_update: rcgen::date_time_ymd(1970, 1, 1) + (since_1970() + time),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("a signature");
        list.pem().expect("PEM")
    }
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is later")
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    // As whoever rotates certificates does it: nobody ever reads half of one.
    let new = folder.join(format!("{name}.new"));
    std::fs::write(&new, text).expect("a folder that can be written to");
    std::fs::rename(&new, &path).expect("the same file system");
    path
}
