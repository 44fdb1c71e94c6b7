//! Chance as an argument: every unpredictable choice of the core comes from one secret of 32 bytes.
//!
//! [`Secrets`] derives independent keys from it by purpose; [`KeyedHash`] is SipHash-2-4 for values that an attacker must not be able to
//! compute (initial sequence numbers, ports, timestamp offsets), [`TableHash`] the faster SipHash-1-3 for hash tables whose keys an attacker
//! chooses. The same secret gives the same choices in any process.

use std::hash::{BuildHasher, Hasher};

use siphasher::sip::{SipHasher13, SipHasher24};

/// The source of all keys and of the pseudo-random stream.
#[derive(Clone)]
pub(crate) struct Secrets {
    root: [u8; 32],
}

impl Secrets {
    /// Takes the secret, which must come from the operating system outside of tests and simulation.
    pub(crate) const fn new(root: [u8; 32]) -> Self {
        Self { root }
    }

    /// A key for one purpose, independent of the keys for all others.
    pub(crate) fn keyed_hash(&self, purpose: &str) -> KeyedHash {
        KeyedHash { key: self.derive(purpose) }
    }

    /// The hash of a table.
    pub(crate) fn table_hash(&self, purpose: &str) -> TableHash {
        TableHash { key: self.derive(purpose) }
    }

    /// A stream of pseudo-random numbers.
    pub(crate) fn generator(&self, purpose: &str) -> Generator {
        Generator { hash: self.keyed_hash(purpose), counter: 0 }
    }

    fn derive(&self, purpose: &str) -> [u8; 16] {
        let (left, right) = self.root.split_at(16);
        let mut key = [0; 16];
        for (half, out) in [left, right].into_iter().zip(key.chunks_exact_mut(8)) {
            let mut seed = [0; 16];
            seed.copy_from_slice(half);
            let mut hasher = SipHasher24::new_with_key(&seed);
            hasher.write(purpose.as_bytes());
            out.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        key
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// SipHash-2-4 under a secret key: a pseudo-random function.
#[derive(Clone)]
pub(crate) struct KeyedHash {
    key: [u8; 16],
}

impl KeyedHash {
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    }
}

impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(..)")
    }
}

/// SipHash-1-3 under a secret key, as a table's hash.
#[derive(Clone)]
pub(crate) struct TableHash {
    key: [u8; 16],
}

impl BuildHasher for TableHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.key)
    }
}

impl std::fmt::Debug for TableHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TableHash(..)")
    }
}

/// A stream of pseudo-random numbers: the keyed hash of a counter.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    hash: KeyedHash,
    counter: u64,
}

impl Generator {
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        self.hash.hash(&[&self.counter.to_le_bytes()])
    }
}
