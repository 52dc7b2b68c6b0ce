//! Tests of the config folder: what is in it is in force, all or nothing, steady, its own.

use std::{fs, sync::Arc, time::SystemTime};

use tokio::time::Instant;

use super::*;
use crate::{
    config::{Key, Kind},
    snapshot::World,
    store::Store,
};

/// A store, a folder, and the control plane between them.
struct Plane {
    store: tempfile::TempDir,
    folder: tempfile::TempDir,
    ingest: Ingest,
    world: watch::Receiver<Arc<World>>,
}

fn open(store: &Path) -> (Ingest, watch::Receiver<Arc<World>>) {
    let store = Store::open(store).expect("a store");
    Ingest::start(store, || SystemTime::UNIX_EPOCH, "tsunagi-system").expect("a start")
}

impl Plane {
    fn new(files: &[(&str, String)]) -> Self {
        let temporary = || tempfile::tempdir().expect("a temporary folder");
        let (store, folder) = (temporary(), temporary());
        let (ingest, world) = open(store.path());
        let plane = Self {
            store,
            folder,
            ingest,
            world,
        };
        for (name, text) in files {
            plane.write(name, text);
        }
        plane
    }

    fn restart(self) -> Self {
        let Self {
            store,
            folder,
            ingest,
            world,
        } = self;
        drop((ingest, world));
        let (ingest, world) = open(store.path());
        Self {
            store,
            folder,
            ingest,
            world,
        }
    }

    async fn follow(&self) -> Folder {
        Folder::start(self.folder.path(), self.ingest.clone())
            .await
            .expect("a readable folder")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    /// Name and port of each service in force.
    fn services(&self) -> Vec<(String, u64)> {
        let held = self.ingest.held();
        let port = |document: &Document| document.object["spec"]["ports"][0]["port"].as_u64().unwrap_or_default();
        held.documents
            .iter()
            .map(|(key, document)| (key.name.clone(), port(document)))
            .collect()
    }

    async fn apply(&self, text: &str) -> Result<Applied, Refused> {
        let documents = config::parse("request", text, "default").expect("valid documents");
        self.ingest.apply(documents, false).await
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  selector: {{app: {name}}}\n  \
         ports:\n  - {{name: http, port: {port}}}\n"
    )
}

fn services<const N: usize>(expected: [(&str, u64); N]) -> Vec<(String, u64)> {
    expected.map(|(name, port)| (name.to_owned(), port)).to_vec()
}

fn key(name: &str) -> Key {
    Key {
        kind: Kind::Service,
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

fn told(folder: &Folder) -> String {
    folder
        .told
        .as_ref()
        .map(|(_, lines)| lines.join("\n"))
        .unwrap_or_default()
}

#[tokio::test]
async fn at_start_all_files_are_one_transaction_and_what_else_is_stored_stays() {
    let plane = Plane::new(&[("a.yaml", service("a", 1)), ("shop/b.yaml", service("b", 2))]);
    plane.apply(&service("other", 9)).await.expect("applied");
    plane.follow().await;
    assert_eq!(plane.services(), services([("a", 1), ("b", 2), ("other", 9)]));
    assert_eq!(plane.world.borrow().revision(), 2);
}

#[tokio::test]
async fn a_change_is_applied_at_its_second_look_and_a_file_in_the_making_never() {
    let plane = Plane::new(&[("a.yaml", service("a", 1))]);
    let mut folder = plane.follow().await;
    for half in 1..20 {
        plane.write("a.yaml", &service("a", 2)[..half]);
        folder.follow().await;
    }
    assert_eq!((plane.services(), told(&folder)), (services([("a", 1)]), String::new()));
    plane.write("a.yaml", &service("a", 2));
    folder.follow().await;
    assert_eq!(plane.services(), services([("a", 1)]));
    folder.follow().await;
    assert_eq!(plane.services(), services([("a", 2)]));
    let revision = plane.world.borrow().revision();
    folder.follow().await;
    assert_eq!(plane.world.borrow().revision(), revision);
}

#[tokio::test]
async fn a_problem_anywhere_leaves_the_last_good_in_force_and_is_told_with_its_place() {
    let plane = Plane::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 1))]);
    let mut folder = plane.follow().await;
    plane.write("a.yaml", &service("a", 2));
    plane.write("b.yaml", &service("b", 2).replace("selector", "selektor"));
    folder.follow().await;
    folder.follow().await;
    assert_eq!(plane.services(), services([("a", 1), ("b", 1)]));
    let expected = format!(
        "{}:6: Service/b: spec.selektor: unknown field",
        plane.path("b.yaml").display()
    );
    assert!(told(&folder).starts_with(&expected), "{}", told(&folder));
    plane.write("b.yaml", &service("b", 2));
    folder.follow().await;
    folder.follow().await;
    assert_eq!(plane.services(), services([("a", 2), ("b", 2)]));
    assert_eq!(told(&folder), "");
}

