//! Which seeds a run takes: `SYNFIN_SEED=n` replays one.

use crate::effort::count;

/// The seeds of this run: the one to replay, or the first `quick` (with `SYNFIN_TEST=full`, `full`) of them.
pub(crate) fn seeds(quick: u64, full: u64) -> std::ops::Range<u64> {
    match std::env::var("SYNFIN_SEED").map(|text| text.parse::<u64>()) {
        Ok(Ok(seed)) => seed..seed + 1,
        Ok(Err(_)) => panic!("SYNFIN_SEED is a decimal number"),
        Err(_) => 0..count(quick, full),
    }
}
