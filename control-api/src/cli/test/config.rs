//! The config that a test file names, as a world: read and admitted as `tsunagi apply` would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assumed;
use super::file::TestFile;
use crate::cli::files;
use crate::config::{self, Document, Key};
use crate::snapshot::World;

/// Problems that are shown.
const MOST_PROBLEMS: usize = 20;

pub(super) struct Loaded {
    pub world: World,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// The reason is a line for each problem.
pub(super) fn load(path: &Path, file: &TestFile) -> Result<Loaded, String> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let paths: Vec<PathBuf> = file.config.iter().map(|named| folder.join(named)).collect();
    if paths.is_empty() {
        return Err(format!("{}: config: is empty", path.display()));
    }
    let texts = files::read(&paths).map_err(|error| format!("{}: config: {error}", path.display()))?;
    config::check_namespace(&file.namespace).map_err(|reason| format!("{}: namespace: {reason}", path.display()))?;
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    // A folder may hold the test files themselves.
    let is_config = |name: &str| !name.ends_with(".test.yaml") && !name.ends_with(".test.yml");
    for text in texts.files.iter().filter(|text| is_config(&text.name)) {
        match config::parse(&text.name, &text.text, &file.namespace) {
            Ok(own) => documents.extend(own),
            Err(found) => problems.extend(found.iter().map(ToString::to_string)),
        }
    }
    problems.extend(repeats(&documents));
    let mut notes = Vec::new();
    if problems.is_empty() && !file.strict {
        let assumed = assumed::missing(&documents, file);
        documents.extend(assumed.documents);
        notes = assumed.notes;
    }
    let world = World::build(documents.into_iter().map(Arc::new), 1, None);
    problems.extend(world.problems().iter().map(ToString::to_string));
    if problems.is_empty() {
        return Ok(Loaded { world, notes });
    }
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    problems.truncate(MOST_PROBLEMS);
    if more > 0 {
        problems.push(format!("and {more} more problems"));
    }
    Err(problems.join("\n"))
}

/// One of them would replace the other.
fn repeats(documents: &[Document]) -> Vec<String> {
    let mut seen: BTreeMap<&Key, &Document> = BTreeMap::new();
    let mut problems = Vec::new();
    for document in documents {
        if let Some(first) = seen.insert(&document.key, document) {
            let (here, there) = (&document.origin, &first.origin);
            problems.push(format!(
                "{here}{}: is also in {}:{}",
                document.key, there.file, there.line
            ));
        }
    }
    problems
}