#[tokio::test]
async fn a_broken_folder_at_start_leaves_what_is_stored_in_force() {
    let plane = Plane::new(&[("a.yaml", service("a", 1))]);
    plane.follow().await;
    let plane = plane.restart();
    plane.write("a.yaml", "kind: [");
    let folder = plane.follow().await;
    assert_eq!(plane.services(), services([("a", 1)]));
    assert!(
        told(&folder).starts_with(&format!("{}:", plane.path("a.yaml").display())),
        "{}",
        told(&folder)
    );
}

#[tokio::test]
async fn one_name_in_two_files_is_refused_with_both_places() {
    let plane = Plane::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("a", 2))]);
    let folder = plane.follow().await;
    assert_eq!(plane.services(), []);
    let (first, second) = (plane.path("a.yaml"), plane.path("b.yaml"));
    let told = told(&folder);
    assert!(
        told.starts_with(&format!("{}:1: Service/a: ", second.display())),
        "{told}"
    );
    assert!(told.contains(&format!("first at {}:1", first.display())), "{told}");
}

#[tokio::test]
async fn what_vanishes_from_the_folder_is_deleted_also_across_a_restart() {
    let files = ["a", "b", "c"].map(|name| (name, service(name, 1)));
    let plane = Plane::new(&[]);
    for (name, text) in files {
        plane.write(&format!("{name}.yaml"), &text);
    }
    plane.apply(&service("other", 9)).await.expect("applied");
    let mut folder = plane.follow().await;
    plane.remove("a.yaml");
    folder.follow().await;
    folder.follow().await;
    assert_eq!(plane.services(), services([("b", 1), ("c", 1), ("other", 9)]));
    drop(folder);
    plane.remove("b.yaml");
    let plane = plane.restart();
    assert_eq!(plane.services().len(), 3);
    plane.follow().await;
    assert_eq!(plane.services(), services([("c", 1), ("other", 9)]));
}

#[tokio::test]
async fn what_is_the_folders_is_written_by_nobody_else_also_after_a_restart() {
    let plane = Plane::new(&[("shop/a.yaml", service("a", 1))]);
    plane.follow().await;
    let plane = plane.restart();
    plane.follow().await;
    let file = plane.path("shop/a.yaml").display().to_string();
    let both = [service("a", 2), service("b", 2)].join("---\n");
    for refused in [
        plane.apply(&both).await.map(drop),
        plane.ingest.delete(vec![key("a")], false).await.map(drop),
        plane.ingest.delete(vec![key("a")], true).await.map(drop),
    ] {
        let refused = refused.expect_err("refused");
        assert!(matches!(refused, Refused::Conflict { .. }), "{refused}");
        assert!(refused.to_string().contains(&file), "{refused}");
    }
    assert_eq!(plane.services(), services([("a", 1)]));
}

#[tokio::test]
async fn without_the_folder_its_documents_are_anyones_and_whose_they_become_they_stay() {
    let plane = Plane::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 1))]);
    plane.follow().await;
    let plane = plane.restart();
    plane.apply(&service("a", 2)).await.expect("applied");
    plane.remove("a.yaml");
    plane.write("b.yaml", "# Nothing any more.\n");
    plane.follow().await;
    assert_eq!(plane.services(), services([("a", 2)]));
}

#[tokio::test]
async fn an_empty_folder_at_start_is_a_mistake_that_is_told_once_and_deletes_nothing() {
    let plane = Plane::new(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 1))]);
    plane.follow().await;
    for name in ["a.yaml", "b.yaml"] {
        plane.remove(name);
    }
    let plane = plane.restart();
    let mut folder = plane.follow().await;
    let said = told(&folder);
    assert!(said.contains("the resources that came from it (2) stay"), "{said}");
    for _ in 0..3 {
        folder.follow().await;
    }
    assert_eq!((plane.services().len(), told(&folder)), (2, said));
    assert!(plane.ingest.awaits_folder().is_none(), "there is what was there before");
    plane.write("a.yaml", &service("a", 2));
    for _ in 0..2 {
        folder.follow().await;
    }
    assert_eq!(plane.services(), services([("a", 2)]));
    // Emptied while it is watched, that is the wish.
    plane.remove("a.yaml");
    for _ in 0..2 {
        folder.follow().await;
    }
    assert_eq!((plane.services(), told(&folder)), (services([]), String::new()));
}

