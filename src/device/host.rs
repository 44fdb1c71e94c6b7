//! What this host's kernel does with addresses that a stack wants: owns them, or forwards to them.
//!
//! A stack answers for addresses of its own. Where the kernel owns one too, both answer, and the kernel's RST ends every connection; where
//! the kernel forwards, it sends packets for the stack's address back to the network.

use super::sys::{interfaces, user};
use std::net::IpAddr;
use std::{fs, io};

/// The interface on which the kernel owns `address`, if it does, in the caller's network namespace.
///
/// # Errors
/// Those of getifaddrs(3).
///
/// # Example
/// ```
/// use synfin::device::host;
/// assert_eq!(host::owner_of("192.0.2.1".parse().unwrap())?, None);
/// # std::io::Result::Ok(())
/// ```
pub fn owner_of(address: IpAddr) -> io::Result<Option<String>> {
    let owner = interfaces::entries()?.into_iter().find(|entry| entry.address == Some(address));
    Ok(owner.map(|entry| entry.name))
}

/// The effective user of this process, as its user namespace numbers it.
pub(crate) fn effective_user() -> u32 {
    user::effective_user()
}

/// Refuses an address that the kernel owns, with the reason and the remedy.
///
/// # Errors
/// [`AddrInUse`](io::ErrorKind::AddrInUse) if it does.
pub fn check_is_free(address: IpAddr) -> io::Result<()> {
    let Some(interface) = owner_of(address)? else { return Ok(()) };
    let text = format!(
        "the kernel owns {address} on {interface}: it would answer every connection to it with a reset; \
         choose a free address of the same network, or give this one up: sudo ip address del {address} dev {interface}"
    );
    Err(io::Error::new(io::ErrorKind::AddrInUse, text))
}

/// The names of the interfaces there are, sorted.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn interface_names() -> io::Result<Vec<String>> {
    let mut names: Vec<_> = interfaces::entries()?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// True if the kernel forwards packets of the address's family between interfaces: then it sends what is meant for a stack's address back to
/// the network, with redirects. The remedy is [`FORWARDING_REMEDY`].
#[must_use]
pub fn is_forwarding(address: IpAddr) -> bool {
    let path = match address {
        IpAddr::V4(_) => "/proc/sys/net/ipv4/ip_forward",
        IpAddr::V6(_) => "/proc/sys/net/ipv6/conf/all/forwarding",
    };
    // Where there is no such file there is no such family, and nothing is forwarded.
    fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

/// The command that keeps the kernel from forwarding.
pub const FORWARDING_REMEDY: &str = "sudo sysctl net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_address_is_refused_with_the_remedy() {
        let error = check_is_free("127.0.0.1".parse().expect("an address")).expect_err("the kernel owns it");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().ends_with("sudo ip address del 127.0.0.1 dev lo"), "{error}");
        check_is_free("192.0.2.1".parse().expect("an address")).expect("nobody owns a documentation address");
    }

    #[test]
    fn loopback_is_among_the_names_once() {
        assert_eq!(interface_names().expect("a list").iter().filter(|name| *name == "lo").count(), 1);
    }
}
