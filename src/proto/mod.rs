//! The sans-I/O core: a whole TCP host as a value. No clock, no syscall, no async, no thread, no unsafe; time and chance are arguments.
//!
//! | module | what it is |
//! |---|---|
//! | [`wire`] | bytes to headers and back |
//! | [`link`] | what the core asks of a link: facts, frames in, frames out |
//! | [`cut`](mod@cut) | super-packets to segments, partial checksums to complete ones |

#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

pub mod cut;
pub mod link;
mod random;
mod time;
pub mod wire;

pub use link::{Checksum, Frame, FrameBytes, Link, MacAddress, Medium, Sink, TxFrame};
pub use time::Instant;