#[tokio::test]
async fn an_empty_store_waits_for_the_first_good_content() {
    for first in [None, Some("kind: [")] {
        let plane = Plane::new(&[]);
        first.iter().for_each(|text| plane.write("a.yaml", text));
        assert!(plane.ingest.awaits_folder().is_none(), "there is no folder yet");
        let mut folder = plane.follow().await;
        assert_eq!(plane.ingest.awaits_folder(), Some(plane.folder.path()));
        plane.write("a.yaml", &service("a", 1));
        for _ in 0..2 {
            folder.follow().await;
        }
        assert!(plane.ingest.awaits_folder().is_none());
        assert_eq!(plane.services(), services([("a", 1)]));
        plane.remove("a.yaml");
        for _ in 0..2 {
            folder.follow().await;
        }
        assert!(plane.ingest.awaits_folder().is_none(), "it was in force once");
    }
    let plane = Plane::new(&[]);
    let _folder = plane.follow().await;
    plane.apply(&service("other", 9)).await.expect("applied");
    assert!(plane.ingest.awaits_folder().is_none());
}

#[tokio::test]
async fn the_annotation_that_says_so_is_the_folders_alone() {
    let plane = Plane::new(&[("b.yaml", service("b", 1))]);
    plane.follow().await;
    let claimed = service("a", 1).replace(
        "  name: a\n",
        "  name: a\n  annotations: {tsunagi.dev/config-file: b.yaml}\n",
    );
    plane.apply(&claimed).await.expect("applied");
    plane.apply(&service("a", 2)).await.expect("not the folder's");
    let mut folder = plane.follow().await;
    folder.follow().await;
    assert_eq!(plane.services(), services([("a", 2), ("b", 1)]));
}

#[tokio::test]
async fn a_file_made_from_what_get_shows_takes_its_document_over() {
    let plane = Plane::new(&[]);
    plane.apply(&service("a", 1)).await.expect("applied");
    let mut object = plane.ingest.held().documents[&key("a")].object.clone();
    plane.apply(&service("a", 2)).await.expect("applied");
    object["spec"]["ports"][0]["port"] = 3.into();
    plane.write("a.json", &object.to_string());
    plane.follow().await;
    assert_eq!(plane.services(), services([("a", 3)]));
    assert!(plane.apply(&service("a", 4)).await.is_err());
}

#[tokio::test]
async fn a_folder_that_is_not_there_stops_the_start_and_later_leaves_all_in_force() {
    let plane = Plane::new(&[("a.yaml", service("a", 1))]);
    let missing = Folder::start(&plane.path("gone"), plane.ingest.clone()).await;
    let sentence = missing.map(drop).expect_err("not there").to_string();
    assert!(sentence.starts_with("cannot read --config-dir "), "{sentence}");
    assert!(sentence.contains("gone"), "{sentence}");

    let mut folder = plane.follow().await;
    let away = plane.store.path().join("away");
    fs::rename(plane.folder.path(), &away).expect("moved");
    for _ in 0..3 {
        folder.follow().await;
    }
    assert_eq!(plane.services(), services([("a", 1)]));
    assert!(told(&folder).contains("cannot be read"), "{}", told(&folder));
    fs::rename(&away, plane.folder.path()).expect("moved back");
    for _ in 0..2 {
        folder.follow().await;
    }
    assert_eq!(told(&folder), "");
}

#[tokio::test]
async fn a_log_is_not_flooded() {
    let folder: Vec<_> = (0..80)
        .map(|line| Problem {
            line,
            ..Problem::default()
        })
        .collect();
    let lines = lines(&folder);
    assert_eq!(lines.len(), MOST_PROBLEMS_TOLD + 1);
    assert_eq!(lines.last().map(String::as_str), Some("and 30 more problems"));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_force_within_two_looks_until_it_is_stopped() {
    let mut plane = Plane::new(&[("a.yaml", service("a", 1))]);
    let folder = plane.follow().await;
    let (stop, stopped) = watch::channel(false);
    let watching = tokio::spawn(folder.watch(stopped));
    plane.world.mark_unchanged();
    plane.write("a.yaml", &service("a", 2));
    let begun = Instant::now();
    plane.world.changed().await.expect("published");
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!(plane.services(), services([("a", 2)]));
    stop.send_replace(true);
    watching.await.expect("it ends");
}
