//! A FIFO of bytes in shared pieces: a connection's send queue, its receive queue, and every range out of order.
//!
//! ```text
//!   front                                              back
//!   [piece][piece][kept frame......][piece] [tail ....|room]
//!    frozen, shared with frames in flight    being filled
//! ```
//!
//! Bytes are copied in once, into the tail; a view that reaches into the tail freezes what is filled. Pieces that are long enough come in
//! without a copy. The memory behind all of it is known as the [charge](Queue::charge): a block counts whole until its last piece leaves.
//!
//! It knows offsets from its front, not sequence numbers.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::{Buf, Bytes};

use super::{Block, FRAME_MIN, Payload, Pool, SHARE_MIN};
use crate::proto::link::RECEIVE_ROOM;

/// Pieces beyond one in 512 bytes that are suffered before small neighbours are copied together: as many views as a few frames hold.
const LOOSE_PIECES: usize = 64;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pieces: VecDeque<Piece>,
    tail: Option<Block>,
    /// How many pieces stand behind the last one that was frozen off `tail`; `None` when none was.
    behind_tails_last: Option<usize>,
    len: usize,
    charge: usize,
    /// Where the last view ended: sequential access begins its search here.
    cursor: Cursor,
}

#[derive(Debug)]
struct Piece {
    /// Never empty.
    bytes: Bytes,
    /// Memory that goes when this piece goes: a block's is carried by its last piece, zero by the others.
    charge: u32,
}

/// A piece by index, and the offset at which it begins.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    index: usize,
    start: usize,
}

impl Queue {
    /// An empty queue, which holds no memory.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Bytes.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// True without a byte.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory pinned, in bytes: at most about twice the length plus 4 KiB when the bytes came in, more while a long block is half consumed.
    #[must_use]
    pub(crate) const fn charge(&self) -> usize {
        self.charge
    }

    /// Appends a payload: what is worth keeping is kept, the rest copied.
    pub(crate) fn push(&mut self, payload: Payload<'_>, pool: &mut Pool) {
        match payload {
            Payload::Borrowed(bytes) => self.push_copy(bytes, pool),
            Payload::Frame(bytes) if bytes.len() >= FRAME_MIN => {
                self.keep(bytes, RECEIVE_ROOM);
                self.tidy(pool);
            }
            Payload::Frame(bytes) => self.push_copy(&bytes, pool),
            Payload::Views(views) => views.iter().for_each(|view| self.push_shared(view, pool)),
        }
    }

    /// Appends a copy.
    pub(crate) fn push_copy(&mut self, data: &[u8], pool: &mut Pool) {
        self.copy_in(data, self.len + data.len(), pool);
        self.tidy(pool);
    }

    /// Appends bytes that somebody shares: as they are from [`SHARE_MIN`] bytes on, else a copy.
    pub(crate) fn push_shared(&mut self, bytes: Bytes, pool: &mut Pool) {
        if bytes.len() < SHARE_MIN {
            self.push_copy(&bytes, pool);
        } else {
            let charge = bytes.len();
            self.keep(bytes, charge);
            self.tidy(pool);
        }
    }

    /// Appends another queue. A short one is copied; else the pieces of the one that has fewer of them move.
    pub(crate) fn append(&mut self, mut other: Self, pool: &mut Pool) {
        if self.is_empty() {
            self.release(pool);
            *self = other;
            return;
        }
        if other.len < SHARE_MIN {
            for piece in &other.pieces {
                self.copy_in(&piece.bytes, self.len + other.len, pool);
            }
            if let Some(tail) = &other.tail {
                self.copy_in(&tail.bytes, self.len + other.len, pool);
            }
            other.clear(pool);
        } else if other.pieces.len() > self.pieces.len() {
            let front = std::mem::replace(self, other);
            self.prepend(front, pool);
        } else {
            other.retire(pool);
            self.freeze_tail();
            self.behind_tails_last = self.behind_tails_last.map(|behind| behind + other.pieces.len());
            self.pieces.append(&mut other.pieces);
            self.len += other.len;
            self.charge += other.charge;
        }
        self.tidy(pool);
    }

    /// Puts another queue before this one. Its pieces move: the cost is their number, not the number of pieces here.
    pub(crate) fn prepend(&mut self, mut front: Self, pool: &mut Pool) {
        front.retire(pool);
        self.len += front.len;
        self.charge += front.charge;
        while let Some(piece) = front.pieces.pop_back() {
            self.pieces.push_front(piece);
        }
        self.cursor = Cursor::default();
        self.tidy(pool);
    }

