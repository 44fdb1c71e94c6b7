//! Transcripts: what a script says, how it is played against one engine, and how its expectations are falsified.
//!
//! ```text
//!   file ─► macros ─► script ─► run ─► host (the engine)
//!                       │        └───► segment, call, fact
//!                       └► mutate: the same script with one expectation changed
//! ```
//!
//! The language, in ten lines:
//!
//! ```text
//! # What happens, as a sentence.                        prose; the first line says it all
//! # proves: MUST-36 SHLD-29                             rows of the compliance ledger
//! config nagle=off rto_min=1s                           knobs; `family v4` or `family v6` for one family only
//! open mss=1000                                         a macro: several lines at once (see `macros`)
//! +0    < data 1:101 ack 1 win 500                      the peer sends: text at 1..101; numbers count from each side's SYN
//! +5ms  < icmp too-big 1400 seq 1                       a router reports, and quotes our segment at 1: `icmp` has the kinds
//! +0    > ack 101                                       we send, exactly then and exactly that; what may be left out: `segment`
//! +0    ! read 100                                      the application calls; `-> would-block` when the answer is not the usual one
//! +0    = state ESTABLISHED, cwnd 14600, not-readable   what must be true
//! +5s   = timer none                                    nothing was sent for five seconds: silence is checked at every deadline
//! ```

pub(crate) mod call;
pub(crate) mod fact;
pub(crate) mod flow;
pub(crate) mod host;
pub(crate) mod icmp;
pub(crate) mod knobs;
pub(crate) mod macros;
pub(crate) mod mutate;
pub(crate) mod run;
pub(crate) mod script;
pub(crate) mod segment;
pub(crate) mod world;
