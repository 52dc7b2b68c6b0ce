//! What `-f` names: files, the YAML and JSON files of a directory, or stdin. Called by `apply` and `delete`.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{CliError, client::Call};
use crate::api::{BODY_LIMIT_BYTES, FILES_MEDIA_TYPE, Files, NamedText};

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts of all `paths` with their names, a directory's files in order of their names.
pub(super) fn read(paths: &[PathBuf]) -> Result<Files, CliError> {
    let mut files = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            files.push(NamedText {
                name: "stdin".to_owned(),
                text: read_stdin()?,
            });
        } else if path.is_dir() {
            for path in list(path)? {
                files.push(read_file(&path)?);
            }
        } else {
            files.push(read_file(path)?);
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

fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| unreadable(Path::new("stdin"), &error))?;
    Ok(text)
}

fn read_file(path: &Path) -> Result<NamedText, CliError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(NamedText {
        name: path.display().to_string(),
        text,
    })
}

/// Not into subdirectories, as kubectl.
fn list(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file() {
            paths.push(path);
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
    fn an_empty_directory_and_a_missing_file_fail_by_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(read(&[directory.path().to_owned()]).is_err());
        let missing = read(&[directory.path().join("gone.yaml")])
            .map(drop)
            .expect_err("missing");
        assert!(missing.to_string().contains("gone.yaml"), "{missing}");
    }
}
