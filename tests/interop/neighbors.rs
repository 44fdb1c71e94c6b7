//! Who is on the link, with the kernel as the other host: an address that it has already, several addresses of both families, link-local
//! ones among them, and a host that is not there.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use synfin::Stack;
use synfin::device::{PacketSocket, namespace};
use synfin::proto::Medium;

use crate::lab::{KERNEL, veth};

fn stack(addresses: &[&str]) -> Stack {
    let own: Vec<IpAddr> = addresses.iter().map(|cidr| cidr.split('/').next().and_then(|ip| ip.parse().ok()).expect("a literal")).collect();
    let device = PacketSocket::open("syn1", &own).expect("a packet socket");
    addresses.iter().fold(Stack::builder().device(device), |builder, cidr| builder.address(*cidr)).start().expect("a stack")
}

fn kernel_mac() -> String {
    match PacketSocket::open("syn0", &[]).expect("a packet socket").link().medium {
        Medium::Ethernet(mac) => mac.to_string(),
        Medium::Ip => panic!("veth is Ethernet"),
    }
}

#[test]
fn an_address_of_the_kernel_is_refused_with_its_mac() {
    namespace::test("neighbors::an_address_of_the_kernel_is_refused_with_its_mac", || {
        let _veth = veth();
        for (address, cidr) in KERNEL.iter().zip(["10.9.0.1/24", "fd09::1/64"]) {
            let start = Instant::now();
            let stack = stack(&[cidr]);
            let remote = SocketAddr::new(*address, 7);
            let results = [block_on(stack.listen(remote)).err(), block_on(stack.ready()).err(), block_on(stack.connect(remote)).err()];
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            for error in results {
                let error = error.expect("the kernel has it");
                let text = error.to_string();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{text}");
                assert!(text.contains(&kernel_mac()) && text.contains(&address.to_string()), "{text}");
            }
        }
        // The kernel's own address has not suffered: nobody else was told of another owner.
        let other = stack(&["10.9.0.2/24"]);
        let listener = TcpListener::bind(SocketAddr::new(KERNEL[0], 0)).expect("a free port");
        block_on(other.connect(listener.local_addr().expect("it listens"))).expect("connected");
    });
}

#[test]
fn every_address_of_both_families_is_reached_and_comes_from_itself() {
    namespace::test("neighbors::every_address_of_both_families_is_reached_and_comes_from_itself", || {
        let veth = veth();
        veth.address("syn0", "fe80::1:1/64").expect("an address");
        let stack = stack(&["10.9.0.2/24", "10.9.0.3/24", "fd09::2/64", "fd09::3/64", "fe80::2/64"]);
        block_on(stack.ready()).expect("nobody else has them");
        // The interface lets the groups of neighbour discovery in, and all nodes.
        let groups = std::fs::read_to_string("/proc/net/dev_mcast").expect("the kernel's list");
        let ours: Vec<_> = groups.lines().filter(|line| line.split_whitespace().nth(1) == Some("syn1")).collect();
        for group in ["3333ff000002", "3333ff000003", "333300000001"] {
            assert!(ours.iter().any(|line| line.ends_with(group)), "{group} is not in {groups}");
        }
        let scope = index_of("fe800000000000000000000000010001").expect("syn0");
        let listener = block_on(stack.listen("[::]:7")).expect("a free port");
        for own in ["10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3", "fe80::2"] {
            let own: IpAddr = own.parse().expect("a literal");
            let kernel = TcpStream::connect(scoped(own, 7, scope)).expect("connected");
            let (accepted, _) = block_on(listener.accept()).expect("a connection");
            let local = accepted.local_addr().expect("connected");
            assert_eq!(local.ip().to_canonical(), own, "{local}");
            assert_eq!(kernel.peer_addr().expect("connected").ip(), own);
        }
        for (kernel, expected) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2"), ("fe80::1:1", "fe80::2")] {
            let kernel: IpAddr = kernel.parse().expect("a literal");
            let listener = TcpListener::bind(scoped(kernel, 0, scope)).expect("a free port");
            let port = listener.local_addr().expect("it listens").port();
            let _stream = block_on(stack.connect(SocketAddr::new(kernel, port))).expect("connected");
            let (_, peer) = listener.accept().expect("a connection");
            assert_eq!(peer.ip(), expected.parse::<IpAddr>().expect("a literal"));
        }
    });
}

#[test]
fn a_host_that_is_not_there_is_unreachable_after_three_seconds() {
    namespace::test("neighbors::a_host_that_is_not_there_is_unreachable_after_three_seconds", || {
        let _veth = veth();
        let stack = stack(&["10.9.0.2/24", "fd09::2/64"]);
        block_on(stack.ready()).expect("nobody else has them");
        let start = Instant::now();
        let attempts = ["10.9.0.77:7", "[fd09::77]:7"].map(|remote| stack.connect(remote));
        for attempt in block_on(futures::future::join_all(attempts)) {
            let error = attempt.expect_err("nobody is there");
            assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::HostUnreachable, Some(libc::EHOSTUNREACH)));
        }
        let counted = stack.stats().expect("the stack lives").neighbors;
        assert_eq!((counted.solicitations, counted.failures), (6, 2));
        let time = start.elapsed();
        assert!((Duration::from_millis(2900)..Duration::from_secs(6)).contains(&time), "{time:?}");
    });
}

/// The index of the interface that has this address, as the kernel's list has it: 32 digits.
fn index_of(address: &str) -> Option<u32> {
    let list = std::fs::read_to_string("/proc/net/if_inet6").expect("the kernel's list");
    let row = list.lines().find(|line| line.starts_with(address))?;
    u32::from_str_radix(row.split_whitespace().nth(1)?, 16).ok()
}

fn scoped(ip: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(&ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        ip => SocketAddr::new(ip, port),
    }
}
