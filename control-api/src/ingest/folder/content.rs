//! What a folder holds: the texts of its YAML and JSON files, in order, with a digest that is the same exactly when they
//! are. Reads the file system and nothing else; called by `folder` once a second, so every size and count is bounded.
//!
//! Names that begin with `.` are skipped and links are followed, which is how Kubernetes mounts a ConfigMap: `a.yaml` is
//! a link to `..data/a.yaml`, and `..data` a link to the folder that is in force.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use xxhash_rust::xxh3::Xxh3;

use crate::config::Problem;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
const FILE_LIMIT_BYTES: u64 = 4 << 20;
/// As much as one transaction through the API.
const FOLDER_LIMIT_BYTES: usize = 16 << 20;
/// Of any name, in all folders together.
const MOST_ENTRIES: usize = 20_000;
const MOST_FILES: usize = 5_000;
const DEEPEST: usize = 16;

/// One file that is configuration.
#[derive(Debug)]
pub(super) struct File {
    /// Inside the folder, with `/`.
    pub path: String,
    /// As people find it.
    pub shown: String,
    pub text: String,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub files: Vec<File>,
    /// What cannot be read, or is too much.
    pub problems: Vec<Problem>,
    /// Of all of the above.
    pub digest: u128,
}

/// Fails only when the folder itself cannot be read.
pub(super) fn read(folder: &Path) -> io::Result<Content> {
    let mut walk = Walk::default();
    let root = identity(&fs::metadata(folder)?);
    walk.list(folder, "", &mut vec![root])?;
    // By path, and not by how the file system happens to list them.
    walk.paths.sort();
    if walk.paths.len() > MOST_FILES {
        walk.paths.clear();
        walk.problem(folder, format!("holds more than {MOST_FILES} files of configuration"));
    }
    let mut content = Content::default();
    let mut left_bytes = FOLDER_LIMIT_BYTES;
    for path in walk.paths {
        let full = folder.join(&path);
        match text(&full) {
            Ok(text) if text.len() <= left_bytes => {
                left_bytes -= text.len();
                let shown = full.display().to_string();
                content.files.push(File { path, shown, text });
            }
            Ok(_) => {
                let reason = format!("holds more than {} MiB of configuration", FOLDER_LIMIT_BYTES >> 20);
                walk.problems.push(problem(folder, reason));
                break;
            }
            Err(reason) => walk.problems.push(problem(&full, reason)),
        }
    }
    walk.problems.sort();
    content.problems = walk.problems;
    content.digest = digest(&content);
    Ok(content)
}

/// Device and inode: what a folder is, whatever its name.
type Identity = (u64, u64);

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

#[derive(Default)]
struct Walk {
    paths: Vec<String>,
    problems: Vec<Problem>,
    entries: usize,
}

impl Walk {
    /// `above` are this folder and those that lead to it.
    fn list(&mut self, folder: &Path, prefix: &str, above: &mut Vec<Identity>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            self.entries += 1;
            if self.entries == MOST_ENTRIES + 1 {
                self.problem(
                    folder,
                    format!("is entry {} of the config folder: too many", self.entries),
                );
            }
            if self.entries > MOST_ENTRIES {
                break;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if !name.starts_with('.') {
                self.visit(&entry, &format!("{prefix}{name}"), above);
            }
        }
        Ok(())
    }

    fn visit(&mut self, entry: &fs::DirEntry, path: &str, above: &mut Vec<Identity>) {
        let full = entry.path();
        let extension = full.extension().and_then(|extension| extension.to_str());
        let is_config = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        let is_plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_plain && !is_config {
            return;
        }
        match fs::metadata(&full) {
            Ok(metadata) if metadata.is_dir() => self.descend(&full, path, identity(&metadata), above),
            Ok(metadata) if is_config && metadata.is_file() => self.paths.push(path.to_owned()),
            // A pipe would be waited for without end.
            Ok(_) if is_config => self.problem(&full, "is not a file".to_owned()),
            Err(error) if is_config => self.problem(&full, unreadable(&error)),
            Ok(_) | Err(_) => {}
        }
    }

    fn descend(&mut self, full: &Path, path: &str, own: Identity, above: &mut Vec<Identity>) {
        // A link that leads back up shows nothing new.
        if above.contains(&own) {
            return;
        }
        if above.len() > DEEPEST {
            return self.problem(full, format!("is more than {DEEPEST} folders deep"));
        }
        above.push(own);
        if let Err(error) = self.list(full, &format!("{path}/"), above) {
            self.problem(full, unreadable(&error));
        }
        above.pop();
    }

    fn problem(&mut self, path: &Path, reason: String) {
        self.problems.push(problem(path, reason));
    }
}

