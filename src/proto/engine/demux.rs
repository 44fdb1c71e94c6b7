//! From a 4-tuple to the slot of its record: hash tables that hold slot numbers only.
//!
//! An entry is eight bytes, half of it a fingerprint of the keyed hash: a table grows without touching a record, and a look-up touches only
//! records whose fingerprint fits. The caller hashes once per segment and asks as many tables as it has. Tables are never iterated, since
//! their order would leak into behaviour.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

use crate::proto::random::{Secrets, TableHash};
use crate::proto::wire::Tuple;

/// The keyed hash of tuples. All tables of an engine that are asked for tuples share one.
#[derive(Clone, Debug)]
pub(crate) struct TupleHash(TableHash);

impl TupleHash {
    /// The hash of tables keyed by tuples.
    #[must_use]
    pub(crate) fn new(secrets: &Secrets) -> Self {
        Self(secrets.table_hash("demux"))
    }

    /// The hash of a tuple.
    #[must_use]
    pub(crate) fn hash(&self, tuple: &Tuple) -> u64 {
        self.hash_bytes(&tuple.to_bytes())
    }

    /// The hash of anything else that is looked up.
    #[must_use]
    pub(crate) fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

/// Slot numbers by hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    table: HashTable<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    fingerprint: u32,
    slot: u32,
}

impl Entry {
    fn new(hash: u64, slot: u32) -> Self {
        Self { fingerprint: fingerprint(hash), slot }
    }

    /// The table's hash: it wants entropy at both ends.
    fn hash(&self) -> u64 {
        u64::from(self.fingerprint) << 32 | u64::from(self.fingerprint)
    }
}

impl Index {
    /// An empty index.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Entries.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// True without an entry.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds a slot. The caller knows that the slot is not there.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) {
        let entry = Entry::new(hash, slot);
        self.table.insert_unique(entry.hash(), entry, Entry::hash);
    }

    /// The slot under this hash for which `is_it` holds.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let wanted = Entry::new(hash, 0);
        let found = self.table.find(wanted.hash(), |entry| entry.fingerprint == wanted.fingerprint && is_it(entry.slot));
        found.map(|entry| entry.slot)
    }

    /// Removes a slot; false if it was not there. A table that is mostly empty shrinks.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let wanted = Entry::new(hash, slot);
        let Ok(entry) = self.table.find_entry(wanted.hash(), |entry| *entry == wanted) else { return false };
        entry.remove();
        let len = self.table.len();
        if self.table.capacity() > 64 && len < self.table.capacity() / 8 {
            self.table.shrink_to(len * 2, Entry::hash);
        }
        true
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
    }
}

const fn fingerprint(hash: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the low half of a hash is as good as the whole")]
    let fingerprint = hash as u32;
    fingerprint
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn tuple(number: u16) -> Tuple {
        let local = "10.0.0.1:80".parse().unwrap();
        let mut tuple = Tuple::new(local, "10.0.0.2:1".parse().unwrap());
        tuple.remote_port = number;
        tuple
    }

    proptest::proptest! {
        #[test]
        fn it_is_a_map(ops in proptest::collection::vec((0u16..300, proptest::bool::ANY), 1..2000)) {
            let hasher = TupleHash::new(&Secrets::new([7; 32]));
            let (mut index, mut model, mut records) = (Index::new(), HashMap::new(), Vec::new());
            for (number, insert) in ops {
                let (tuple, hash) = (tuple(number), hasher.hash(&tuple(number)));
                let found = index.find(hash, |slot| records[slot as usize] == tuple);
                proptest::prop_assert_eq!(found, model.get(&number).copied());
                match found {
                    None if insert => {
                        let slot = u32::try_from(records.len()).unwrap();
                        records.push(tuple);
                        index.insert(hash, slot);
                        model.insert(number, slot);
                    }
                    Some(slot) if !insert => {
                        proptest::prop_assert!(index.remove(hash, slot) && !index.remove(hash, slot));
                        model.remove(&number);
                    }
                    _ => {}
                }
                proptest::prop_assert_eq!(index.len(), model.len());
            }
        }
    }

    #[test]
    fn a_table_shrinks_after_a_flood() {
        let mut index = Index::new();
        let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..100_000).for_each(|slot| index.insert(hash(slot), slot));
        (0..100_000).for_each(|slot| assert!(index.remove(hash(slot), slot)));
        assert!(index.is_empty() && index.table.capacity() < 256);
    }
}
