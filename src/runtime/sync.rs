//! Locks and reference counts of the runtime, in one place so that a model checker can stand in for the standard library.
//!
//! A panic while a lock is held leaves a half-changed engine behind. [`Lock`] turns every later use into [`Dead`]: an error on each socket,
//! never a second panic.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

pub(crate) use std::sync::{Arc, Weak};

/// The stack is gone: shut down, or a panic under its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead;

impl From<Dead> for io::Error {
    fn from(_: Dead) -> Self {
        Self::other("synfin stack shut down")
    }
}

/// A mutex whose poison is an error.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Wraps a value.
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>, Dead> {
        self.0.lock().map_err(|_| Dead)
    }

    /// Waits for the lock, and takes it even if what it protects is half-changed: only for leaving in good order.
    pub(crate) fn lock_even_dead(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, Dead> {
        match self.0.try_lock() {
            Ok(guard) => Ok(Some(guard)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Poisoned(_)) => Err(Dead),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_under_the_lock_is_an_error_afterwards() {
        let lock = Arc::new(Lock::new(0));
        let other = Arc::clone(&lock);
        let panicked = std::thread::spawn(move || {
            let _guard = other.lock();
            panic!("planted");
        });
        assert!(panicked.join().is_err());
        assert_eq!(lock.lock().err(), Some(Dead));
        assert_eq!(lock.try_lock().err(), Some(Dead));
        assert_eq!(io::Error::from(Dead).to_string(), "synfin stack shut down");
    }

    #[test]
    fn a_held_lock_is_not_waited_for() {
        let lock = Lock::new(0);
        let guard = lock.lock();
        assert!(matches!(lock.try_lock(), Ok(None)));
        drop(guard);
        assert!(matches!(lock.try_lock(), Ok(Some(_))));
    }
}
