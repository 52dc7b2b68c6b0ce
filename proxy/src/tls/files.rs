//! The files that a `tls` block names: where they are, whether they changed, what is in them.
//!
//! A change is seen by what the file system says of each file (links are followed: a mounted Kubernetes Secret changes by
//! one link that is swapped), and is one only when the bytes differ.

use std::fmt;
use std::fs;
use std::hash::Hasher;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tsunagi_proto::model::{TlsFiles, UpstreamTls};
use xxhash_rust::xxh3::Xxh3;

use super::Failure;
use crate::telemetry::TlsFailure;

/// More is no certificate.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Each under the names it may have, the first that is there counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Paths {
    /// None: no certificate is presented.
    pub certificate: Vec<PathBuf>,
    pub key: Vec<PathBuf>,
    pub trust: Trusted,
    pub revoked: Vec<PathBuf>,
    /// A Secret need not have one.
    pub needs_revoked: bool,
}

/// Whom to believe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) enum Trusted {
    #[default]
    Anybody,
    System,
    Authorities(Vec<PathBuf>),
}

/// What is in them; `None`: there is no such file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub certificate: Option<(PathBuf, Vec<u8>)>,
    pub key: Option<(PathBuf, Vec<u8>)>,
    pub authorities: Option<(PathBuf, Vec<u8>)>,
    pub revoked: Option<(PathBuf, Vec<u8>)>,
}

/// What the file system says of a file. Two of it differ whenever the file may have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamp(Vec<Option<[i64; 6]>>);

impl Paths {
    /// What of the files is needed. A credential is a Secret mounted below `credentials`, under the keys of Kubernetes or
    /// those of Istio.
    pub fn new(told: &UpstreamTls, credentials: &Path) -> Self {
        let mut paths = match &told.files {
            TlsFiles::Paths {
                client_certificate,
                private_key,
                ca_certificates,
                ca_crl,
            } => Self {
                certificate: vec![client_certificate.into()],
                key: vec![private_key.into()],
                trust: match ca_certificates.as_str() {
                    "" => Trusted::System,
                    path => Trusted::Authorities(vec![path.into()]),
                },
                revoked: Some(ca_crl)
                    .filter(|path| !path.is_empty())
                    .map(Into::into)
                    .into_iter()
                    .collect(),
                needs_revoked: !ca_crl.is_empty(),
            },
            TlsFiles::Credential(name) => {
                Self::of_secret(&credentials.join(name), &credentials.join(format!("{name}-cacert")))
            }
        };
        if !told.mutual {
            (paths.certificate, paths.key) = (Vec::new(), Vec::new());
        }
        if told.insecure_skip_verify {
            (paths.trust, paths.revoked, paths.needs_revoked) = (Trusted::Anybody, Vec::new(), false);
        }
        paths
    }

    /// Istio also takes the authorities from a Secret of their own.
    fn of_secret(folder: &Path, authorities: &Path) -> Self {
        let named = |folder: &Path, names: [&str; 2]| names.map(|name| folder.join(name)).to_vec();
        let trusted = [folder, authorities].map(|folder| named(folder, ["ca.crt", "cacert"]));
        Self {
            certificate: named(folder, ["tls.crt", "cert"]),
            key: named(folder, ["tls.key", "key"]),
            trust: Trusted::Authorities(trusted.concat()),
            revoked: named(folder, ["ca.crl", "crl"]),
            needs_revoked: false,
        }
    }

    fn authorities(&self) -> &[PathBuf] {
        match &self.trust {
            Trusted::Authorities(paths) => paths,
            Trusted::Anybody | Trusted::System => &[],
        }
    }

    pub fn stamp(&self) -> Stamp {
        let all = [&self.certificate[..], &self.key, self.authorities(), &self.revoked];
        let of = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            let size = i64::try_from(found.size()).unwrap_or(i64::MAX);
            let [device, inode] = [found.dev(), found.ino()].map(u64::cast_signed);
            Some([
                device,
                inode,
                size,
                found.mtime(),
                found.mtime_nsec(),
                found.ctime_nsec(),
            ])
        };
        Stamp(all.into_iter().flatten().map(of).collect())
    }

    pub fn read(&self) -> Result<Contents, Failure> {
        Ok(Contents {
            certificate: first(&self.certificate)?,
            key: first(&self.key)?,
            authorities: first(self.authorities())?,
            revoked: first(&self.revoked)?,
        })
    }
}

/// As an operator would name them, before any of them is read: what need not be there is left out.
impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revoked = self.revoked.first().filter(|_| self.needs_revoked);
        let named = [self.certificate.first(), self.authorities().first(), revoked];
        f.write_str(&named_with(named, &self.trust))
    }
}

fn named_with(files: [Option<&PathBuf>; 3], trust: &Trusted) -> String {
    let files = files.into_iter().flatten().map(|path| path.display().to_string());
    let system = Some("the system's authorities".to_owned()).filter(|_| *trust == Trusted::System);
    let all: Vec<String> = files.chain(system).collect();
    if all.is_empty() {
        return "none".to_owned();
    }
    all.join(", ")
}

impl Contents {
    /// The files that were found, as an operator would name them.
    pub fn named(&self, trust: &Trusted) -> String {
        let found = [&self.certificate, &self.authorities, &self.revoked];
        let found = found.map(|file| file.as_ref().map(|(path, _)| path));
        named_with(found, trust)
    }

    /// Of the bytes; keys are not kept to be compared.
    pub fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        for part in [&self.certificate, &self.key, &self.authorities, &self.revoked] {
            let bytes = part.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            hash.write_usize(bytes.len());
            hash.update(bytes);
        }
        hash.digest128()
    }
}

/// The first of them that is there.
fn first(paths: &[PathBuf]) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
    let Some(path) = paths.iter().find(|path| path.exists()) else {
        return Ok(None);
    };
    let failed = |why: String| Failure::new(TlsFailure::Files, format!("{} cannot be read: {why}", path.display()));
    let found = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    // Of anything else, reading might never end.
    if !found.is_file() {
        return Err(failed("it is no file".to_owned()));
    }
    if found.size() > MAX_FILE_BYTES {
        return Err(failed(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    Ok(Some((path.clone(), bytes)))
}
