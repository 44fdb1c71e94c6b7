//! Blocks of payload memory, and the pool that finds those whose last view is gone.
//!
//! ```text
//!             take                     freeze what is filled              retire
//!   Pool ------------> Block [filled|room] ------------> views in frames ---------> Pool: pinned --(views dropped)--> free
//! ```
//!
//! A block is a `BytesMut` whose filled part is split off as `Bytes` views; views outlive every lock and are dropped wherever a frame ends.
//! The pool keeps the handle of a block that was given back and asks it now and then whether all views are gone (`try_reclaim`). Growing a
//! `BytesMut` that still has views allocates a byte per byte sent, so nothing here ever grows one.
//!
//! Memory only: no sequence numbers, no connections, no time.

use std::collections::VecDeque;

use bytes::BytesMut;

/// The sizes of blocks in bytes. The smallest serves a quiet connection's messages; the largest lets a super-frame of 64 KiB travel as two or
/// three views.
const CLASSES: [usize; 4] = [512, 4 << 10, 32 << 10, 256 << 10];

/// Pinned blocks that one `take` looks at. Views end roughly in the order in which blocks were given back, so that the first look usually hits.
const LOOKS_MAX: usize = 4;

/// Memory behind idle handles, in bytes: 32 of the largest blocks, which is what four bulk senders with full buffers keep in flight.
const IDLE_BYTES_MAX: usize = 8 << 20;

/// Room for payload, of one of a few sizes.
#[derive(Debug)]
pub(crate) struct Block {
    /// The part in use, with the room behind it. Never grown beyond its capacity.
    pub(super) bytes: BytesMut,
    class: u8,
}

impl Block {
    /// The whole block's size in bytes, whatever part of it is still reachable from here.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        CLASSES[usize::from(self.class)]
    }

    /// Room left, in bytes.
    #[must_use]
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Copies as much of `data` as fits and returns how much that was.
    pub(crate) fn fill(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.room());
        self.bytes.extend_from_slice(&data[..taken]);
        taken
    }

    /// Makes the whole block writable again, if no view of it is left.
    fn try_reclaim(&mut self) -> bool {
        self.bytes.clear();
        let size = self.size();
        self.bytes.try_reclaim(size)
    }
}

/// How the pool fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Blocks that came from the allocator.
    pub allocated: u64,
    /// Blocks that were used again.
    pub reused: u64,
    /// Handles dropped because the pool was full.
    pub dropped: u64,
}

/// Blocks between uses.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    classes: [Shelf; CLASSES.len()],
    idle_bytes: usize,
    counters: PoolCounters,
}

/// The blocks of one size.
#[derive(Debug, Default)]
struct Shelf {
    /// Without a view; last returned, first used, while it is warm.
    free: Vec<Block>,
    /// With views when last looked at; the front was given back, or looked at, longest ago.
    pinned: VecDeque<Block>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An empty block, of a size that suits `hint_bytes` bytes to be kept; never smaller than 512 bytes, possibly smaller than the hint.
    pub(crate) fn take(&mut self, hint_bytes: usize) -> Block {
        let class = class_for(hint_bytes);
        let shelf = &mut self.classes[usize::from(class)];
        if let Some(block) = shelf.free.pop().or_else(|| shelf.reclaim()) {
            self.idle_bytes -= block.size();
            self.counters.reused += 1;
            return block;
        }
        self.counters.allocated += 1;
        Block { bytes: BytesMut::with_capacity(CLASSES[usize::from(class)]), class }
    }

    /// Takes a block back; what is in it is lost to the giver, views of it live on.
    pub(crate) fn give_back(&mut self, mut block: Block) {
        self.idle_bytes += block.size();
        let shelf = &mut self.classes[usize::from(block.class)];
        if block.try_reclaim() {
            shelf.free.push(block);
        } else {
            shelf.pinned.push_back(block);
        }
        while self.idle_bytes > IDLE_BYTES_MAX {
            self.drop_one();
        }
    }

    /// Memory behind the handles held, in bytes.
    #[must_use]
    pub(crate) const fn idle_bytes(&self) -> usize {
        self.idle_bytes
    }

    /// How the pool fared.
    #[must_use]
    pub(crate) const fn counters(&self) -> PoolCounters {
        self.counters
    }

    /// Drops the handle that is least likely to be of use: the longest pinned of the largest size.
    fn drop_one(&mut self) {
        let victim = self.classes.iter_mut().rev().find_map(|shelf| shelf.pinned.pop_front().or_else(|| shelf.free.pop()));
        if let Some(block) = victim {
            self.idle_bytes -= block.size();
            self.counters.dropped += 1;
        }
    }
}

impl Shelf {
    /// Looks at a few of the longest pinned blocks. One that is still pinned goes to the end, so that a slow reader's block never hides others.
    fn reclaim(&mut self) -> Option<Block> {
        for _ in 0..self.pinned.len().min(LOOKS_MAX) {
            let mut block = self.pinned.pop_front()?;
            if block.try_reclaim() {
                return Some(block);
            }
            self.pinned.push_back(block);
        }
        None
    }
}

/// Where a size begins to be used: from its own size less 4 KiB on, so that the bytes kept, plus an empty block, are at most twice the bytes
/// kept plus 4 KiB.
const fn class_for(hint_bytes: usize) -> u8 {
    match hint_bytes {
        0..=512 => 0,
        513..=28_671 => 1,
        28_672..=258_047 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_only_when_its_views_are_gone() {
        let mut pool = Pool::new();
        let mut block = pool.take(4096);
        assert_eq!(block.fill(&[7; 5000]), 4096);
        let view = block.bytes.split().freeze();
        pool.give_back(block);
        let other = pool.take(4096);
        assert_eq!(pool.counters(), PoolCounters { allocated: 2, reused: 0, dropped: 0 });
        drop(view);
        let again = pool.take(4096);
        assert_eq!((again.room(), again.bytes.len()), (4096, 0));
        assert_eq!(pool.counters(), PoolCounters { allocated: 2, reused: 1, dropped: 0 });
        drop((other, again));
    }

    #[test]
    fn an_untouched_block_comes_back_whole() {
        let mut pool = Pool::new();
        for hint in [1, 600, 30_000, 1 << 20] {
            let block = pool.take(hint);
            let room = block.room();
            pool.give_back(block);
            assert_eq!(pool.take(hint).room(), room);
        }
        assert_eq!(pool.counters().reused, 4);
    }

    #[test]
    fn blocks_that_stay_pinned_do_not_hide_the_others() {
        let mut pool = Pool::new();
        let mut views = Vec::new();
        for _ in 0..10 {
            let mut block = pool.take(4096);
            block.fill(&[1]);
            views.push(block.bytes.split().freeze());
            pool.give_back(block);
        }
        views.truncate(9);
        let allocated = pool.counters().allocated;
        let taken: Vec<Block> = (0..3).map(|_| pool.take(4096)).collect();
        assert_eq!((pool.counters().allocated - allocated, pool.counters().reused, taken.len()), (2, 1, 3));
    }

    #[test]
    fn idle_memory_is_bounded() {
        let mut pool = Pool::new();
        let blocks: Vec<Block> = (0..100).map(|_| pool.take(1 << 20)).collect();
        for block in blocks {
            pool.give_back(block);
            assert!(pool.idle_bytes() <= IDLE_BYTES_MAX);
        }
        assert_eq!(pool.counters().dropped, 100 - 32);
    }
}
