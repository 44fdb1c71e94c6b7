//! What arrived out of order: a bounded number of ranges, no two of which touch.
//!
//! ```text
//!   RCV.NXT                                                    RCV.NXT + RCV.WND
//!      |        [range......)      [range)   [range.........)     |
//!      '- hole -'           '-hole-'     '--'
//! ```
//!
//! The first copy of a byte that arrives stays (an overlap can't rewrite what was acknowledged by SACK). It answers what a receiver must
//! report: SACK blocks, most recently changed first (RFC 2018 §4), and the first duplicate part of a segment (RFC 2883 §4). All sequence
//! numbers must lie in one window of less than 2³¹; the caller has cut the segment to it.

use super::{Payload, Pool, Queue};
use crate::proto::wire::{SackBlock, SackBlocks, SeqNum};

/// What a range's record costs beside its payload, in bytes.
const RECORD_BYTES: usize = size_of::<Range>();

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// In order of sequence.
    ranges: Vec<Range>,
    limit: usize,
    /// Counts insertions; a range remembers its last one.
    clock: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Range {
    start: SeqNum,
    end: SeqNum,
    data: Queue,
    touched: u64,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Inserted {
    /// Bytes that were not there before.
    pub(crate) new_bytes: u32,
    /// The first part that was there before: `[from, to)`, to be reported by D-SACK.
    pub(crate) duplicate: Option<(SeqNum, SeqNum)>,
    /// Every range was taken, and this one would have been the furthest: nothing was kept.
    pub(crate) refused: bool,
}

impl Ranges {
    /// Room for `limit` ranges.
    #[must_use]
    pub(crate) const fn new(limit: usize) -> Self {
        Self { ranges: Vec::new(), limit, clock: 0, dropped: 0 }
    }

    /// Takes the payload at `seq`. When a range too many would arise, the furthest goes: it is the one that will be wanted last.
    pub(crate) fn insert(&mut self, seq: SeqNum, payload: Payload<'_>, pool: &mut Pool) -> Inserted {
        let mut inserted = Inserted { new_bytes: 0, duplicate: None, refused: false };
        let Ok(len) = u32::try_from(payload.len()) else { return Inserted { refused: true, ..inserted } };
        if len == 0 {
            return inserted;
        }
        let end = seq + len;
        let first = self.ranges.partition_point(|range| range.end < seq);
        let last = first + self.ranges[first..].partition_point(|range| range.start <= end);
        self.clock += 1;
        if first == last {
            inserted.refused = !self.make_room(first, pool);
            if !inserted.refused {
                let mut data = Queue::new();
                data.push(payload, pool);
                self.ranges.insert(first, Range { start: seq, end, data, touched: self.clock });
                inserted.new_bytes = len;
            }
            return inserted;
        }
        let overlaps = self.ranges[first..last].iter().map(|range| (range.start.max(seq), range.end.min(end)));
        let (mut duplicates, mut first_duplicate) = (0, None);
        for (from, to) in overlaps.filter(|(from, to)| from < to) {
            first_duplicate = first_duplicate.or(Some((from, to)));
            duplicates += to - from;
        }
        self.merge(first..last, seq, payload, pool);
        Inserted { new_bytes: len - duplicates, duplicate: first_duplicate, refused: false }
    }

    /// Takes what has become in order: the range that begins at or before `rcv_nxt`, without what lies before it.
    pub(crate) fn take_ready(&mut self, rcv_nxt: SeqNum, pool: &mut Pool) -> Option<Queue> {
        while self.ranges.first().is_some_and(|range| range.start <= rcv_nxt) {
            let mut range = self.ranges.remove(0);
            if self.ranges.is_empty() {
                self.ranges = Vec::new();
            }
            if rcv_nxt < range.end {
                range.data.advance((rcv_nxt - range.start) as usize);
                return Some(range.data);
            }
            range.data.clear(pool);
        }
        None
    }

    /// What is held, as SACK blocks: the range of the latest segment first, then by latest change.
    #[must_use]
    pub(crate) fn blocks(&self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let mut before = u64::MAX;
        while let Some(range) = self.ranges.iter().filter(|range| range.touched < before).max_by_key(|range| range.touched) {
            before = range.touched;
            if !blocks.push(SackBlock { left: range.start, right: range.end }) {
                break;
            }
        }
        blocks
    }

    /// Memory pinned, records included, in bytes.
    #[must_use]
    pub(crate) fn charge(&self) -> usize {
        self.ranges.iter().map(|range| range.data.charge() + RECORD_BYTES).sum()
    }

    /// Payload held, in bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.ranges.iter().map(|range| range.data.len()).sum()
    }

    /// True when nothing is held.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Ranges dropped or refused because all were taken.
    #[must_use]
    #[cfg(test)]
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        for mut range in std::mem::take(&mut self.ranges) {
            range.data.clear(pool);
        }
    }

    /// Makes room for a range at `index`; false when it would itself be the furthest of too many.
    fn make_room(&mut self, index: usize, pool: &mut Pool) -> bool {
        if self.ranges.len() < self.limit {
            return true;
        }
        self.dropped += 1;
        if index == self.ranges.len() {
            return false;
        }
        if let Some(mut furthest) = self.ranges.pop() {
            furthest.data.clear(pool);
        }
        true
    }

    /// Makes one range of those in `span`, which all touch the payload, and of the payload's parts between them.
    fn merge(&mut self, span: std::ops::Range<usize>, seq: SeqNum, mut payload: Payload<'_>, pool: &mut Pool) {
        let (merged, others) = self.ranges[span.clone()].split_first_mut().expect("the caller found at least one");
        // `at` is where the rest of the payload begins.
        let mut at = seq;
        if seq < merged.start {
            let mut front = Queue::new();
            front.push(payload.take_front((merged.start - seq) as usize), pool);
            merged.data.prepend(front, pool);
            (at, merged.start) = (merged.start, seq);
        }
        payload.trim_front(merged.end.since(at) as usize);
        for next in others {
            merged.data.push(payload.take_front((next.start - merged.end) as usize), pool);
            payload.trim_front((next.end - next.start) as usize);
            merged.data.append(std::mem::take(&mut next.data), pool);
            merged.end = next.end;
        }
        merged.end += u32::try_from(payload.len()).expect("the caller measured it");
        merged.data.push(payload, pool);
        merged.touched = self.clock;
        self.ranges.drain(span.start + 1..span.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payload whose bytes tell which insertion they came from.
    fn insert(ranges: &mut Ranges, pool: &mut Pool, seq: u32, data: &[u8]) -> Inserted {
        ranges.insert(SeqNum(seq), Payload::Borrowed(data), pool)
    }

    fn sack(ranges: &Ranges) -> Vec<(u32, u32)> {
        ranges.blocks().as_slice().iter().map(|block| (block.left.0, block.right.0)).collect()
    }

    #[test]
    fn the_latest_segments_range_is_reported_first() {
        let (mut ranges, mut pool) = (Ranges::new(8), Pool::new());
        for seq in [100, 300, 200, 500, 400] {
            assert_eq!(insert(&mut ranges, &mut pool, seq, &[0; 10]).new_bytes, 10);
        }
        assert_eq!(sack(&ranges), [(400, 410), (500, 510), (200, 210), (300, 310)]);
        assert_eq!(insert(&mut ranges, &mut pool, 310, &[0; 5]).duplicate, None);
        assert_eq!(sack(&ranges)[..2], [(300, 315), (400, 410)]);
    }

    #[test]
    fn the_first_duplicate_part_is_told_and_the_first_copy_stays() {
        let (mut ranges, mut pool) = (Ranges::new(8), Pool::new());
        let _ = insert(&mut ranges, &mut pool, 10, b"aa");
        let _ = insert(&mut ranges, &mut pool, 20, b"bb");
        let inserted = insert(&mut ranges, &mut pool, 8, &[b'x'; 16]);
        assert_eq!(inserted, Inserted { new_bytes: 12, duplicate: Some((SeqNum(10), SeqNum(12))), refused: false });
        let mut data = [0; 16];
        let mut queue = ranges.take_ready(SeqNum(8), &mut pool).expect("it begins there");
        assert_eq!((queue.read(&mut data, &mut pool), &data), (16, b"xxaaxxxxxxxxbbxx"));
        assert!(ranges.is_empty() && ranges.charge() == 0);
    }

    #[test]
    fn a_full_set_drops_the_furthest() {
        let (mut ranges, mut pool) = (Ranges::new(2), Pool::new());
        let _ = insert(&mut ranges, &mut pool, 100, &[0; 10]);
        let _ = insert(&mut ranges, &mut pool, 300, &[0; 10]);
        assert!(insert(&mut ranges, &mut pool, 400, &[0; 10]).refused);
        assert_eq!(insert(&mut ranges, &mut pool, 200, &[0; 10]).new_bytes, 10);
        assert_eq!((sack(&ranges), ranges.dropped()), (vec![(200, 210), (100, 110)], 2));
    }

    #[test]
    fn many_tiny_segments_cost_less_than_a_kernels() {
        let (mut ranges, mut pool) = (Ranges::new(128), Pool::new());
        (0..128).for_each(|index| assert!(!insert(&mut ranges, &mut pool, index * 2, &[1]).refused));
        assert!(ranges.charge() < 128 * 832, "{}", ranges.charge());
        for seq in (1_000..60_000).rev() {
            let _ = insert(&mut ranges, &mut pool, seq, &[2]);
        }
        assert!(ranges.charge() < 128 * 832 + 4 * 59_000, "{}", ranges.charge());
    }

    proptest::proptest! {
        #[test]
        fn it_is_a_map_of_bytes(base in proptest::prop_oneof![proptest::strategy::Just(u32::MAX - 3_000), proptest::num::u32::ANY],
                                segments in proptest::collection::vec((0u32..8_000, 0u32..1_500, 0u8..12), 1..80)) {
            let (mut ranges, mut pool) = (Ranges::new(1_000), Pool::new());
            let mut map: std::collections::BTreeMap<u32, u8> = std::collections::BTreeMap::new();
            let (mut next, mut stamp) = (0, 0);
            for (offset, len, what) in segments {
                stamp += 1;
                let offset = offset.max(next);
                let data = vec![stamp; len as usize];
                let pieces = [bytes::Bytes::from(data.clone())];
                let payload = match what % 3 {
                    0 => Payload::Borrowed(&data),
                    1 => Payload::Frame(data.clone().into()),
                    _ => Payload::Views(crate::proto::tcp::buffer::Views::new(&pieces)),
                };
                let inserted = ranges.insert(SeqNum(base) + offset, payload, &mut pool);
                let held: Vec<u32> = (offset..offset + len).filter(|at| map.contains_key(at)).collect();
                let duplicate = held.first().map(|from| {
                    let to = (*from..offset + len).find(|at| !map.contains_key(at)).unwrap_or(offset + len);
                    (SeqNum(base) + *from, SeqNum(base) + to)
                });
                let new_bytes = len - u32::try_from(held.len()).unwrap();
                proptest::prop_assert_eq!(inserted, Inserted { new_bytes, duplicate, refused: false });
                (offset..offset + len).for_each(|at| { map.entry(at).or_insert(stamp); });
                proptest::prop_assert_eq!(ranges.bytes(), map.len());
                if what == 11 {
                    next += 500;
                    while let Some((at, _)) = map.first_key_value().filter(|(at, _)| **at < next) {
                        let at = *at;
                        map.remove(&at);
                    }
                    let ready = ranges.take_ready(SeqNum(base) + next, &mut pool);
                    let mut expected = Vec::new();
                    while let Some(byte) = map.remove(&next) {
                        expected.push(byte);
                        next += 1;
                    }
                    let mut queue = ready.unwrap_or_default();
                    let mut got = vec![0; queue.len()];
                    queue.read(&mut got, &mut pool);
                    proptest::prop_assert_eq!(got, expected);
                }
                let blocks = ranges.blocks();
                for block in blocks.as_slice() {
                    let (left, right) = (block.left - SeqNum(base), block.right - SeqNum(base));
                    proptest::prop_assert!((left..right).all(|at| map.contains_key(&at)) && !map.contains_key(&right));
                }
            }
        }
    }
}
