//! What `-f` names: files, the YAML and JSON files of a directory, or stdin. Called by `apply` and `delete`.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{CliError, client::Call};
use crate::api::{BODY_LIMIT_BYTES, FILES_MEDIA_TYPE, Files, NamedText};

/// Of all files together; far more than a transaction takes, so that what grows for ever is given up.
const LIMIT_BYTES: u64 = 64 << 20;
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts of all `paths` with their names, a directory's files in order of their names.
pub(super) fn read(paths: &[PathBuf]) -> Result<Files, CliError> {
    let mut files = Vec::new();
    let mut left_bytes = LIMIT_BYTES;
    for path in paths {
        if path == Path::new("-") {
            files.push(NamedText {
                name: "stdin".to_owned(),
                text: read_text(Path::new("stdin"), io::stdin(), &mut left_bytes)?,
            });
        } else if path.is_dir() {
            for path in list(path)? {
                files.push(read_file(&path, &mut left_bytes)?);
            }
        } else {
            files.push(read_file(path, &mut left_bytes)?);
        }
    }
    Ok(Files { files })
}

/// Makes the files the body of a call.
pub(super) fn attach(call: &mut Call<'_>, files: &Files) -> Result<(), CliError> {
    let body = serde_json::to_string(files).map_err(|error| CliError::Failed(error.to_string()))?;
    if body.len() > BODY_LIMIT_BYTES {
        return Err(CliError::Failed(format!(
            "{} bytes of files are more than one transaction takes ({BODY_LIMIT_BYTES})",
            body.len()
        )));
    }
    call.media_type = Some(FILES_MEDIA_TYPE);
    call.body = body;
    Ok(())
}

fn read_file(path: &Path, left_bytes: &mut u64) -> Result<NamedText, CliError> {
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok(NamedText {
        name: path.display().to_string(),
        text: read_text(path, file, left_bytes)?,
    })
}

/// A device may never end, so that no more is read than there may be.
fn read_text(path: &Path, source: impl Read, left_bytes: &mut u64) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let read = source.take(*left_bytes + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    let Some(left) = left_bytes.checked_sub(bytes.len() as u64) else {
        let limit = LIMIT_BYTES >> 20;
        return Err(CliError::Failed(format!(
            "cannot read {}: with it there are more than {limit} MiB",
            path.display()
        )));
    };
    *left_bytes = left;
    String::from_utf8(bytes).map_err(|_| CliError::Failed(format!("cannot read {}: it is not UTF-8", path.display())))
}

/// Not into subdirectories, as kubectl. What is named like a document and cannot be one is an error: left out, it would
/// be missing without a word.
fn list(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            continue;
        }
        let kind = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if kind.is_file() {
            paths.push(path);
        } else if !kind.is_dir() {
            let reason = format!("cannot read {}: it is not a regular file", path.display());
            return Err(CliError::Failed(reason));
        }
    }
    if paths.is_empty() {
        let reason = format!("{}: no *.yaml, *.yml or *.json file in it", directory.display());
        return Err(CliError::Failed(reason));
    }
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_its_yaml_and_json_files_in_order() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["b.yaml", "a.json", "c.yml", "notes.txt", ".yaml"] {
            fs::write(directory.path().join(name), name).expect("written");
        }
        fs::create_dir(directory.path().join("d.yaml")).expect("made");
        let files = read(&[directory.path().to_owned()]).expect("readable").files;
        let texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "c.yml"]);
        assert!(
            files
                .iter()
                .all(|file| file.name.starts_with(&directory.path().display().to_string()))
        );
    }

    #[test]
    fn what_never_ends_is_given_up() {
        for device in ["/dev/zero", "/dev/full"] {
            let refused = read(&[PathBuf::from(device)]).map(drop).expect_err("too much");
            assert!(refused.to_string().contains("more than 64 MiB"), "{refused}");
        }
        let mut left_bytes = 5;
        let path = Path::new("a.yaml");
        assert!(read_text(path, "abc".as_bytes(), &mut left_bytes).is_ok());
        assert_eq!(left_bytes, 2);
        assert!(read_text(path, "abc".as_bytes(), &mut left_bytes).is_err());
        assert!(read_text(path, [0xff].as_slice(), &mut left_bytes).is_err());
    }

    #[test]
    fn a_directory_with_a_document_that_cannot_be_read_fails_by_its_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("a.yaml"), "a").expect("written");
        let lost = directory.path().join("lost.yaml");
        std::os::unix::fs::symlink("nowhere", &lost).expect("linked");
        let refused = read(&[directory.path().to_owned()]).map(drop).expect_err("dangling");
        assert!(refused.to_string().contains("lost.yaml"), "{refused}");
        fs::remove_file(&lost).expect("removed");
        // No regular file, as a named pipe, which would be waited for.
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("pipe.yaml")).expect("a socket");
        let refused = read(&[directory.path().to_owned()]).map(drop).expect_err("no file");
        assert!(
            refused.to_string().contains("pipe.yaml: it is not a regular file"),
            "{refused}"
        );
    }

    #[test]
    fn an_empty_directory_and_a_missing_file_fail_by_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(read(&[directory.path().to_owned()]).is_err());
        let missing = read(&[directory.path().join("gone.yaml")])
            .map(drop)
            .expect_err("missing");
        assert!(missing.to_string().contains("gone.yaml"), "{missing}");
    }
}
