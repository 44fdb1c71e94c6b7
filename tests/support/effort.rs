//! How much a run does: `SYNFIN_TEST=full` raises it.

/// How often: `quick`, or `full` with `SYNFIN_TEST=full`.
pub(crate) fn count(quick: u64, full: u64) -> u64 {
    if std::env::var_os("SYNFIN_TEST").is_some_and(|value| value == "full") { full } else { quick }
}
