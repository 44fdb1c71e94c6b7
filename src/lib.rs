//! TCP, from SYN to FIN, in your process.
//!
//! synfin is a userspace TCP: its own addresses, handshakes, retransmissions and timers, behind the socket API of tokio. It speaks over a
//! loopback inside the process, over a network interface (AF_PACKET), over a wire in memory, or over a device of yours.
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use synfin::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
//! // Nothing to set up: both ends live in this process, and every segment between them is real.
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let (mut server, _) = listener.accept().await?;
//!
//! client.write_all(b"hello").await?;
//! client.shutdown_write()?; // FIN; the other direction stays open
//! let mut heard = String::new();
//! server.read_to_string(&mut heard).await?;
//! assert_eq!(heard, "hello");
//! # Ok(()) }) }
//! ```
//!
//! # Four ways to use it
//!
//! | for | take | drives itself by |
//! |---|---|---|
//! | a program with an executor | [`net`] and, for a network, a [`Stack`] | a thread of the stack, and the tasks that wait |
//! | the lowest latency | a [`Runtime`]: tasks, timers, engine and device on one thread | [`Runtime::block_on`] |
//! | a wire of your own | [`device::Device`], or [`device::channel()`] for packets in and out | either of the above |
//! | tests, simulators, teaching | [`proto::Engine`]: no clock, no thread, no input or output | your calls |
//!
//! On an interface a stack has its own address, which must not be the kernel's, and needs `CAP_NET_RAW`:
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let stack = synfin::Stack::builder().interface("veth0").address("10.9.0.2/24").gateway("10.9.0.1").start()?;
//! let stream = stack.connect("192.0.2.7:80").await?;
//! # drop(stream);
//! # Ok(()) }
//! ```
//!
//! [`Stack::set_default`] and [`Stack::enter`] make it the stack that [`net`] uses; [`Stack::current`] tells the order.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `futures-io` | yes | `AsyncRead` and `AsyncWrite` of `futures` for streams and halves |
//! | `tokio` | no | those of tokio, and `ready` with tokio's readiness types |
//! | `lab` | no | `device::namespace`: a network of one's own on Linux, without root |
//!
//! No feature changes a type. Streams work on any executor with either trait.
//!
//! # Where to read on
//!
//! `ARCHITECTURE.md` follows a byte through the code; `docs/adapter.md` drives the engine by hand; `docs/compliance.md` has a row for every
//! requirement of the RFCs, with what is done, planned, done otherwise, or declined.

pub mod device;
pub mod net;
pub mod proto;
pub mod runtime;

pub use runtime::{JoinError, JoinHandle, Runtime, Stack, spawn, time};

/// The examples of the documents are tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../docs/adapter.md")]
    mod adapter {}
    #[doc = include_str!("../README.md")]
    mod readme {}
}
