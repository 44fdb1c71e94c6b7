//! Which stack a call means that names none: the one entered, else the current runtime's, else the default, else a loopback made for the
//! purpose.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock};

use super::{Builder, Stack};
use crate::proto::Instant;

impl Stack {
    /// The stack that [`TcpListener::bind`](crate::net::TcpListener::bind) and [`TcpStream::connect`](crate::net::TcpStream::connect) use
    /// here and now: the one [entered](Self::enter), else that of the [`Runtime`](crate::Runtime) that runs this task, else the
    /// [default](Self::set_default), else a process-wide loopback, made when it is first needed.
    ///
    /// The last can be reached from inside this process only. `SYNFIN_INTERFACE`, `SYNFIN_ADDRESS` (several are separated by commas) and
    /// `SYNFIN_GATEWAY` put it on an interface without a change of code.
    ///
    /// # Errors
    /// Those of [`Builder::start`], when the loopback has to be made.
    pub fn current() -> io::Result<Self> {
        if let Some(stack) = innermost() {
            return Ok(stack);
        }
        let mut default = DEFAULT.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(stack) = &*default {
            return Ok(stack.clone());
        }
        let stack = from_environment()?;
        *default = Some(stack.clone());
        Ok(stack)
    }

    /// Makes this stack the process's default.
    pub fn set_default(&self) {
        let previous = DEFAULT.write().unwrap_or_else(PoisonError::into_inner).replace(self.clone());
        // Outside of the lock: it may be the last handle.
        drop(previous);
    }

    /// Makes this stack the current one on this thread, until the guard is dropped.
    ///
    /// Held across an `.await` it stays with the thread, not with the task: enter around what is polled, or use
    /// [`connect`](Self::connect) and [`listen`](Self::listen).
    /// ```
    /// use synfin::net::TcpListener;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let stack = synfin::Stack::builder().start()?;
    /// let entered = stack.enter();
    /// let listener = futures::executor::block_on(TcpListener::bind("127.0.0.1:80"))?; // on `stack`
    /// drop(entered);
    /// assert_eq!(stack.netstat()?.len(), 1);
    /// # drop(listener);
    /// # Ok(()) }
    /// ```
    pub fn enter(&self) -> Entered {
        ENTERED.with_borrow_mut(|entered| entered.push(self.clone()));
        Entered { depth: ENTERED.with_borrow(Vec::len), thread_bound: PhantomData }
    }
}

/// The time by the clock of the current stack; makes no stack.
pub(super) fn now() -> Instant {
    let stack = innermost().or_else(|| DEFAULT.read().unwrap_or_else(PoisonError::into_inner).clone());
    stack.map_or_else(super::clock::real_now, |stack| stack.shard().now())
}

/// Undoes [`Stack::enter`].
#[must_use = "the stack is left when this is dropped"]
#[derive(Debug)]
pub struct Entered {
    depth: usize,
    /// What was entered on one thread cannot be left on another.
    thread_bound: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = ENTERED.with_borrow_mut(|entered| entered.split_off((self.depth - 1).min(entered.len())));
        drop(left);
    }
}

fn innermost() -> Option<Stack> {
    ENTERED.with_borrow(|entered| entered.last().cloned()).or_else(super::executor::current_stack)
}

fn from_environment() -> io::Result<Stack> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut builder: Builder = Stack::builder();
    if let Some(interface) = variable("SYNFIN_INTERFACE") {
        builder = builder.interface(interface);
        for address in variable("SYNFIN_ADDRESS").iter().flat_map(|list| list.split(',')) {
            builder = builder.address(address.trim());
        }
        for gateway in variable("SYNFIN_GATEWAY").iter().flat_map(|list| list.split(',')) {
            builder = builder.gateway(gateway.trim());
        }
    } else {
        tracing::info!(
            "no stack was set: using a loopback that only this program can reach; SYNFIN_INTERFACE and SYNFIN_ADDRESS put it on a network"
        );
    }
    builder.start()
}

thread_local! {
    static ENTERED: RefCell<Vec<Stack>> = const { RefCell::new(Vec::new()) };
}

static DEFAULT: RwLock<Option<Stack>> = RwLock::new(None);

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Stack, b: &Stack) -> bool {
        std::ptr::eq(a.shard(), b.shard())
    }

    #[test]
    fn the_innermost_stack_is_current() {
        let (outer, inner) = (Stack::builder().start().expect("a stack"), Stack::builder().start().expect("a stack"));
        let outer_guard = outer.enter();
        assert!(same(&Stack::current().expect("entered"), &outer));
        let inner_guard = inner.enter();
        assert!(same(&Stack::current().expect("entered"), &inner));
        drop(inner_guard);
        assert!(same(&Stack::current().expect("entered"), &outer));
        drop(outer_guard);
        assert!(!same(&Stack::current().expect("the lazy loopback"), &outer));
    }
}
