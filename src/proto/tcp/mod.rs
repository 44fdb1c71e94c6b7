//! One connection, from SYN to FIN (RFC 9293): phases are types, closing is a product of two halves, and components answer facts that only
//! [`connection`] acts on.
//!
//! | file | what it owns |
//! |---|---|
//! | `handshake`, `negotiated` | an active open until it is established; what the SYNs agree on |
//! | `connection` | the composition, and the application's calls |
//! | `input`, `output`, `timeout` | a segment arrives; a segment leaves; time passes |
//! | `halves`, `state`, `close` | the state machine, its names, how it ends |
//! | `send`, `receive`, `buffer` | sequence spaces, and the bytes in them |
//! | `ack`, `timers`, `rtt`, `timestamps` | when to acknowledge, deadlines, round trips, PAWS |
//! | `recovery`, `congestion` | what is lost; how much may be in flight |
//! | `reset`, `info`, `invariants` | resets, snapshots, what must always hold |
//! | `config`, `socket`, `context`, `counters` | knobs, socket options, what a call borrows, what is counted |

pub(crate) mod ack;
pub(crate) mod buffer;
pub(crate) mod close;
pub(crate) mod config;
pub mod congestion;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod halves;
pub(crate) mod handshake;
pub(crate) mod info;
pub(crate) mod input;
mod invariants;
pub(crate) mod negotiated;
mod output;
mod receive;
mod recovery;
pub(crate) mod reset;
pub(crate) mod rtt;
mod send;
pub(crate) mod socket;
pub(crate) mod state;
mod timeout;
pub(crate) mod timers;
pub(crate) mod timestamps;

pub(crate) use timeout::Timeout;
