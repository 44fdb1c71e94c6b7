//! Opening sockets on a given stack: what [`TcpStream::connect`] and [`TcpListener::bind`] do on the current one.

use std::io;
use std::net::SocketAddr;

use super::addr::{ToSocketAddrs, resolve};
use super::family::Family;
use super::{TcpListener, TcpStream, error};
use crate::Stack;
use crate::proto::{CloseReason, ConnectError, ConnectedError, Detection, Engine, Events, ListenError};
use crate::runtime::in_use;
use crate::runtime::socket::Socket;

impl Stack {
    /// Opens a connection from this stack; see [`TcpStream::connect`].
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn connect<A: ToSocketAddrs>(&self, address: A) -> io::Result<TcpStream> {
        let mut last = None;
        for remote in resolve(&address).await? {
            match self.connect_to(remote).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(unresolved))
    }

    /// Listens on an address of this stack; see [`TcpListener::bind`].
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves no listener behind.
    pub async fn listen<A: ToSocketAddrs>(&self, address: A) -> io::Result<TcpListener> {
        let mut last = None;
        for local in resolve(&address).await? {
            match self.listen_on(local).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(unresolved))
    }

    async fn connect_to(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::open(self, |engine, now| {
            engine.connect(now, remote, None, None).map_err(|error| match error {
                ConnectError::NetworkUnreachable if engine.link().is_none() => only_loopback(io::ErrorKind::NetworkUnreachable, remote),
                ConnectError::NetworkUnreachable => lost(engine, remote).unwrap_or_else(|| error::connect(error)),
                error => error::connect(error),
            })
        })?;
        let id = socket.id();
        let outcome = Events::WRITABLE | Events::WRITE_CLOSED | Events::READ_CLOSED | Events::ERROR;
        let connected = |engine: &mut Engine, _| {
            engine.connected(id).map_err(|error| match error {
                ConnectedError::Closed(CloseReason::AddressInUse) => lost(engine, remote).unwrap_or_else(|| error::connected(error)),
                error => error::connected(error),
            })
        };
        socket.wait(outcome, connected).await?;
        Ok(TcpStream::new(socket, Family::of(remote)))
    }

    async fn listen_on(&self, local: SocketAddr) -> io::Result<TcpListener> {
        if let Detection::Failed(conflict) = self.detection(local.ip()).await? {
            return Err(in_use(conflict));
        }
        let socket = Socket::open(self, |engine, now| {
            engine.listen(now, local, BACKLOG).map_err(|error| match error {
                ListenError::AddressNotAvailable if engine.link().is_none() => only_loopback(io::ErrorKind::AddrNotAvailable, local),
                error => error::listen(error),
            })
        })?;
        Ok(TcpListener::new(socket, Family::of(local)))
    }
}

fn unresolved() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any address")
}

/// The stack would have a way to `remote`, if another host didn't have the address that it begins with.
fn lost(engine: &Engine, remote: SocketAddr) -> Option<io::Error> {
    engine.duplicate_address().filter(|conflict| conflict.address.is_ipv4() == remote.is_ipv4()).map(in_use)
}

fn only_loopback(kind: io::ErrorKind, address: SocketAddr) -> io::Error {
    let remedy = "this stack has only its in-process loopback: use synfin::Stack::builder().interface(..).address(..), \
                  or set SYNFIN_INTERFACE and SYNFIN_ADDRESS";
    io::Error::new(kind, format!("{address}: {remedy}"))
}

/// Connections that may wait to be accepted, as tokio's `bind` asks for.
const BACKLOG: u32 = 1024;