fn problem(path: &Path, reason: String) -> Problem {
    Problem {
        file: path.display().to_string(),
        reason,
        ..Problem::default()
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The error is a reason.
fn text(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(format!("is larger than {} MiB: split it", FILE_LIMIT_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

fn digest(content: &Content) -> u128 {
    let mut hash = Xxh3::new();
    // With its length, so that no two contents read the same.
    let mut add = |part: &str| {
        hash.update(&part.len().to_le_bytes());
        hash.update(part.as_bytes());
    };
    for file in &content.files {
        add(&file.path);
        add(&file.text);
    }
    for problem in &content.problems {
        add(&problem.to_string());
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn content(folder: &Path) -> Content {
        read(folder).expect("a readable folder")
    }

    fn paths(content: &Content) -> Vec<&str> {
        content.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn files_are_found_at_any_depth_in_order_and_hidden_and_foreign_names_are_not() {
        let folder = folder();
        let path = folder.path();
        fs::create_dir_all(path.join("shop/eu")).expect("made");
        fs::create_dir_all(path.join(".git")).expect("made");
        for name in [
            "z.yaml",
            "b.json",
            "shop/eu/c.yml",
            ".hidden.yaml",
            ".git/x.yaml",
            "README.md",
            "a.yaml~",
        ] {
            fs::write(path.join(name), name).expect("written");
        }
        let content = content(path);
        assert_eq!(paths(&content), ["b.json", "shop/eu/c.yml", "z.yaml"]);
        assert_eq!(content.problems, []);
        assert_eq!(content.files[1].shown, path.join("shop/eu/c.yml").display().to_string());
    }

    #[test]
    fn a_mounted_config_map_is_read_once_and_its_swap_is_a_change() {
        let folder = folder();
        let path = folder.path();
        for (version, text) in [("..2026_1", "one"), ("..2026_2", "two")] {
            fs::create_dir(path.join(version)).expect("made");
            fs::write(path.join(version).join("a.yaml"), text).expect("written");
        }
        symlink("..2026_1", path.join("..data")).expect("linked");
        symlink("..data/a.yaml", path.join("a.yaml")).expect("linked");
        let before = content(path);
        assert_eq!(paths(&before), ["a.yaml"]);
        symlink("..2026_2", path.join("..data_tmp")).expect("linked");
        fs::rename(path.join("..data_tmp"), path.join("..data")).expect("swapped");
        let after = content(path);
        assert_eq!((paths(&after), after.files[0].text.as_str()), (vec!["a.yaml"], "two"));
        assert_ne!(before.digest, after.digest);
    }

    #[test]
    fn the_digest_tells_names_and_texts_apart_and_nothing_else() {
        let folder = folder();
        let path = folder.path();
        fs::write(path.join("a.yaml"), "x").expect("written");
        let first = content(path).digest;
        fs::write(path.join("a.yaml"), "x").expect("written");
        fs::write(path.join("notes.txt"), "x").expect("written");
        assert_eq!(content(path).digest, first);
        fs::rename(path.join("a.yaml"), path.join("b.yaml")).expect("renamed");
        assert_ne!(content(path).digest, first);
    }

    #[test]
    fn a_link_that_leads_back_up_ends() {
        let folder = folder();
        fs::create_dir(folder.path().join("shop")).expect("made");
        fs::write(folder.path().join("shop/a.yaml"), "x").expect("written");
        symlink("..", folder.path().join("shop/up")).expect("linked");
        assert_eq!(paths(&content(folder.path())), ["shop/a.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_or_is_too_large_is_a_problem_by_name() {
        let folder = folder();
        let path = folder.path();
        symlink("nowhere", path.join("gone.yaml")).expect("linked");
        fs::write(path.join("binary.yaml"), [0xff, 0xfe]).expect("written");
        let file = fs::File::create(path.join("large.yaml")).expect("made");
        file.set_len(FILE_LIMIT_BYTES + 1).expect("grown");
        let problems: Vec<String> = content(path).problems.iter().map(Problem::to_string).collect();
        let said = |index: usize, name: &str, reason: &str| {
            problems[index].starts_with(&format!("{}: {reason}", path.join(name).display()))
        };
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(said(0, "binary.yaml", "is not UTF-8 text"), "{problems:?}");
        assert!(said(1, "gone.yaml", "cannot be read: "), "{problems:?}");
        assert!(said(2, "large.yaml", "is larger than 4 MiB"), "{problems:?}");
    }

    #[test]
    fn too_much_in_all_is_a_problem_of_the_folder() {
        let folder = folder();
        for name in ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml"] {
            let file = fs::File::create(folder.path().join(name)).expect("made");
            file.set_len(FILE_LIMIT_BYTES).expect("grown");
        }
        let content = content(folder.path());
        assert_eq!(content.files.len(), 4);
        let [problem] = content.problems.as_slice() else {
            unreachable!("{:?}", content.problems)
        };
        assert_eq!(problem.reason, "holds more than 16 MiB of configuration");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = folder();
        assert!(read(&folder.path().join("gone")).is_err());
        fs::write(folder.path().join("file"), "").expect("written");
        assert!(read(&folder.path().join("file")).is_err());
    }
}
