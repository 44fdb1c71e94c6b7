//! The system calls that no safe wrapper offers: the only `unsafe` of the crate.
//!
//! | module | calls |
//! |---|---|
//! | [`interfaces`] | the addresses of this host |
//! | [`ioctl`] | facts about an interface, by name |
//! | [`mmsg`] | frames in and out, gathered and batched |
//! | [`namespace`] | another user and network namespace for a child (feature `lab`) |
//! | [`option`] | socket options as integers |
//! | [`sockaddr`] | binding to an interface |
//! | [`tuntap`] | settings of a TUN/TAP descriptor, and its frames into fresh memory |
//! | [`user`] | who this process is |
//!
//! Each function is safe to call with any argument: the argument for each block stands above it and rests only on what the function itself
//! has made, on its parameters' types and on documented behaviour of Linux. Nothing here keeps state.

pub(super) mod interfaces;
pub(super) mod ioctl;
pub(super) mod mmsg;
#[cfg(feature = "lab")]
pub(super) mod namespace;
pub(super) mod option;
pub(super) mod sockaddr;
pub(super) mod tuntap;
pub(super) mod user;

use std::io;

/// The answer of a system call as a result: negative means that `errno` says why.
fn check(answer: libc::c_int) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}