    /// Drops `bytes` bytes, or all if there are fewer, from the front.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len);
        let (mut left, mut popped) = (bytes, 0);
        while let Some(front) = self.pieces.front_mut().filter(|_| left > 0) {
            let len = front.bytes.len();
            if len > left {
                front.bytes.advance(left);
                left = 0;
            } else {
                self.charge -= front.charge as usize;
                self.pieces.pop_front();
                left -= len;
                popped += 1;
            }
        }
        if let Some(tail) = self.tail.as_mut().filter(|_| left > 0) {
            tail.bytes.advance(left);
        }
        self.len -= bytes;
        self.cursor = match self.cursor.index.checked_sub(popped) {
            Some(index) if index < self.pieces.len() => Cursor { index, start: self.cursor.start.saturating_sub(bytes) },
            _ => Cursor::default(),
        };
    }

    /// Keeps at most the first `len` bytes.
    #[cfg(test)]
    pub(crate) fn truncate(&mut self, len: usize, pool: &mut Pool) {
        let frozen = self.frozen();
        if let Some(tail) = &mut self.tail {
            tail.bytes.truncate(len.saturating_sub(frozen));
            self.len = frozen + tail.bytes.len();
        }
        if self.len <= len {
            return;
        }
        self.retire(pool);
        self.cursor = Cursor::default();
        while self.len > len {
            let Some(mut piece) = self.pieces.pop_back() else { return };
            let excess = (self.len - len).min(piece.bytes.len());
            piece.bytes.truncate(piece.bytes.len() - excess);
            self.len -= excess;
            if piece.bytes.is_empty() {
                self.charge -= piece.charge as usize;
                self.pass_on(piece.charge);
            } else {
                self.pieces.push_back(piece);
            }
        }
    }

    /// Copies bytes from `offset` on into `out`, as many as there are or fit, and returns how many.
    #[must_use]
    pub(crate) fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let wanted = out.len().min(self.len.saturating_sub(offset));
        let Cursor { index, start } = self.find(offset);
        let mut skip = offset - start;
        let mut copied = 0;
        let tail = self.tail.as_ref().map_or(&[][..], |tail| &tail.bytes);
        let slices = self.pieces.range(index..).map(|piece| &piece.bytes[..]).chain([tail]);
        for slice in slices {
            if copied == wanted {
                break;
            }
            let slice = &slice[skip.min(slice.len())..];
            skip = 0;
            let take = slice.len().min(wanted - copied);
            out[copied..copied + take].copy_from_slice(&slice[..take]);
            copied += take;
        }
        copied
    }

    /// Moves bytes from the front into `out`, as many as there are or fit, and returns how many. A drained queue gives its memory back, and a
    /// short rest does not go on pinning a long block.
    pub(crate) fn read(&mut self, out: &mut [u8], pool: &mut Pool) -> usize {
        let copied = self.copy_to(0, out);
        self.advance(copied);
        if self.is_empty() {
            self.release(pool);
        } else if self.len < SHARE_MIN && self.charge > 2 * self.len + SHARE_MIN {
            self.rebuild(pool);
        }
        copied
    }

    /// Shows `[offset, offset + len)`, or what exists of it, as views that share the memory, until `take` refuses one by breaking. Returns the
    /// bytes that were taken.
    pub(crate) fn views(&mut self, offset: usize, len: usize, mut take: impl FnMut(Bytes) -> ControlFlow<()>) -> usize {
        let wanted = len.min(self.len.saturating_sub(offset));
        if wanted == 0 {
            return 0;
        }
        if offset + wanted > self.frozen() {
            self.freeze_tail();
        }
        let mut at = self.find(offset);
        let mut taken = 0;
        while taken < wanted {
            let piece = &self.pieces[at.index].bytes;
            let from = offset + taken - at.start;
            let to = piece.len().min(offset + wanted - at.start);
            if take(piece.slice(from..to)).is_break() {
                break;
            }
            self.cursor = at;
            taken += to - from;
            at = Cursor { index: at.index + 1, start: at.start + piece.len() };
        }
        taken
    }

    /// Gives the memory of an empty queue back; does nothing to another.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        if self.is_empty() {
            self.retire(pool);
        }
    }

    /// True if an empty queue keeps room for pieces.
    pub(crate) fn has_spare_room(&self) -> bool {
        self.is_empty() && self.pieces.capacity() > 0
    }

    /// Gives that room back. Not done at every emptiness: a busy queue is empty a thousand times a second.
    pub(crate) fn shrink(&mut self) {
        if self.has_spare_room() {
            self.pieces = VecDeque::new();
        }
    }

    /// Drops every byte and gives the memory back.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.advance(self.len);
        self.release(pool);
    }

    /// Bytes before the tail.
    fn frozen(&self) -> usize {
        self.len - self.tail.as_ref().map_or(0, |tail| tail.bytes.len())
    }

    /// The piece that holds `offset`, or the end of the pieces.
    fn find(&self, offset: usize) -> Cursor {
        let mut at = if offset < self.cursor.start / 2 { Cursor::default() } else { self.cursor };
        while offset < at.start {
            at.index -= 1;
            at.start -= self.pieces[at.index].bytes.len();
        }
        while let Some(piece) = self.pieces.get(at.index).filter(|piece| offset >= at.start + piece.bytes.len()) {
            at = Cursor { index: at.index + 1, start: at.start + piece.bytes.len() };
        }
        at
    }

    fn copy_in(&mut self, mut data: &[u8], hint_bytes: usize, pool: &mut Pool) {
        while !data.is_empty() {
            let tail = self.tail.get_or_insert_with(|| {
                let block = pool.take(hint_bytes);
                self.charge += block.size();
                block
            });
            let copied = tail.fill(data);
            data = &data[copied..];
            self.len += copied;
            if tail.room() == 0 {
                self.retire(pool);
            }
        }
    }

    fn keep(&mut self, bytes: Bytes, charge: usize) {
        self.freeze_tail();
        self.behind_tails_last = self.behind_tails_last.map(|behind| behind + 1);
        let charge = u32::try_from(charge).unwrap_or(u32::MAX);
        self.charge += charge as usize;
        self.len += bytes.len();
        self.pieces.push_back(Piece { bytes, charge });
    }

    /// Turns what the tail holds into a piece; its room stays the tail's.
    fn freeze_tail(&mut self) {
        if let Some(tail) = self.tail.as_mut().filter(|tail| !tail.bytes.is_empty()) {
            self.pieces.push_back(Piece { bytes: tail.bytes.split().freeze(), charge: 0 });
            self.behind_tails_last = Some(0);
        }
    }

    /// Parts with the tail's block: its last piece carries the charge from now on.
    fn retire(&mut self, pool: &mut Pool) {
        self.freeze_tail();
        let Some(block) = self.tail.take() else { return };
        let last = self.behind_tails_last.take().and_then(|behind| self.pieces.len().checked_sub(behind + 1));
        match last.and_then(|last| self.pieces.get_mut(last)) {
            Some(piece) => piece.charge += u32::try_from(block.size()).expect("the largest block has 256 KiB"),
            None => self.charge -= block.size(),
        }
        pool.give_back(block);
    }

    /// A piece at the back went; if the one before it shares its block, it inherits the charge.
    fn pass_on(&mut self, charge: u32) {
        if let Some(heir) = self.pieces.back_mut().filter(|piece| piece.charge == 0) {
            heir.charge = charge;
            self.charge += charge as usize;
        }
    }

    /// Bounds the number of pieces: when they are small on average, neighbours are copied together.
    fn tidy(&mut self, pool: &mut Pool) {
        if self.pieces.len() > self.len / 512 + LOOSE_PIECES {
            self.rebuild(pool);
        }
    }

    /// Copies small pieces together; long ones stay unless the whole queue is short.
    fn rebuild(&mut self, pool: &mut Pool) {
        self.retire(pool);
        let old = std::mem::take(self);
        let keep_min = if old.len < SHARE_MIN { usize::MAX } else { SHARE_MIN };
        for Piece { bytes, charge } in old.pieces {
            if bytes.len() >= keep_min {
                self.keep(bytes, charge as usize);
            } else {
                if self.tail.as_ref().is_none_or(|tail| tail.bytes.is_empty()) {
                    self.pass_on(charge);
                }
                self.copy_in(&bytes, old.len, pool);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tcp::buffer::Views;

    fn contents(queue: &Queue) -> Vec<u8> {
        let mut out = vec![0; queue.len()];
        assert_eq!(queue.copy_to(0, &mut out), queue.len());
        out
    }

    /// What must hold whatever happened.
    fn check(queue: &Queue) {
        let frozen: usize = queue.pieces.iter().map(|piece| piece.bytes.len()).sum();
        let charge: usize = queue.pieces.iter().map(|piece| piece.charge as usize).sum();
        assert_eq!(frozen, queue.frozen());
        assert_eq!(charge + queue.tail.as_ref().map_or(0, Block::size), queue.charge);
        assert!(queue.pieces.iter().all(|piece| !piece.bytes.is_empty()));
        assert!(queue.pieces.len() <= queue.len / 512 + LOOSE_PIECES + 1, "{} pieces for {} bytes", queue.pieces.len(), queue.len);
        let before: usize = queue.pieces.iter().take(queue.cursor.index).map(|piece| piece.bytes.len()).sum();
        assert_eq!(before, queue.cursor.start);
        assert!(queue.cursor.index < queue.pieces.len().max(1));
    }

    #[test]
    fn writing_viewing_and_advancing_allocates_nothing_in_the_steady_state() {
        let (mut pool, mut queue) = (Pool::new(), Queue::new());
        let data = vec![1; 64 << 10];
        let mut warm = 0;
        for round in 0..1000 {
            queue.push_copy(&data, &mut pool);
            let mut views = 0;
            let taken = queue.views(0, 64 << 10, |_| {
                views += 1;
                ControlFlow::Continue(())
            });
            assert!(taken == 64 << 10 && views <= 3, "{views} views");
            queue.advance(64 << 10);
            queue.release(&mut pool);
            if round == 3 {
                warm = pool.counters().allocated;
            }
        }
        assert_eq!(pool.counters().allocated, warm);
    }

    #[test]
    fn a_bulk_sender_with_frames_in_flight_reuses_its_blocks() {
        let (mut pool, mut queue) = (Pool::new(), Queue::new());
        let data = vec![1; 64 << 10];
        let mut in_flight = VecDeque::new();
        let mut warm = 0;
        for round in 0..2000 {
            queue.push_copy(&data, &mut pool);
            let start = queue.len() - data.len();
            queue.views(start, data.len(), |view| {
                in_flight.push_back(view);
                ControlFlow::Continue(())
            });
            if queue.len() >= 2 << 20 {
                queue.advance(64 << 10);
                while in_flight.iter().map(Bytes::len).sum::<usize>() > 2 << 20 {
                    in_flight.pop_front();
                }
            }
            if round == 200 {
                warm = pool.counters().allocated;
            }
        }
        assert_eq!(pool.counters().allocated, warm);
    }

    #[test]
    fn a_drained_queue_holds_nothing() {
        let (mut pool, mut queue) = (Pool::new(), Queue::new());
        queue.push_copy(&[1; 300_000], &mut pool);
        let mut out = vec![0; 300_000];
        assert_eq!(queue.read(&mut out, &mut pool), 300_000);
        queue.shrink();
        assert!(queue.tail.is_none() && queue.charge() == 0 && queue.pieces.capacity() == 0);
    }

    #[test]
    fn a_short_rest_does_not_pin_a_frame() {
        let (mut pool, mut queue) = (Pool::new(), Queue::new());
        queue.push(Payload::Frame(vec![9; 60_000].into()), &mut pool);
        assert_eq!(queue.charge(), RECEIVE_ROOM);
        queue.read(&mut vec![0; 59_999], &mut pool);
        assert_eq!((queue.len(), queue.charge(), contents(&queue)), (1, 512, vec![9]));
    }

    #[test]
    fn memory_is_bounded_by_twice_the_bytes_kept() {
        let mut pool = Pool::new();
        for size in [1, 100, 600, 1448, 4096, 20_000, 34_815, 34_816, 65_000] {
            let mut queue = Queue::new();
            for _ in 0..50 {
                queue.push(Payload::Frame(vec![0; size].into()), &mut pool);
                assert!(queue.charge() <= 2 * queue.len() + 4096, "{} for {} in {size}s", queue.charge(), queue.len());
            }
        }
    }

    #[test]
    fn a_broken_off_view_is_not_counted() {
        let (mut pool, mut queue) = (Pool::new(), Queue::new());
        for _ in 0..3 {
            queue.push_shared(vec![0; 5000].into(), &mut pool);
        }
        let mut room = 2;
        let taken = queue.views(1000, 14_000, |_| {
            room -= 1;
            if room >= 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!(taken, 9000);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Copy(usize),
        Shared(usize),
        Frame(usize),
        Views(usize, usize),
        Append(usize, usize),
        Prepend(usize),
        Advance(usize),
        Truncate(usize),
        Read(usize),
        View(usize, usize),
        Release,
    }

    fn operations() -> impl proptest::strategy::Strategy<Value = Vec<Op>> {
        use proptest::prelude::*;
        let size = || prop_oneof![3 => 0usize..50, 2 => 0usize..5000, 1 => 0usize..70_000];
        let op = prop_oneof![
            4 => size().prop_map(Op::Copy),
            1 => size().prop_map(Op::Shared),
            1 => size().prop_map(Op::Frame),
            1 => (size(), size()).prop_map(|(a, b)| Op::Views(a, b)),
            1 => (size(), size()).prop_map(|(a, b)| Op::Append(a, b)),
            1 => size().prop_map(Op::Prepend),
            2 => size().prop_map(Op::Advance),
            1 => size().prop_map(Op::Truncate),
            2 => size().prop_map(Op::Read),
            4 => (size(), size()).prop_map(|(a, b)| Op::View(a, b)),
            1 => Just(Op::Release),
        ];
        proptest::collection::vec(op, 1..120)
    }

    struct Model {
        pool: Pool,
        queue: Queue,
        model: VecDeque<u8>,
        next: u8,
        views: VecDeque<(Bytes, Vec<u8>)>,
    }

    impl Model {
        fn bytes(&mut self, len: usize) -> Vec<u8> {
            (0..len)
                .map(|_| {
                    self.next = self.next.wrapping_mul(5).wrapping_add(1);
                    self.next
                })
                .collect()
        }

        fn apply(&mut self, op: &Op) {
            match *op {
                Op::Copy(len) => {
                    let data = self.bytes(len);
                    self.queue.push_copy(&data, &mut self.pool);
                    self.model.extend(data);
                }
                Op::Shared(len) => {
                    let data = self.bytes(len);
                    self.model.extend(&data);
                    self.queue.push_shared(data.into(), &mut self.pool);
                }
                Op::Frame(len) => {
                    let data = self.bytes(len);
                    self.model.extend(&data);
                    self.queue.push(Payload::Frame(data.into()), &mut self.pool);
                }
                Op::Views(first, second) => {
                    let pieces = [self.bytes(first).into(), self.bytes(second).into()];
                    self.model.extend(pieces.iter().flatten());
                    self.queue.push(Payload::Views(Views::new(&pieces)), &mut self.pool);
                }
                Op::Append(first, second) => {
                    let (first, second) = (self.bytes(first), self.bytes(second));
                    let mut other = Queue::new();
                    other.push_copy(&first, &mut self.pool);
                    other.push_shared(second.clone().into(), &mut self.pool);
                    self.queue.append(other, &mut self.pool);
                    self.model.extend(first.into_iter().chain(second));
                }
                Op::Prepend(len) => {
                    let data = self.bytes(len);
                    let mut front = Queue::new();
                    front.push_copy(&data, &mut self.pool);
                    self.queue.prepend(front, &mut self.pool);
                    data.iter().rev().for_each(|byte| self.model.push_front(*byte));
                }
                _ => self.apply_taking(op),
            }
        }

        fn apply_taking(&mut self, op: &Op) {
            match *op {
                Op::Advance(len) => {
                    self.queue.advance(len);
                    self.model.drain(..len.min(self.model.len()));
                }
                Op::Truncate(len) => {
                    self.queue.truncate(len, &mut self.pool);
                    self.model.truncate(len);
                }
                Op::Read(len) => {
                    let mut out = vec![0; len];
                    let read = self.queue.read(&mut out, &mut self.pool);
                    let expected: Vec<u8> = self.model.drain(..len.min(self.model.len())).collect();
                    assert_eq!(out[..read], expected);
                }
                Op::View(offset, len) => {
                    let mut seen = Vec::new();
                    let taken = self.queue.views(offset, len, |view| {
                        seen.extend_from_slice(&view);
                        self.views.push_back((view.clone(), view.to_vec()));
                        ControlFlow::Continue(())
                    });
                    assert_eq!(taken, seen.len());
                    assert!(self.model.iter().skip(offset).take(len).eq(&seen));
                    while self.views.len() > 20 {
                        self.views.pop_front();
                    }
                }
                _ => self.queue.release(&mut self.pool),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_a_queue_of_bytes(ops in operations()) {
            let mut model = Model { pool: Pool::new(), queue: Queue::new(), model: VecDeque::new(), next: 0, views: VecDeque::new() };
            for op in &ops {
                model.apply(op);
                check(&model.queue);
                proptest::prop_assert!(model.model.iter().eq(&contents(&model.queue)), "after {op:?}");
                proptest::prop_assert!(model.views.iter().all(|(view, then)| view == then), "a view changed after {op:?}");
            }
        }
    }
}
