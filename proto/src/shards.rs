//! A map by name of which a copy costs next to nothing and shares all that is not changed in it afterwards. It is what
//! lets both planes make their next state from the previous one in the time that the change itself takes.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// Enough that the copy of one is small at 100,000 names.
const SHARDS: usize = 256;

/// A shard with room for no more than this is left as it is.
const ROOM: usize = 64;

#[derive(Clone, Debug)]
pub struct Shards<V> {
    shards: Vec<Arc<HashMap<Arc<str>, V>>>,
}

impl<V> Default for Shards<V> {
    fn default() -> Self {
        Shards {
            shards: (0..SHARDS).map(|_| Arc::default()).collect(),
        }
    }
}

fn shard_of(name: &str) -> usize {
    usize::try_from(xxh3_64(name.as_bytes()) % (SHARDS as u64)).unwrap_or_default()
}

impl<V: Clone> Shards<V> {
    pub fn get(&self, name: &str) -> Option<&V> {
        self.shards.get(shard_of(name))?.get(name)
    }

    pub fn insert(&mut self, name: &str, value: V) {
        if let Some(shard) = self.shards.get_mut(shard_of(name)) {
            Arc::make_mut(shard).insert(name.into(), value);
        }
    }

    pub fn remove(&mut self, name: &str) {
        if let Some(shard) = self
            .shards
            .get_mut(shard_of(name))
            .filter(|shard| shard.contains_key(name))
        {
            let shard = Arc::make_mut(shard);
            shard.remove(name);
            // What was large once need not stay so, in memory and in every copy.
            if shard.capacity() > ROOM && shard.len() < shard.capacity() / 8 {
                shard.shrink_to(shard.len() * 2);
            }
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Changes the value in place; without one, `V::default()` is put there first.
    pub fn entry(&mut self, name: &str) -> Option<&mut V>
    where
        V: Default,
    {
        let shard = Arc::make_mut(self.shards.get_mut(shard_of(name))?);
        if !shard.contains_key(name) {
            shard.insert(name.into(), V::default());
        }
        shard.get_mut(name)
    }

    /// How many of its parts it shares with a copy, of [`Self::PARTS`].
    pub fn shared_with(&self, copy: &Self) -> usize {
        let parts = self.shards.iter().zip(&copy.shards);
        parts.filter(|(one, other)| Arc::ptr_eq(one, other)).count()
    }

    pub const PARTS: usize = SHARDS;

    /// In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_is_changed_in_the_original_afterwards() {
        let mut first: Shards<u32> = Shards::default();
        first.insert("a", 1);
        let copy = first.clone();
        first.insert("a", 2);
        *first.entry("b").unwrap() += 1;
        first.remove("nobody");
        assert_eq!((copy.get("a"), copy.get("b")), (Some(&1), None));
        assert_eq!((first.get("a"), first.get("b")), (Some(&2), Some(&1)));
        first.remove("a");
        assert_eq!(first.iter().count(), 1);
    }

    #[test]
    fn what_was_large_does_not_stay_so() {
        let mut all: Shards<u32> = Shards::default();
        let room = |all: &Shards<u32>| all.shards.iter().map(|shard| shard.capacity()).sum::<usize>();
        (0..50_000).for_each(|n| all.insert(&n.to_string(), n));
        let large = room(&all);
        (10..50_000).for_each(|n| all.remove(&n.to_string()));
        assert!(room(&all) * 2 < large, "{} of {large}", room(&all));
        assert_eq!(all.iter().count(), 10);
    }

    #[test]
    fn a_change_copies_one_shard_only() {
        let mut first: Shards<u32> = Shards::default();
        (0..1000).for_each(|n| first.insert(&n.to_string(), n));
        let copy = first.clone();
        first.insert("7", 0);
        assert_eq!(first.shared_with(&copy), Shards::<u32>::PARTS - 1);
    }
}
