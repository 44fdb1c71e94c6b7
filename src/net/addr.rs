//! Names to addresses. Literals are read on the spot; names go to the system's resolver, on a thread that may block.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::channel::oneshot;

/// What can be turned into socket addresses: the types for which `std::net::ToSocketAddrs` is implemented. The trait is sealed; use
/// [`lookup_host`].
pub trait ToSocketAddrs: Lookup {}

/// Resolves a name. The order is the resolver's.
///
/// # Errors
/// `InvalidInput` if there is no port; the resolver's errors; `WouldBlock` if 64 lookups are under way already.
///
/// # Cancel safety
/// A lookup that was begun goes on unobserved.
///
/// ```
/// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
/// let addresses: Vec<_> = synfin::net::lookup_host("[::1]:80").await?.collect();
/// assert_eq!(addresses, ["[::1]:80".parse().unwrap()]);
/// # Ok(()) }) }
/// ```
pub async fn lookup_host<T: ToSocketAddrs>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>> {
    resolve(&host).await
}

/// Resolves a name without giving its type a life of its own.
pub(crate) fn resolve<T: ToSocketAddrs + ?Sized>(host: &T) -> impl Future<Output = io::Result<Addresses>> + Send + 'static {
    let query = host.query();
    async move {
        match query? {
            Query::Known(addresses) => Ok(addresses),
            Query::Name(name, port) => look_up(name, port).await,
        }
    }
}

/// Resolved addresses.
#[expect(unnameable_types, reason = "users see an iterator")]
#[derive(Debug)]
pub enum Addresses {
    One(Option<SocketAddr>),
    Many(std::vec::IntoIter<SocketAddr>),
}

impl Iterator for Addresses {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            Self::One(address) => address.take(),
            Self::Many(addresses) => addresses.next(),
        }
    }
}

async fn look_up(name: String, port: u16) -> io::Result<Addresses> {
    let place = Place::take()?;
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new().name("synfin-resolver".into()).spawn(move || {
        let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port));
        drop(place);
        // Nobody waits any more if this fails.
        _ = answer.send(addresses);
    })?;
    match answered.await {
        Ok(addresses) => addresses.map(Addresses::Many),
        Err(oneshot::Canceled) => Err(io::Error::other("the resolver's thread panicked")),
    }
}

/// One of the lookups that may be under way.
struct Place;

impl Place {
    fn take() -> io::Result<Self> {
        let taken = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < LOOKUPS_MAX).then_some(taken + 1));
        taken.map(|_| Self).map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "too many name lookups are under way"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::AcqRel);
    }
}

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Threads that may wait for the resolver at once.
const LOOKUPS_MAX: usize = 64;

#[expect(unnameable_types, reason = "that is what seals the trait")]
mod sealed {
    use super::{Addresses, io};

    #[derive(Debug)]
    pub enum Query {
        Known(Addresses),
        Name(String, u16),
    }

    pub trait Lookup {
        fn query(&self) -> io::Result<Query>;
    }
}

use sealed::{Lookup, Query};

fn one(address: SocketAddr) -> io::Result<Query> {
    Ok(Query::Known(Addresses::One(Some(address))))
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {}
impl<T: ToSocketAddrs + ?Sized> Lookup for &T {
    fn query(&self) -> io::Result<Query> {
        (**self).query()
    }
}

impl ToSocketAddrs for SocketAddr {}
impl Lookup for SocketAddr {
    fn query(&self) -> io::Result<Query> {
        one(*self)
    }
}

impl ToSocketAddrs for SocketAddrV4 {}
impl Lookup for SocketAddrV4 {
    fn query(&self) -> io::Result<Query> {
        one((*self).into())
    }
}

impl ToSocketAddrs for SocketAddrV6 {}
impl Lookup for SocketAddrV6 {
    fn query(&self) -> io::Result<Query> {
        one((*self).into())
    }
}

impl ToSocketAddrs for (IpAddr, u16) {}
impl Lookup for (IpAddr, u16) {
    fn query(&self) -> io::Result<Query> {
        one((*self).into())
    }
}

impl ToSocketAddrs for (Ipv4Addr, u16) {}
impl Lookup for (Ipv4Addr, u16) {
    fn query(&self) -> io::Result<Query> {
        one((*self).into())
    }
}

impl ToSocketAddrs for (Ipv6Addr, u16) {}
impl Lookup for (Ipv6Addr, u16) {
    fn query(&self) -> io::Result<Query> {
        one((*self).into())
    }
}

impl ToSocketAddrs for [SocketAddr] {}
impl Lookup for [SocketAddr] {
    fn query(&self) -> io::Result<Query> {
        Ok(Query::Known(Addresses::Many(Vec::from(self).into_iter())))
    }
}

impl ToSocketAddrs for str {}
impl Lookup for str {
    fn query(&self) -> io::Result<Query> {
        if let Ok(address) = self.parse() {
            return one(address);
        }
        let (name, port) = self.rsplit_once(':').ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "invalid socket address"))?;
        let port = port.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "invalid port value"))?;
        Ok(Query::Name(name.to_owned(), port))
    }
}

impl ToSocketAddrs for String {}
impl Lookup for String {
    fn query(&self) -> io::Result<Query> {
        self.as_str().query()
    }
}

impl ToSocketAddrs for (&str, u16) {}
impl Lookup for (&str, u16) {
    fn query(&self) -> io::Result<Query> {
        let (name, port) = *self;
        match name.parse::<IpAddr>() {
            Ok(address) => one((address, port).into()),
            Err(_) => Ok(Query::Name(name.to_owned(), port)),
        }
    }
}

impl ToSocketAddrs for (String, u16) {}
impl Lookup for (String, u16) {
    fn query(&self) -> io::Result<Query> {
        (self.0.as_str(), self.1).query()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn addresses(host: impl ToSocketAddrs) -> io::Result<Vec<String>> {
        Ok(block_on(lookup_host(host))?.map(|address| address.to_string()).collect())
    }

    #[test]
    fn literals_need_no_resolver() {
        for text in ["10.0.0.1:80", "[fe80::1]:443"] {
            assert!(matches!(text.query(), Ok(Query::Known(_))), "{text}");
            assert_eq!(addresses(text).expect("a literal"), [text]);
        }
        assert_eq!(addresses(("::1", 7)).expect("a literal"), ["[::1]:7"]);
        assert_eq!(addresses((Ipv4Addr::LOCALHOST, 7)).expect("a literal"), ["127.0.0.1:7"]);
    }

    #[test]
    fn what_has_no_port_is_refused() {
        for text in ["localhost", "localhost:http", "localhost:70000"] {
            assert_eq!(addresses(text).expect_err(text).kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn localhost_is_known_to_the_resolver() {
        let found = addresses("localhost:80").expect("in every hosts file");
        assert!(found.iter().any(|address| address == "127.0.0.1:80" || address == "[::1]:80"), "{found:?}");
    }
}
