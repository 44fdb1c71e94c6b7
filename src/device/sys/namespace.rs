//! A child process that begins in a user and network namespace of its own (user_namespaces(7), network_namespaces(7)).
//!
//! The work is done between fork and exec, where the child has one thread, as `unshare` asks for. Nothing there allocates: what it writes is
//! prepared before.

use super::check;
use super::ioctl::Request;
use super::user::effective_user;
use socket2::{Domain, Socket, Type};
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child of `command` begin in new namespaces, in which it is root and the loopback is up. It dies with the thread that starts it.
pub(in crate::device) fn enter_on_exec(command: &mut Command) {
    let user = effective_user();
    // SAFETY: the call takes nothing, always succeeds and touches no memory.
    let group = unsafe { libc::getegid() };
    let maps = Maps { user: format!("0 {user} 1").into_bytes(), group: format!("0 {group} 1").into_bytes() };
    let Some(loopback) = Request::new("lo") else { return };
    // SAFETY: the closure runs in the forked child, in which other threads' locks may be held for ever: it makes system calls on memory that
    // it owns, and neither allocates nor takes a lock. (An `io::Error` made from an error number allocates nothing.)
    unsafe { command.pre_exec(move || enter(&maps, loopback)) };
}

/// Makes the child of `command` begin in a network namespace of its own, in which the loopback is up, and in the user namespace of the caller,
/// who must be root of it. It dies with the thread that starts it.
pub(in crate::device) fn enter_network_on_exec(command: &mut Command) {
    let Some(loopback) = Request::new("lo") else { return };
    let enter = move || unshare(libc::CLONE_NEWNET).and_then(|()| begin(loopback));
    // SAFETY: as in `enter_on_exec`, the closure makes system calls on memory that it owns, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(enter) };
}

/// Who we are outside, as the lines that make us root inside.
struct Maps {
    user: Vec<u8>,
    group: Vec<u8>,
}

fn enter(maps: &Maps, loopback: Request) -> io::Result<()> {
    if let Err(error) = enter_as_user(maps) {
        // A system that gives out no user namespaces still gives root a network namespace.
        unshare(libc::CLONE_NEWNET).map_err(|_| error)?;
    }
    begin(loopback)
}

fn begin(loopback: Request) -> io::Result<()> {
    die_with_parent()?;
    // The first thing that needs a capability: some systems give out namespaces without any.
    let socket = Socket::new_raw(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    let flags = loopback.flags(socket.as_fd())?;
    loopback.set_flags(socket.as_fd(), flags | IS_UP)
}

fn enter_as_user(maps: &Maps) -> io::Result<()> {
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    // Without the right to change its groups, a process may map its own group (user_namespaces(7)).
    write(c"/proc/self/setgroups", b"deny")?;
    write(c"/proc/self/uid_map", &maps.user)?;
    write(c"/proc/self/gid_map", &maps.group)
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes an integer and touches no memory. New user and network namespaces invalidate no descriptor and no address.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

fn die_with_parent() -> io::Result<()> {
    let signal = libc::c_ulong::try_from(libc::SIGKILL).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: with this operation the call takes an integer and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

fn write(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends with a zero and lives until the call ends.
    let file = check(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    let file = libc::c_int::try_from(file).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads at most `len` bytes at the pointer, which are `bytes`.
    let answer = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
    let answer = if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: the descriptor was opened above, is closed once, and was given to nobody.
    check(unsafe { libc::close(file) })?;
    answer
}

/// The flag of an interface that is up.
const IS_UP: u16 = 1;
const _: () = assert!(IS_UP as libc::c_int == libc::IFF_UP);
