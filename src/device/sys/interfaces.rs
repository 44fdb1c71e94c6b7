//! The addresses of this host's interfaces, in the network namespace of the caller (getifaddrs(3)).

use super::check;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// One address of an interface; none for the entry that says only that there is an interface of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::device) struct Entry {
    /// The interface's name.
    pub(in crate::device) name: String,
    /// An address that the kernel owns.
    pub(in crate::device) address: Option<IpAddr>,
}

/// All interfaces and their addresses.
pub(in crate::device) fn entries() -> io::Result<Vec<Entry>> {
    let mut first = ptr::null_mut();
    // SAFETY: the library writes one pointer, to `first`, which lives until the call ends.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let list = List(first);
    let mut entries = Vec::new();
    let mut next = list.0;
    while !next.is_null() {
        // SAFETY: `next` is the list's head or a successor, not null: an aligned `ifaddrs` that lives until `list` is dropped, below.
        let item = unsafe { &*next };
        // SAFETY: `ifa_name` is a string that ends with a zero and lives as long as the list.
        let name = unsafe { CStr::from_ptr(item.ifa_name) };
        entries.push(Entry { name: name.to_string_lossy().into_owned(), address: address(item) });
        next = item.ifa_next;
    }
    Ok(entries)
}

/// The IP address of a list item, if that is what it has.
fn address(item: &libc::ifaddrs) -> Option<IpAddr> {
    if item.ifa_addr.is_null() {
        return None;
    }
    // SAFETY: not null, it points to a `sockaddr` of some family, and begins with the fields of the plain one; read without alignment. No
    // family's address is shorter than the plain one, of 16 bytes.
    let plain = unsafe { item.ifa_addr.read_unaligned() };
    match i32::from(plain.sa_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a `sockaddr_in` is there; read without alignment.
            let address = unsafe { item.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a `sockaddr_in6` is there; read without alignment.
            let address = unsafe { item.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// The list that the library has allocated, freed when dropped.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `getifaddrs`, and is freed once, here; every reference into the list has ended.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_owns_its_address() {
        let expected = Entry { name: "lo".into(), address: Some(Ipv4Addr::LOCALHOST.into()) };
        assert!(entries().expect("a list").contains(&expected));
    }
}
