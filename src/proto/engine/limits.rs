//! Limits per source: the sender of a packet is hashed into one of many buckets, each with a rate of its own.
//!
//! One limit for all would be a counter that strangers can read: who sees its own answers stop learns what others are being told (the lesson of
//! CVE-2016-5696). The hash is keyed, so that nobody can choose to share a bucket with a victim. An IPv6 host counts by its /64, the least that
//! a site is given, or it would own every bucket.
//!
//! It must not know what is limited.

use std::hash::{BuildHasher, Hasher};

use super::icmp::{Limiter, Permit};
use crate::proto::random::TableHash;
use crate::proto::time::Instant;
use crate::proto::wire::Address;

/// A rate for each bucket of sources.
#[derive(Debug)]
pub(super) struct SourceLimiter {
    per_second: u32,
    hash: TableHash,
    /// Empty until the first packet: most hosts never answer a stranger.
    buckets: Vec<Limiter>,
}

impl SourceLimiter {
    /// At most so many per second for each bucket, a twentieth of them at once; zero refuses everything.
    pub(super) const fn new(per_second: u32, hash: TableHash) -> Self {
        Self { per_second, hash, buckets: Vec::new() }
    }

    /// Takes a token of `source`'s bucket if there is one.
    pub(super) fn take(&mut self, now: Instant, source: Address) -> Permit {
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, || Limiter::new(self.per_second));
        }
        let bucket = self.bucket_of(source);
        self.buckets[bucket].take(now)
    }

    fn bucket_of(&self, source: Address) -> usize {
        let octets = source.octets();
        let site = if source.is_v4() { &octets[..] } else { &octets[..8] };
        let mut hasher = self.hash.build_hasher();
        hasher.write(site);
        usize::try_from(hasher.finish() % BUCKETS as u64).expect("below 1,024")
    }
}

/// How many buckets there are: 48 KiB, and one chance in 1,024 that two sources share one.
const BUCKETS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::random::Secrets;

    fn limiter(per_second: u32) -> SourceLimiter {
        SourceLimiter::new(per_second, Secrets::new([4; 32]).table_hash("a test"))
    }

    fn granted(limiter: &mut SourceLimiter, source: &str, tries: u32) -> usize {
        let source = Address::new(source.parse().expect("a literal"));
        (0..tries).filter(|_| limiter.take(Instant::from_nanos(9), source) == Permit::Granted).count()
    }

    #[test]
    fn one_source_does_not_use_up_what_another_is_due() {
        let mut limiter = limiter(1000);
        assert_eq!(granted(&mut limiter, "192.0.2.1", 200), 50);
        assert_eq!(granted(&mut limiter, "192.0.2.2", 200), 50);
        assert_eq!(granted(&mut limiter, "192.0.2.1", 200), 0);
    }

    #[test]
    fn a_site_of_ipv6_is_one_source() {
        let mut limiter = limiter(1000);
        assert_eq!(granted(&mut limiter, "2001:db8::1", 200), 50);
        assert_eq!(granted(&mut limiter, "2001:db8::ffff:2", 200), 0);
        assert_eq!(granted(&mut limiter, "2001:db8:0:1::1", 200), 50);
    }

    #[test]
    fn zero_refuses_everything() {
        assert_eq!(granted(&mut limiter(0), "192.0.2.1", 5), 0);
    }

    #[test]
    fn sources_spread_over_the_buckets() {
        let limiter = limiter(1);
        let mut hits = vec![0u32; BUCKETS];
        for last in 0..=u16::MAX {
            let [high, low] = last.to_be_bytes();
            hits[limiter.bucket_of(Address::new(std::net::Ipv4Addr::new(198, 51, high, low).into()))] += 1;
        }
        assert!(hits.iter().all(|hits| (16..=128).contains(hits)), "64 on average");
    }
}
