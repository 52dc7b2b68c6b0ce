//! The embedded store: every document as JSON under its key, and the revision. One write transaction per change, made
//! durable (fsync) before it is acknowledged; redb's copy-on-write tree makes it all or nothing at any moment of a crash.
//! Called by `ingest` only, from a blocking thread. One process at a time owns a data directory (redb locks its file).

pub mod metadata;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    TableError, TableHandle,
};
use serde_json::Value;

const FILE: &str = "store.redb";
/// Where a new store is made; it gets its name when it is whole, so that a file of that name is never half of one.
const NEW_FILE: &str = "store.redb.new";
/// Of pages in memory. The documents live in memory anyway; reads from the store happen at start only.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Raised when an older binary could misread the tables.
const FORMAT: u64 = 1;

const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";
const FORMAT_KEY: &str = "format";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the data directory {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("the data directory {0} is in use by another process; give each control plane its own --data-dir")]
    InUse(PathBuf),
    #[error("{0} is not a store of Tsunagi; move it away or choose another --data-dir")]
    Foreign(PathBuf),
    #[error(
        "{0} is empty, so whatever it held is lost; restore it from a backup, or move it away to begin without configuration"
    )]
    Empty(PathBuf),
    #[error(
        "{path} is damaged ({reason}); restore it from a backup, or move it away and apply your configuration again"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} has format {found}; this version of tsunagi reads format {FORMAT}: use a newer one")]
    Newer { path: PathBuf, found: u64 },
    #[error("the store cannot be read: {0}")]
    Read(#[source] redb::Error),
    #[error("the store cannot be written, nothing was changed: {0}")]
    Write(#[source] redb::Error),
    #[error("the store was changed by someone else (revision {found}, not {expected}); restart tsunagi")]
    Diverged { expected: u64, found: u64 },
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct Contents {
    pub revision: u64,
    pub objects: Vec<Value>,
}

/// One document's part of a transaction. The key is a `config::Key` as text.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    Put(&'a str, &'a Value),
    Remove(&'a str),
}

#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None` after a failed write: redb then wants the file opened anew, which the next commit does.
    database: Option<Database>,
}

impl Store {
    /// Opens the store in `directory`, or makes both.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let unusable = |source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        };
        let held = hold(directory).map_err(unusable)?;
        // A link that leads nowhere is there, and what it led to is missing.
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(directory, &path)?,
            Err(error) => return Err(unusable(error)),
        }
        if fs::metadata(&path).map_err(unusable)?.len() == 0 {
            return Err(StoreError::Empty(path));
        }
        // The file's name must survive a power cut as well as its contents.
        held.sync_all().map_err(unusable)?;
        let database = open_database(&path)?;
        let store = Self {
            path,
            database: Some(database),
        };
        store.check_format()?;
        Ok(store)
    }

    /// Reads everything; an object that is not JSON means damage.
    pub fn load(&self) -> Result<Contents, StoreError> {
        let Some(database) = &self.database else {
            return Ok(Contents::default());
        };
        let (revision, entries) = read_all(database).map_err(|error| self.unreadable(error))?;
        let objects = entries
            .into_iter()
            .map(|(key, json)| {
                serde_json::from_slice(&json).map_err(|error| StoreError::Damaged {
                    path: self.path.clone(),
                    reason: format!("{key}: {error}"),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Contents { revision, objects })
    }

    /// Makes `changes` on top of revision `base` durable and returns the new revision. On an error nothing was changed.
    pub fn commit(&mut self, base: u64, changes: &[Change<'_>]) -> Result<u64, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        let found = revision(&database).map_err(|error| self.unreadable(error))?;
        if found != base {
            self.database = Some(database);
            return Err(StoreError::Diverged { expected: base, found });
        }
        match write(&database, base + 1, changes) {
            Ok(()) => {
                self.database = Some(database);
                Ok(base + 1)
            }
            // Dropping the database here lets the next commit recover what is on disk.
            Err(error) => Err(StoreError::Write(error)),
        }
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        let found = format_of(database).map_err(|error| self.unreadable(error))?;
        match found {
            Format::Known(FORMAT) => Ok(()),
            Format::Known(found) => Err(StoreError::Newer {
                path: self.path.clone(),
                found,
            }),
            Format::Foreign => Err(StoreError::Foreign(self.path.clone())),
        }
    }

    fn unreadable(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Corrupted(reason) => StoreError::Damaged {
                path: self.path.clone(),
                reason,
            },
            redb::Error::TableTypeMismatch { .. } => StoreError::Foreign(self.path.clone()),
            error => StoreError::Read(error),
        }
    }
}

/// The directory, made for its owner only so that no one else ever reads the configuration, and locked: while a store is
/// made in it, nobody else makes one.
fn hold(directory: &Path) -> io::Result<fs::File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let held = fs::File::open(directory)?;
    held.lock()?;
    Ok(held)
}

/// Makes an empty store, whole before it has its name. What a crash left of one is no loss.
fn make(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let new = directory.join(NEW_FILE);
    let unusable = |source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    };
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new);
    drop(file.map_err(unusable)?);
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create(&new)
        .map_err(|error| StoreError::Write(error.into()))?;
    set_format(&database).map_err(StoreError::Write)?;
    drop(database);
    fs::rename(&new, path).map_err(unusable)
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    let opened = Builder::new()
        .set_cache_size(CACHE_BYTES)
        // Small files: a full check costs milliseconds, and a damaged page is an error instead of nonsense.
        .set_check_integrity_on_open(true)
        .open(path);
    let damaged = |reason: String| StoreError::Damaged {
        path: path.to_owned(),
        reason,
    };
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse(path.parent().unwrap_or(path).to_owned())
        }
        DatabaseError::UpgradeRequired(_) => StoreError::Foreign(path.to_owned()),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Foreign(path.to_owned())
        }
        DatabaseError::Storage(StorageError::Corrupted(reason)) => damaged(reason),
        DatabaseError::RepairAborted => damaged("it cannot be repaired".to_owned()),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            damaged("it is cut short".to_owned())
        }
        error => StoreError::Read(error.into()),
    })
}

