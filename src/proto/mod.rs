//! The sans-I/O core: a whole TCP host as a value. No clock, no syscall, no async, no thread, no unsafe; time and chance are arguments.
//!
//! | module | what it is |
//! |---|---|
//! | [`Engine`] | one shard's world, driven from outside |
//! | [`wire`] | bytes to headers and back |
//! | [`link`] | what the core asks of a link: facts, frames in, frames out |
//! | [`cut`](mod@cut) | super-packets to segments, partial checksums to complete ones |
//! | [`netstat`], [`stats`], [`trace`] | every socket as a row; every counter; frames and what they did |
//! | [`congestion`] | congestion controllers, also your own |

#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

pub mod cut;
mod engine;
pub mod link;
mod random;
mod tcp;
mod time;
pub mod wire;

pub use engine::address::{AddressConflict, Detection};
pub use engine::passthrough::{PacketError, Passed};
pub use engine::route::{Cidr, CidrError};
pub use engine::slot::{Signal, SocketId};
pub use engine::stats::{DropReason, Stats};
pub use engine::{Engine, Transmit, netstat, stats, trace};
pub use link::{Checksum, Frame, FrameBytes, Link, MacAddress, Medium, Sink, TxFrame};
pub use tcp::close::{AcceptError, CloseReason, ConnectError, ConnectedError, ListenError, RecvError, SendError, ShutdownError};
pub use tcp::config::{BacklogPolicy, Config, CongestionControl, Keepalive, SynCookies};
pub use tcp::congestion;
pub use tcp::context::Events;
pub use tcp::info::Info;
pub use tcp::socket::{SocketOption, SocketOptions};
pub use tcp::state::State;
pub use tcp::timers::TimerName;
pub use time::Instant;
