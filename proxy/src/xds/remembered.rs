//! The last good config on disk: how a file of it looks. Called by `saver`.
//!
//! One file per node, replaced whole (temporary file, fsync, rename), so that it is always an old or a new one: magic,
//! format, checksum of all that follows, whose it is, and a discovery response that carries everything held, whole. A
//! file that is damaged, foreign or of another format is reported and not used; it never stops the proxy.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use tsunagi_proto::wire::discovery::DeltaDiscoveryResponse;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"TSUNAGI\0";
const FORMAT: u32 = 1;
/// Magic, format, checksum.
const HEADER_BYTES: usize = 8 + 4 + 8;
const LARGEST_BYTES: u64 = 256 << 20;
const LONGEST_NAME_BYTES: usize = 180;

#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is not of this format, or damaged")]
    Damaged,
    #[error("it is another proxy's")]
    Foreign,
}

pub(super) fn path(state_dir: &Path, namespace: &str, node_id: &str) -> PathBuf {
    state_dir.join(format!("{}.state", file_name(&format!("{namespace}.{node_id}"))))
}

/// Two names never share a file: one that cannot be a file's name is told apart by its hash.
fn file_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    let sanitised: String = name.chars().map(plain).take(LONGEST_NAME_BYTES).collect();
    if sanitised == name {
        sanitised
    } else {
        format!("{sanitised}~{:016x}", xxh3_64(name.as_bytes()))
    }
}

/// `None`: nothing is remembered. `owner` is the name of the proxy's own resource.
pub(super) fn read(path: &Path, owner: &str) -> Result<Option<DeltaDiscoveryResponse>, Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut content = Vec::new();
    file.take(LARGEST_BYTES).read_to_end(&mut content)?;
    decode(&content, owner).map(Some)
}

/// When it returns, the file is on disk; on an error the old one still is.
/// Takes the file for this process, until the lock is dropped. `None`: another sidecar of the same name has it.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.with_extension("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(super) fn write(path: &Path, owner: &str, remembered: &DeltaDiscoveryResponse) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = path.with_extension("state.tmp");
    let written = write_new(&temporary, &encode(owner, remembered)).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It is of no use to anybody, and the error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    // What a crash left behind may have other permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn encode(owner: &str, remembered: &DeltaDiscoveryResponse) -> Vec<u8> {
    let mut content = vec![0; HEADER_BYTES];
    content.extend_from_slice(&(owner.len() as u32).to_le_bytes());
    content.extend_from_slice(owner.as_bytes());
    content.extend_from_slice(&remembered.encode_to_vec());
    let checksum = xxh3_64(&content[HEADER_BYTES..]);
    content[..8].copy_from_slice(MAGIC);
    content[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    content[12..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    content
}

fn decode(content: &[u8], owner: &str) -> Result<DeltaDiscoveryResponse, Unusable> {
    let (header, rest) = content.split_at_checked(HEADER_BYTES).ok_or(Unusable::Damaged)?;
    let intact =
        header[..8] == *MAGIC && header[8..12] == FORMAT.to_le_bytes() && header[12..] == xxh3_64(rest).to_le_bytes();
    if !intact {
        return Err(Unusable::Damaged);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(Unusable::Damaged)?;
    let (found, response) = rest
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or(Unusable::Damaged)?;
    if found != owner.as_bytes() {
        return Err(Unusable::Foreign);
    }
    DeltaDiscoveryResponse::decode(response).map_err(|_| Unusable::Damaged)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const OWNER: &str = "workload/default/pod-1";

    fn response(version: &str) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            system_version_info: version.to_owned(),
            ..DeltaDiscoveryResponse::default()
        }
    }

    #[test]
    fn two_sidecars_of_one_name_do_not_share_a_file() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = path(directory.path(), "shop", "web-1");
        let first = lock(&path).expect("the folder is writable");
        assert!(first.is_some() && lock(&path).expect("readable").is_none());
        drop(first);
        assert!(lock(&path).expect("readable").is_some());
    }

    #[test]
    fn what_was_written_is_read_again_and_only_the_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory.path().join("new"), "default", "pod-1");
        assert!(path.ends_with("default.pod-1.state"));
        assert!(read(&path, OWNER).unwrap().is_none());
        for version in ["1", "2"] {
            write(&path, OWNER, &response(version)).unwrap();
            assert_eq!(read(&path, OWNER).unwrap(), Some(response(version)));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_truncated_or_foreign_file_is_not_used() {
        let good = encode(OWNER, &response("1"));
        assert!(matches!(
            decode(&good, "workload/default/pod-2"),
            Err(Unusable::Foreign)
        ));
        for length in 0..good.len() {
            assert!(
                matches!(decode(&good[..length], OWNER), Err(Unusable::Damaged)),
                "{length}"
            );
        }
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(matches!(decode(&bad, OWNER), Err(Unusable::Damaged)), "{index}");
        }
    }

    #[test]
    fn a_node_id_cannot_lead_out_of_the_directory_nor_into_anothers_file() {
        let state = Path::new("/state");
        let hostile = path(state, "default", "../../etc/passwd");
        assert_eq!(hostile.parent(), Some(state));
        assert_ne!(hostile, path(state, "default", ".._.._etc_passwd"));
        let long = "x".repeat(1000);
        assert!(path(state, "default", &long).file_name().unwrap().len() < 255);
    }
}