enum Format {
    Foreign,
    Known(u64),
}

fn format_of(database: &Database) -> Result<Format, redb::Error> {
    let read = database.begin_read()?;
    let names: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    if !names.iter().any(|name| name == COUNTERS.name()) {
        return Ok(Format::Foreign);
    }
    let format = read.open_table(COUNTERS)?.get(FORMAT_KEY)?;
    Ok(format.map_or(Format::Foreign, |format| Format::Known(format.value())))
}

fn set_format(database: &Database) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.open_table(COUNTERS)?.insert(FORMAT_KEY, FORMAT)?;
    write.open_table(DOCUMENTS)?;
    write.commit()?;
    Ok(())
}

fn revision(database: &Database) -> Result<u64, redb::Error> {
    let read = database.begin_read()?;
    let counters = read.open_table(COUNTERS)?;
    Ok(counters.get(REVISION)?.map_or(0, |revision| revision.value()))
}

/// Keys and their JSON.
type Entries = Vec<(String, Vec<u8>)>;

fn read_all(database: &Database) -> Result<(u64, Entries), redb::Error> {
    let read = database.begin_read()?;
    let counters = read.open_table(COUNTERS)?;
    let revision = counters.get(REVISION)?.map_or(0, |revision| revision.value());
    let documents = match read.open_table(DOCUMENTS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok((revision, Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    for entry in documents.iter()? {
        let (key, json) = entry?;
        entries.push((key.value().to_owned(), json.value().to_vec()));
    }
    Ok((revision, entries))
}

fn write(database: &Database, revision: u64, changes: &[Change<'_>]) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    {
        let mut documents = write.open_table(DOCUMENTS)?;
        for change in changes {
            match change {
                Change::Put(key, object) => {
                    documents.insert(*key, object.to_string().as_bytes())?;
                }
                Change::Remove(key) => {
                    documents.remove(*key)?;
                }
            }
        }
        write.open_table(COUNTERS)?.insert(REVISION, revision)?;
    }
    write.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
