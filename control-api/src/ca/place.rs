//! Where authority and certificate are kept: a folder that only this user can read, or a Secret that all replicas share.
//! Called by `keeper`. Whoever writes says which version it saw: of two writers one loses, and takes what the other wrote.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, read_to_string},
    io::{ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};

use super::{CaError, Material};

const ENTRIES: [&str; 4] = ["ca.key", "ca.crt", "tls.key", "tls.crt"];

pub enum Place {
    /// Used by one process at a time.
    Folder(PathBuf),
    Secret {
        secrets: Box<Api<Secret>>,
        name: String,
    },
}

/// What was found.
pub(super) struct Kept {
    /// `None`: nothing, or not everything.
    pub(super) material: Option<Material>,
    /// As it stands in the cluster.
    secret: Option<Secret>,
}

impl Place {
    pub fn secret(client: Client, name: &str) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self::Secret {
            secrets: Box::new(Api::namespaced(client, &namespace)),
            name: name.to_owned(),
        }
    }

    pub(super) async fn read(&self) -> Result<Kept, CaError> {
        match self {
            Self::Folder(folder) => {
                let entries: Result<Vec<Option<String>>, CaError> =
                    ENTRIES.iter().map(|name| read_file(&folder.join(name))).collect();
                let entries = ENTRIES
                    .iter()
                    .zip(entries?)
                    .filter_map(|(name, text)| Some((*name, text?)));
                Ok(Kept {
                    material: assemble(&entries.collect()),
                    secret: None,
                })
            }
            Self::Secret { secrets, name } => {
                let secret = secrets.get_opt(name).await.map_err(|source| refused(name, source))?;
                let material = secret.as_ref().and_then(material_of);
                Ok(Kept { material, secret })
            }
        }
    }

    /// Whether it was written: not if somebody else wrote since `kept` was read.
    pub(super) async fn write(&self, kept: &Kept, material: &Material) -> Result<bool, CaError> {
        match self {
            Self::Folder(folder) => write_files(folder, material).map(|()| true),
            Self::Secret { secrets, name } => write_secret(secrets, name, kept.secret.clone(), material).await,
        }
    }
}

fn entries(material: &Material) -> [(&'static str, &str); 4] {
    let Material {
        authorities,
        authority_key,
        certificate,
        key,
    } = material;
    let texts = [authority_key, authorities, key, certificate];
    std::array::from_fn(|index| (ENTRIES[index], texts[index].as_str()))
}

fn assemble(entries: &BTreeMap<&str, String>) -> Option<Material> {
    let [authority_key, authorities, key, certificate] = ENTRIES.map(|name| entries.get(name).cloned());
    Some(Material {
        authorities: authorities?,
        authority_key: authority_key?,
        certificate: certificate?,
        key: key?,
    })
}

fn material_of(secret: &Secret) -> Option<Material> {
    let entries = secret.data.iter().flatten().filter_map(|(name, bytes)| {
        let text = String::from_utf8(bytes.0.clone()).ok()?;
        Some((name.as_str(), text))
    });
    assemble(&entries.collect())
}

async fn write_secret(
    secrets: &Api<Secret>,
    name: &str,
    old: Option<Secret>,
    material: &Material,
) -> Result<bool, CaError> {
    let exists = old.is_some();
    let mut secret = old.unwrap_or_default();
    secret.metadata.name = Some(name.to_owned());
    let data = entries(material).map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
    secret.data.get_or_insert_default().extend(data);
    let parameters = PostParams::default();
    // With the resourceVersion that was read: a later one is a conflict.
    let written = match exists {
        true => secrets.replace(name, &parameters, &secret).await,
        false => secrets.create(&parameters, &secret).await,
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        // It was deleted since.
        Err(kube::Error::Api(status)) if exists && status.code == 404 => Ok(false),
        Err(source) => Err(refused(name, source)),
    }
}

fn refused(name: &str, source: kube::Error) -> CaError {
    CaError::Secret {
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn read_file(path: &Path) -> Result<Option<String>, CaError> {
    match read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

/// Each file appears whole and for this user alone. A process that dies in between leaves files that do not belong
/// together, which are seen as such and made anew.
fn write_files(folder: &Path, material: &Material) -> Result<(), CaError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| failed(folder, source))?;
    for (name, text) in entries(material) {
        let path = folder.join(name);
        let write = || {
            // Of mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

fn failed(path: &Path, source: std::io::Error) -> CaError {
    CaError::File {
        path: path.to_owned(),
        source,
    }
}
