//! All documents of one moment, by key. A copy shares all that is not changed in it afterwards, so that the set after a
//! change costs what the change does. Held by `ingest` and `snapshot`.

use std::collections::{BTreeMap, HashSet};
use std::ops::Index;
use std::sync::Arc;

use super::{Document, Key, Kind};

/// A chunk is copied whole when one of its documents changes, and every set has a pointer to each chunk: with 100,000
/// documents both are some hundreds.
const LARGEST_CHUNK: usize = 256;

type Chunk = Arc<Vec<Arc<Document>>>;

#[derive(Clone, Debug, Default)]
pub struct DocumentSet {
    /// Sorted by key, and so are the documents of each; none is empty.
    chunks: Vec<Chunk>,
    counts: BTreeMap<Kind, usize>,
}

/// Documents that went and documents that came; one that was replaced is in both. Sorted by key.
#[derive(Debug, Default)]
pub struct Difference {
    pub removed: Vec<Arc<Document>>,
    pub added: Vec<Arc<Document>>,
}

impl DocumentSet {
    pub fn get(&self, key: &Key) -> Option<&Arc<Document>> {
        let chunk = self.chunks.get(self.place(key))?;
        let index = position(chunk, key).ok()?;
        chunk.get(index)
    }

    pub fn contains_key(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.counts.values().sum()
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many there are of each kind that there is.
    pub fn counts(&self) -> &BTreeMap<Kind, usize> {
        &self.counts
    }

    pub fn values(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        self.values().map(|document| (&document.key, document))
    }

    /// In place of the one of the same key, if there is one.
    pub fn insert(&mut self, document: Arc<Document>) {
        let at = self.place(&document.key);
        let kind = document.key.kind;
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![document]));
            *self.counts.entry(kind).or_default() += 1;
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match position(chunk, &document.key) {
            Ok(index) => chunk[index] = document,
            Err(index) => {
                chunk.insert(index, document);
                *self.counts.entry(kind).or_default() += 1;
            }
        }
        if chunk.len() > LARGEST_CHUNK {
            let second = chunk.split_off(chunk.len() / 2);
            self.chunks.insert(at + 1, Arc::new(second));
        }
    }

    /// False: there is none of this key.
    pub fn remove(&mut self, key: &Key) -> bool {
        let at = self.place(key);
        let Some(index) = self.chunks.get(at).and_then(|chunk| position(chunk, key).ok()) else {
            return false;
        };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.remove(index);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        if let Some(count) = self.counts.get_mut(&key.kind) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key.kind);
            }
        }
        true
    }

    /// The chunk where a document of this key is, if it is anywhere.
    fn place(&self, key: &Key) -> usize {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|first| first.key <= *key));
        after.saturating_sub(1)
    }

    /// What is another than in `previous`. A document that means the same is not.
    pub fn since(&self, previous: &Self) -> Difference {
        let pointers = |set: &Self| set.chunks.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
        let (old, new) = (pointers(previous), pointers(self));
        let unshared = |set: &Self, other: &HashSet<_>| -> Vec<Arc<Document>> {
            let chunks = set.chunks.iter().filter(|chunk| !other.contains(&Arc::as_ptr(chunk)));
            chunks.flat_map(|chunk| chunk.iter().cloned()).collect()
        };
        between(unshared(previous, &new), unshared(self, &old))
    }
}

fn position(chunk: &[Arc<Document>], key: &Key) -> Result<usize, usize> {
    chunk.binary_search_by(|document| document.key.cmp(key))
}

/// Both are sorted by key.
fn between(previous: Vec<Arc<Document>>, next: Vec<Arc<Document>>) -> Difference {
    let mut difference = Difference::default();
    let mut old = previous.into_iter().peekable();
    for document in next {
        while let Some(gone) = old.next_if(|old| old.key < document.key) {
            difference.removed.push(gone);
        }
        match old.next_if(|old| old.key == document.key) {
            Some(same) if Arc::ptr_eq(&same, &document) || same.means_the_same(&document) => {}
            replaced => {
                difference.removed.extend(replaced);
                difference.added.push(document);
            }
        }
    }
    difference.removed.extend(old);
    difference
}

