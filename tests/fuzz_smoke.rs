//! The bodies of the fuzz targets, seeded and bounded: what the fuzzer runs for hours runs here for seconds.

#[path = "support/bodies.rs"]
mod bodies;
#[path = "support/effort.rs"]
mod effort;
#[path = "support/packet.rs"]
mod packet;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/rng.rs"]
mod rng;
#[path = "support/seeds.rs"]
mod seeds;

use crate::rng::Rng;
use crate::seeds::seeds;

/// Random bytes, up to `most` of them; values at edges are frequent.
fn bytes(rng: &mut Rng, most: u64) -> Vec<u8> {
    let len = rng.between(0, most);
    let mut byte = || if rng.chance(100) { rng.pick(&[0, 1, 4, 6, 69, 127, 128, 255]) } else { rng.next_u64().to_be_bytes()[0] };
    (0..len).map(|_| byte()).collect()
}

/// Runs a body over seeded bytes, and returns how many frames that were.
fn smoke(body: impl Fn(&[u8]) -> u64 + std::panic::RefUnwindSafe, most: u64, seeds: std::ops::Range<u64>) -> u64 {
    let one = |seed| {
        let data = bytes(&mut Rng::new(seed), most);
        std::panic::catch_unwind(|| body(&data)).unwrap_or_else(|panic| {
            eprintln!("replay with SYNFIN_SEED={seed}");
            std::panic::resume_unwind(panic)
        })
    };
    seeds.map(one).sum()
}

#[test]
fn parsers_survive_any_bytes() {
    smoke(bodies::parsers, 120, seeds(50_000, 1_000_000));
}

#[test]
fn an_engine_survives_any_frame() {
    let frames = smoke(bodies::frame, 120, seeds(2000, 100_000));
    assert!(frames > 0);
}

#[test]
fn an_engine_survives_any_conversation() {
    let seeds = seeds(2500, 25_000);
    let many = seeds.clone().count() > 1000;
    let frames = smoke(bodies::conversation, 4000, seeds);
    println!("{frames} frames");
    assert!(!many || frames > 100_000, "only {frames} frames");
}
