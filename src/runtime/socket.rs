//! A handle to one socket of a shard: tries, waits, and releases the socket when it is dropped. What the operations mean is the business of
//! [`net`](crate::net).

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use super::Stack;
use super::readiness::{Direction, WaiterKey};
use super::shard::Park;
use super::sync::Dead;
use crate::proto::{Engine, Events, Instant, SocketId};

/// A socket and the stack that it keeps alive.
#[derive(Debug)]
pub(crate) struct Socket {
    stack: Stack,
    id: SocketId,
}

impl Socket {
    /// Opens a socket: `open` has the engine make one.
    pub(crate) fn open(stack: &Stack, open: impl FnOnce(&mut Engine, Instant) -> io::Result<SocketId>) -> io::Result<Self> {
        let id = stack.shard().call(|core, now| {
            if core.closing {
                return Err(Dead.into());
            }
            let id = open(&mut core.engine, now)?;
            core.readiness.insert(id);
            Ok::<_, io::Error>(id)
        })??;
        Ok(Self { stack: stack.clone(), id })
    }

    /// Takes charge of a socket that the engine has handed out.
    pub(crate) fn adopt(stack: &Stack, id: SocketId) -> io::Result<Self> {
        stack.shard().call(|core, _| core.readiness.insert(id))?;
        Ok(Self { stack: stack.clone(), id })
    }

    /// The stack.
    pub(crate) const fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The socket's name in the engine.
    pub(crate) const fn id(&self) -> SocketId {
        self.id
    }

    /// Calls the engine once.
    pub(crate) fn call<R>(&self, operation: impl FnOnce(&mut Engine, Instant) -> R) -> io::Result<R> {
        Ok(self.stack.shard().call(|core, now| operation(&mut core.engine, now))?)
    }

    /// Polls `operation` until it does not block, waiting in the socket's slot for `direction`: only the last task that polled is woken.
    pub(crate) fn poll<R>(
        &self,
        context: &Context<'_>,
        direction: Direction,
        operation: impl FnMut(&mut Engine, Instant) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.stack.shard().poll(context, self.id, Park::Slot(direction), operation)
    }

    /// Repeats `operation` until it does not block. Any number of tasks may wait; each is woken by every edge of `interest`.
    ///
    /// Dropping the future leaves no trace.
    pub(crate) async fn wait<R>(
        &self,
        interest: Events,
        mut operation: impl FnMut(&mut Engine, Instant) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut waiting = Waiting { socket: self, key: None };
        poll_fn(|context| self.stack.shard().poll(context, self.id, Park::List(&mut waiting.key, interest), &mut operation)).await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A dead stack has no socket left to release.
        _ = self.stack.shard().call(|core, now| {
            core.engine.release(now, self.id);
            core.readiness.remove(self.id)
        });
    }
}

/// A place in a socket's list of waiters.
struct Waiting<'a> {
    socket: &'a Socket,
    key: Option<WaiterKey>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            _ = self.socket.stack.shard().call(|core, _| core.readiness.unlink(self.socket.id, key));
        }
    }
}
