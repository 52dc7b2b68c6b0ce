//! Tests of the store: what is acknowledged is found again, and what is not a store is named.

use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(directory: &Path) -> Store {
    Store::open(directory).expect("a store")
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let directory = directory();
    let mut store = open(directory.path());
    let (one, two) = (json!({"a": 1}), json!({"b": 2}));
    let changes = [Change::Put("k/one", &one), Change::Put("k/two", &two)];
    assert_eq!(store.commit(0, &changes).expect("committed"), 1);
    assert_eq!(store.commit(1, &[Change::Remove("k/one")]).expect("committed"), 2);
    drop(store);
    let contents = open(directory.path()).load().expect("readable");
    assert_eq!(contents.revision, 2);
    assert_eq!(contents.objects, vec![two]);
}

#[test]
fn a_commit_on_top_of_another_revision_is_refused_and_changes_nothing() {
    let directory = directory();
    let mut store = open(directory.path());
    let object = json!({});
    store.commit(0, &[Change::Put("a", &object)]).expect("committed");
    let refused = store.commit(0, &[Change::Put("b", &object)]);
    assert!(matches!(refused, Err(StoreError::Diverged { expected: 0, found: 1 })));
    assert_eq!(store.load().expect("readable").objects.len(), 1);
}

#[test]
fn a_second_owner_of_the_directory_is_refused_by_name() {
    let directory = directory();
    let _first = open(directory.path());
    let second = Store::open(directory.path()).map(drop);
    let message = second.expect_err("locked").to_string();
    assert!(message.contains("in use by another process"), "{message}");
}

#[test]
fn the_directory_and_the_file_are_for_their_owner_only() {
    let parent = directory();
    let path = parent.path().join("made/here");
    let _store = open(&path);
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(FILE)), 0o600);
}

#[test]
fn a_file_that_is_no_store_is_named_and_kept() {
    let directory = directory();
    let path = directory.path().join(FILE);
    let text = "not a database, but somebody's only copy of something".repeat(400);
    fs::write(&path, &text).expect("written");
    let error = Store::open(directory.path()).map(drop).expect_err("foreign");
    assert!(matches!(error, StoreError::Foreign(_)), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("kept"), text);
}

#[test]
fn another_programs_redb_file_is_foreign() {
    let directory = directory();
    let database = Database::create(directory.path().join(FILE)).expect("made");
    let write = database.begin_write().expect("begun");
    write
        .open_table(TableDefinition::<u64, u64>::new("others"))
        .expect("a table");
    write.commit().expect("committed");
    drop(database);
    let error = Store::open(directory.path()).map(drop).expect_err("foreign");
    assert!(matches!(error, StoreError::Foreign(_)), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let directory = directory();
    let store = open(directory.path());
    if let Some(database) = &store.database {
        let write = database.begin_write().expect("begun");
        write
            .open_table(COUNTERS)
            .expect("a table")
            .insert(FORMAT_KEY, FORMAT + 1)
            .expect("inserted");
        write.commit().expect("committed");
    }
    drop(store);
    let error = Store::open(directory.path()).map(drop).expect_err("newer");
    assert!(matches!(error, StoreError::Newer { found: 2, .. }), "{error}");
}

#[test]
fn an_overwritten_page_is_an_error_and_not_a_panic() {
    let directory = directory();
    let mut store = open(directory.path());
    let object = json!({"long": "x".repeat(2_000)});
    for revision in 0..20 {
        let key = format!("k/{revision}");
        store
            .commit(revision, &[Change::Put(&key, &object)])
            .expect("committed");
    }
    drop(store);
    let path = directory.path().join(FILE);
    let mut bytes = fs::read(&path).expect("read");
    // Behind the header pages, the trees.
    bytes.iter_mut().skip(8 * 4096).for_each(|byte| *byte ^= 0x5a);
    fs::write(&path, bytes).expect("written");
    let found = Store::open(directory.path()).and_then(|store| store.load());
    assert!(
        matches!(found, Err(StoreError::Damaged { .. } | StoreError::Foreign(_))),
        "{found:?}"
    );
}

#[test]
fn an_empty_file_is_a_loss_and_not_a_new_store() {
    let directory = directory();
    drop(open(directory.path()));
    let path = directory.path().join(FILE);
    fs::write(&path, "").expect("emptied");
    let error = Store::open(directory.path()).map(drop).expect_err("empty");
    assert!(error.to_string().contains("store.redb is empty"), "{error}");
    assert_eq!(fs::metadata(&path).expect("kept").len(), 0);
    fs::remove_file(&path).expect("moved away");
    std::os::unix::fs::symlink("nowhere", &path).expect("linked");
    assert!(Store::open(directory.path()).is_err());
    fs::remove_file(&path).expect("moved away");
    assert_eq!(open(directory.path()).load().expect("readable").revision, 0);
}

#[test]
fn what_a_crash_left_of_a_store_in_the_making_is_no_obstacle() {
    let directory = directory();
    for left in ["", "half a store"] {
        fs::write(directory.path().join(NEW_FILE), left).expect("written");
        drop(open(directory.path()));
        assert!(!directory.path().join(NEW_FILE).exists());
        fs::remove_file(directory.path().join(FILE)).expect("removed");
    }
}

#[test]
fn a_store_that_vanishes_while_it_is_open_is_not_made_anew() {
    let directory = directory();
    let mut store = open(directory.path());
    store.database = None;
    fs::remove_file(directory.path().join(FILE)).expect("removed");
    assert!(store.commit(0, &[Change::Put("a", &json!({}))]).is_err());
    assert!(!directory.path().join(FILE).exists());
}

#[test]
fn of_many_that_make_the_same_store_at_once_one_has_it() {
    let directory = directory();
    let opened: Vec<Result<Store, StoreError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(directory.path()))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1);
    for refused in opened.iter().filter_map(|opened| opened.as_ref().err()) {
        assert!(matches!(refused, StoreError::InUse(_)), "{refused}");
    }
}
