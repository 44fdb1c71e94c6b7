//! Initial sequence numbers (RFC 6528 §3) and the origin of each connection's timestamps (RFC 7323 §5.4).
//!
//! `ISN = M + F(local address, local port, remote address, remote port, secret)`: F is SipHash-2-4 under a key of its own, M the clock. For
//! one tuple the numbers grow with time, so that an old connection's segments stay behind; for different tuples they have nothing to do with
//! each other, so that nobody can guess one from another.

use crate::proto::Instant;
use crate::proto::random::{KeyedHash, Secrets};
use crate::proto::wire::{SeqNum, Tuple};

/// A tick of the clock in nanoseconds, as a power of two: 4.096 µs, the nearest to RFC 6528's 4 µs that is a shift. It goes round in 4.9 hours.
const TICK_SHIFT: u32 = 12;

/// Where sequence numbers and timestamps begin.
#[derive(Clone, Debug)]
pub(crate) struct Isn {
    sequence: KeyedHash,
    timestamps: KeyedHash,
}

impl Isn {
    /// Keys from the engine's secret.
    #[must_use]
    pub(crate) fn new(secrets: &Secrets) -> Self {
        Self { sequence: secrets.keyed_hash("isn"), timestamps: secrets.keyed_hash("timestamp offset") }
    }

    /// The initial sequence number of a connection that opens now.
    #[must_use]
    pub(crate) fn at(&self, now: Instant, tuple: &Tuple) -> SeqNum {
        SeqNum(low_half(self.sequence.hash(&[&tuple.to_bytes()]))) + low_half(now.as_nanos() >> TICK_SHIFT)
    }

    /// What is added to the clock in this tuple's TSval: the same for every connection of the tuple, so that its timestamps never go back.
    #[must_use]
    pub(crate) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        low_half(self.timestamps.hash(&[&tuple.to_bytes()]))
    }
}

const fn low_half(value: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "arithmetic modulo 2^32 is meant")]
    let low = value as u32;
    low
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple::new("10.0.0.1:80".parse().unwrap(), std::net::SocketAddr::new([10, 0, 0, 2].into(), port))
    }

    /// MUST-8, R6528-1, R6528-2.
    #[test]
    fn one_tuple_s_numbers_grow_with_time() {
        let isn = Isn::new(&Secrets::new([1; 32]));
        let now = Instant::from_nanos(u64::MAX / 3);
        assert_eq!(isn.at(now + Duration::from_nanos(4096 * 1000), &tuple(1)) - isn.at(now, &tuple(1)), 1000);
        assert_eq!(isn.timestamp_offset(&tuple(1)), isn.timestamp_offset(&tuple(1)));
    }

    /// SHLD-1, MUST-9, R6528-1, R6528-2, R7323-28.
    #[test]
    fn different_tuples_and_secrets_have_nothing_in_common() {
        let (one, other) = (Isn::new(&Secrets::new([1; 32])), Isn::new(&Secrets::new([2; 32])));
        let differences: std::collections::BTreeSet<u32> =
            (0..1000).map(|port| one.at(Instant::START, &tuple(port + 1)) - one.at(Instant::START, &tuple(port))).collect();
        assert!(differences.len() > 990);
        assert_ne!(one.at(Instant::START, &tuple(1)), other.at(Instant::START, &tuple(1)));
        assert_ne!(one.timestamp_offset(&tuple(1)), one.at(Instant::START, &tuple(1)).0);
    }
}
