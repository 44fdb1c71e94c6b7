//! Where payload waits: blocks that are shared instead of copied.
//!
//! | module | what it is |
//! |---|---|
//! | [`blocks`] | the memory: [`Pool`] hands out [`Block`]s and finds the ones whose views are gone |
//! | [`queue`] | a FIFO of bytes in pieces, read by copy or by view: [`Queue`] |
//! | [`ranges`] | what arrived out of order: [`Ranges`] |
//!
//! [`Payload`] is how bytes come in, and carries the rule for what is kept and what is copied. Nothing here knows a connection.

pub(crate) mod blocks;
pub(crate) mod queue;
pub(crate) mod ranges;

use bytes::{Buf, Bytes};

pub(crate) use blocks::{Block, Pool};
pub(crate) use queue::Queue;
pub(crate) use ranges::Ranges;

use crate::proto::link::RECEIVE_ROOM;

/// The shortest piece that is kept as it is, in bytes; below, a copy costs less than a reference count and the memory that it pins.
pub(crate) const SHARE_MIN: usize = 4096;

/// The shortest payload for which a frame's buffer is kept, in bytes: half of it, so that kept memory is at most twice the bytes kept.
pub(crate) const FRAME_MIN: usize = RECEIVE_ROOM / 2;

/// Bytes on their way into a [`Queue`], with what is known about the memory that they stand in.
#[derive(Clone, Debug)]
pub(crate) enum Payload<'a> {
    /// Somebody else's bytes: copied.
    Borrowed(&'a [u8]),
    /// Part of a frame's own buffer of [`RECEIVE_ROOM`] bytes: kept from [`FRAME_MIN`] bytes on.
    Frame(Bytes),
    /// Pieces of a sender's blocks, from this very process: each is kept from [`SHARE_MIN`] bytes on.
    Views(Views<'a>),
}

/// Pieces in order, trimmed at both ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Views<'a> {
    pieces: &'a [Bytes],
    /// Bytes of `pieces` that lie before the payload.
    skip: usize,
    len: usize,
}

impl<'a> Views<'a> {
    /// All of `pieces`.
    #[must_use]
    pub(crate) fn new(pieces: &'a [Bytes]) -> Self {
        Self { pieces, skip: 0, len: pieces.iter().map(Bytes::len).sum() }
    }

    /// The pieces, trimmed; none is empty.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Bytes> {
        let (mut skip, mut left) = (self.skip, self.len);
        self.pieces.iter().filter_map(move |piece| {
            let start = skip.min(piece.len());
            let end = piece.len().min(start + left);
            skip -= start;
            left -= end - start;
            (start < end).then(|| piece.slice(start..end))
        })
    }
}

impl Payload<'_> {
    /// Bytes.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Frame(bytes) => bytes.len(),
            Self::Views(views) => views.len,
        }
    }

    /// True without a byte.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops `bytes` bytes, or all if there are fewer, from the front.
    pub(crate) fn trim_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len());
        match self {
            Self::Borrowed(slice) => *slice = &slice[bytes..],
            Self::Frame(frame) => frame.advance(bytes),
            Self::Views(views) => {
                views.skip += bytes;
                views.len -= bytes;
            }
        }
    }

    /// Keeps at most the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Borrowed(slice) => *slice = &slice[..len.min(slice.len())],
            Self::Frame(frame) => frame.truncate(len),
            Self::Views(views) => views.len = views.len.min(len),
        }
    }

    /// Takes at most the first `len` bytes away.
    #[must_use]
    pub(crate) fn take_front(&mut self, len: usize) -> Self {
        let mut front = self.clone();
        front.truncate(len);
        self.trim_front(len);
        front
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(payload: &Payload<'_>) -> Vec<u8> {
        match payload {
            Payload::Borrowed(bytes) => bytes.to_vec(),
            Payload::Frame(bytes) => bytes.to_vec(),
            Payload::Views(views) => views.iter().flatten().collect(),
        }
    }

    proptest::proptest! {
        #[test]
        fn all_kinds_are_cut_alike(lengths in proptest::collection::vec(0usize..5, 0..6), front in 0usize..12, keep in 0usize..12, take in 0usize..12) {
            let mut counter = 0;
            let pieces: Vec<Bytes> = lengths.iter().map(|len| (0..*len).map(|_| { counter += 1; counter }).collect()).collect();
            let whole = pieces.concat();
            for mut payload in [Payload::Borrowed(&whole), Payload::Frame(whole.clone().into()), Payload::Views(Views::new(&pieces))] {
                payload.trim_front(front);
                payload.truncate(keep);
                let expected: Vec<u8> = whole.iter().copied().skip(front).take(keep).collect();
                proptest::prop_assert_eq!(payload.len(), expected.len());
                let first = payload.take_front(take);
                proptest::prop_assert_eq!(bytes_of(&first), &expected[..take.min(expected.len())]);
                proptest::prop_assert_eq!(bytes_of(&payload), &expected[take.min(expected.len())..]);
            }
        }
    }
}
