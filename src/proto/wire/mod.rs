//! Bytes to headers and back. No state, no time.
//!
//! | layer | modules |
//! |---|---|
//! | link | [`ethernet`], [`arp`] |
//! | network | [`ip`]: [`ipv4`], [`ipv6`]; [`icmp`], [`ndp`] |
//! | transport | [`tcp`], [`options`], [`seq`] |
//! | all | [`checksum`], [`mod@tuple`] |
//!
//! TCP itself is parsed and written here by hand ([`tcp`], [`options`], [`checksum`], [`seq`]): it is what the crate is about, and every byte
//! of it is on the hot path. The layers below come from `etherparse`, wrapped so thinly that the engine sees only its own types.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ip;
mod ip_header;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod options;
pub mod seq;
pub mod tcp;
pub mod tuple;

pub use checksum::Sum;
pub use ip::{IpError, IpHeader};
pub use options::{OptionLayout, Options, SackBlock, SackBlocks, Timestamps};
pub use seq::SeqNum;
pub use tcp::{Flags, HeaderError, Segment};
pub use tuple::{Address, Tuple};