impl FromIterator<Arc<Document>> for DocumentSet {
    /// In any order. Of two with one key the later stays.
    fn from_iter<I: IntoIterator<Item = Arc<Document>>>(documents: I) -> Self {
        let mut sorted: Vec<Arc<Document>> = documents.into_iter().collect();
        sorted.sort_by(|one, other| one.key.cmp(&other.key));
        sorted.reverse();
        sorted.dedup_by(|one, other| one.key == other.key);
        sorted.reverse();
        let mut set = Self::default();
        for document in &sorted {
            *set.counts.entry(document.key.kind).or_default() += 1;
        }
        // Half full, so that there is room for more.
        set.chunks = sorted
            .chunks(LARGEST_CHUNK / 2)
            .map(|chunk| Arc::new(chunk.to_vec()))
            .collect();
        set
    }
}

impl Index<&Key> for DocumentSet {
    type Output = Arc<Document>;

    fn index(&self, key: &Key) -> &Arc<Document> {
        self.get(key).expect("a document of this key")
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::parse;
    use super::*;

    fn service(name: usize, port: u16) -> Arc<Document> {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s{name}}}, spec: {{ports: [{{port: {port}}}]}}}}"
        );
        Arc::new(parse("", &text, "").unwrap().remove(0))
    }

    fn names(documents: &[Arc<Document>]) -> Vec<&str> {
        documents.iter().map(|document| document.key.name.as_str()).collect()
    }

    #[test]
    fn only_what_changed_its_meaning_differs() {
        let old: DocumentSet = (0..4).map(|name| service(name, 1)).collect();
        let mut new = old.clone();
        new.insert(service(1, 2));
        new.insert(service(2, 1));
        new.remove(&service(3, 1).key);
        new.insert(service(4, 1));
        let difference = new.since(&old);
        assert_eq!(names(&difference.removed), ["s1", "s3"]);
        assert_eq!(names(&difference.added), ["s1", "s4"]);
    }

    #[test]
    fn of_two_with_one_key_the_later_stays() {
        let set: DocumentSet = [service(2, 1), service(1, 1), service(2, 9)].into_iter().collect();
        let again = service(2, 9);
        assert_eq!(set.len(), 2);
        assert!(set[&again.key].means_the_same(&again));
    }

    #[test]
    fn a_change_among_many_copies_one_chunk() {
        let before: DocumentSet = (0..5000).map(|name| service(name, 1)).collect();
        let mut after = before.clone();
        after.insert(service(2500, 2));
        let shared = |set: &DocumentSet| {
            let others: HashSet<_> = before.chunks.iter().map(Arc::as_ptr).collect();
            set.chunks
                .iter()
                .filter(|chunk| others.contains(&Arc::as_ptr(chunk)))
                .count()
        };
        assert_eq!(shared(&after), before.chunks.len() - 1);
        assert_eq!(after.since(&before).added.len(), 1);
    }

    #[test]
    fn it_holds_what_a_map_holds_and_differs_from_every_earlier_one_as_maps_do() {
        let mut random = StdRng::seed_from_u64(3);
        let (mut set, mut map) = (DocumentSet::default(), BTreeMap::new());
        let (mut earlier, mut earlier_map) = (set.clone(), map.clone());
        for step in 0..4000 {
            let document = service(random.random_range(0..900), random.random_range(1..3));
            if random.random_range(0..3) > 0 || step < 500 {
                set.insert(Arc::clone(&document));
                map.insert(document.key.clone(), document);
            } else {
                assert_eq!(set.remove(&document.key), map.remove(&document.key).is_some());
            }
            if step % 97 == 0 {
                assert!(set.iter().map(|(key, _)| key).eq(map.keys()) && set.len() == map.len());
                assert!(
                    set.chunks
                        .iter()
                        .all(|chunk| (1..=LARGEST_CHUNK).contains(&chunk.len()))
                );
                let came = map.iter().filter(|(key, document)| {
                    let before: Option<&Arc<Document>> = earlier_map.get(*key);
                    before.is_none_or(|before| !before.means_the_same(document))
                });
                let came: Vec<&str> = came.map(|(key, _)| key.name.as_str()).collect();
                assert_eq!(names(&set.since(&earlier).added), came, "step {step}");
                let gone = earlier.since(&set).added;
                assert_eq!(names(&gone), names(&set.since(&earlier).removed));
                (earlier, earlier_map) = (set.clone(), map.clone());
            }
        }
    }
}
