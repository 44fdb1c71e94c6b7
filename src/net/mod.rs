//! Sockets: tokio's names and behaviour over a [`Stack`](crate::Stack).
//!
//! A program that uses `tokio::net::{TcpListener, TcpStream}` changes the path and keeps the rest: the methods have the same names,
//! signatures and errors, and the streams implement the same traits. With the feature `futures-io` (on by default) these are the traits of
//! `futures`, with the feature `tokio` those of tokio. Either way any executor will do.
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use synfin::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let (mut server, _) = listener.accept().await?;
//!
//! client.write_all(b"hello").await?;
//! client.shutdown_write()?;
//! let mut text = String::new();
//! server.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello");
//! # Ok(()) }) }
//! ```
//!
//! Beyond tokio there are [`shutdown_write`](TcpStream::shutdown_write), [`shutdown_read`](TcpStream::shutdown_read),
//! [`finish`](TcpStream::finish), [`closed`](TcpStream::closed), [`abort`](TcpStream::abort) and [`info`](TcpStream::info). No method here
//! carries the name of one of the extension traits.

pub use addr::{ToSocketAddrs, lookup_host};
pub use listener::TcpListener;
pub use stream::{CloseReport, TcpStream};

mod addr;
mod connect;
mod error;
mod family;
#[cfg(feature = "futures-io")]
mod futures_io;
mod listener;
mod split;
mod split_owned;
mod stream;
#[cfg(feature = "tokio")]
mod tokio_io;

/// The halves of a stream.
pub mod tcp {
    pub use super::split::{ReadHalf, WriteHalf};
    pub use super::split_owned::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
}
