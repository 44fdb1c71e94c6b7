//! Who this process is (credentials(7)).

/// The effective user, as this process's user namespace numbers it.
pub(in crate::device) fn effective_user() -> u32 {
    // SAFETY: the call takes nothing, always succeeds and touches no memory.
    unsafe { libc::geteuid() }
}
