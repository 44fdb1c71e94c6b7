//! Sequence arithmetic: numbers on a circle of 2³² (RFC 9293 §3.4).
//!
//! `a < b` means that `b` is ahead of `a` by less than half the circle. There is no `Ord`: the relation is not transitive.

use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number.
///
/// ```
/// use synfin::proto::wire::SeqNum;
///
/// let last = SeqNum(u32::MAX);
/// assert!(last < last + 1);
/// assert_eq!((last + 10) - last, 10);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// The signed distance from `earlier` to `self` on the circle.
    #[must_use]
    #[expect(clippy::cast_possible_wrap, reason = "the distance on the circle is the two's complement of the difference")]
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// The bytes from `earlier` to `self`, zero when `self` is behind.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let distance = self.distance(earlier);
        if distance > 0 { distance.unsigned_abs() } else { 0 }
    }

    /// The later of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if self < other { other } else { self }
    }

    /// The earlier of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    /// The number `bytes` before this one.
    #[must_use]
    pub const fn back(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl PartialOrd for SeqNum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.distance(*other).cmp(&0))
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

/// The bytes from the right side to the left side, modulo 2³².
impl Sub for SeqNum {
    type Output = u32;

    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl std::fmt::Display for SeqNum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R9293-38, HW-13: what holds at zero holds at every turn of the circle.
    #[test]
    fn the_circle_has_no_seam() {
        const HALF: u32 = 1 << 31;
        for base in [0, 1, HALF - 1, HALF, u32::MAX - 1, u32::MAX].map(SeqNum) {
            for ahead in [1, 2, 65_535, HALF - 1] {
                let later = base + ahead;
                assert!(base < later && base <= later, "{base} {later}");
                assert!(later > base && later != base, "{later} {base}");
                assert_eq!((later - base, later.since(base), base.since(later), later.back(ahead)), (ahead, ahead, 0, base));
                assert_eq!((base.max(later), base.min(later)), (later, base));
            }
            assert!(base + HALF.wrapping_add(1) < base, "half a circle further is behind");
        }
    }
}
