//! A stack over raw IP sockets against the Linux kernel of a second network namespace: both roles, streams both ways, and the rule without
//! which the kernel resets every connection. Needs `nft`; where it is missing the tests fail if namespaces are required, and say so if not.

#![expect(clippy::disallowed_methods, reason = "the kernel is the peer, and its time is real")]

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use synfin::Stack;
use synfin::device::RawIp;
use synfin::device::namespace::{self, Veth};

/// How long something may take that usually takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a transfer.
const LEN: usize = 1 << 20;

/// Set for the child in the second namespace.
const BESIDE: &str = "SYNFIN_RAW_IP_BESIDE";

const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const PEER: &str = "10.9.0.2:8";

/// A port of the peer's that answers with an ICMP error, and the rule that makes it so.
const REJECTED: &str = "10.9.0.2:9";
const REJECTION: &str = "add table ip filter; add chain ip filter input { type filter hook input priority 0; }; \
                         add rule ip filter input tcp dport 9 reject with icmp type admin-prohibited";

#[test]
fn streams_go_both_ways_and_the_rule_goes_with_the_device() {
    const NAME: &str = "streams_go_both_ways_and_the_rule_goes_with_the_device";
    if std::env::var_os(BESIDE).is_some() {
        return peer(|| {
            let listener = TcpListener::bind(PEER).expect("a free port");
            assert!(nft().arg(REJECTION).status().expect("nft").success());
            exchange(&TcpStream::connect_timeout(&SocketAddr::new(OURS.into(), 7), PATIENCE).expect("no reset"));
            exchange(&listener.accept().expect("it calls").0);
            // Its interface goes with this process.
            std::io::stdin().read_to_end(&mut Vec::new()).expect("the other side is done");
        });
    }
    if !has_nft() {
        return;
    }
    namespace::test(NAME, || {
        let (_veth, mut child) = begin(NAME);
        let device = RawIp::open(OURS.into()).expect("root inside");
        let counters = device.counters();
        assert_eq!((device.name(), device.link().mtu), ("syn0", 1500));
        let stack = Stack::builder().device(device).address("10.9.0.1/24").start().expect("a stack");
        assert!(rules().contains("table ip synfin_10_9_0_1"), "{}", rules());
        let listener = block_on(stack.listen(SocketAddr::new(OURS.into(), 7))).expect("a free port");
        child.stdin.as_mut().expect("a pipe").write_all(b"!").expect("it waits");
        echo(block_on(listener.accept()).expect("it calls").0);
        echo(block_on(stack.connect(PEER.parse::<SocketAddr>().expect("an address"))).expect("it listens"));
        let error = block_on(stack.connect(REJECTED.parse::<SocketAddr>().expect("an address"))).expect_err("an ICMP error");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
        drop(child.stdin.take());
        assert!(child.wait().expect("it ends").success());
        assert!(!rules().contains("counter packets 0 "), "the kernel sent no reset, so that this shows nothing: {}", rules());
        let counts = counters.snapshot();
        assert!(counts.received_super > 0, "the kernel sent nothing in one piece: {counts:?}");
        assert_eq!((counts.oversize, counts.malformed, counts.truncated, counts.refused), (0, 0, 0, 0));
        drop((listener, stack));
        // The stack's thread drops the device.
        let start = Instant::now();
        while !rules().is_empty() {
            assert!(start.elapsed() < PATIENCE, "the rule stays: {}", rules());
        }
    });
}

#[test]
fn the_kernel_resets_without_the_rule() {
    const NAME: &str = "the_kernel_resets_without_the_rule";
    if std::env::var_os(BESIDE).is_some() {
        return peer(|| {
            let error = TcpStream::connect_timeout(&SocketAddr::new(OURS.into(), 7), PATIENCE).expect_err("the kernel's reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        });
    }
    namespace::test(NAME, || {
        let (_veth, mut child) = begin(NAME);
        let device = RawIp::open_behind_rule(OURS.into()).expect("root inside");
        let stack = Stack::builder().device(device).address("10.9.0.1/24").start().expect("a stack");
        let _listener = block_on(stack.listen(SocketAddr::new(OURS.into(), 7))).expect("a free port");
        child.stdin.take().expect("a pipe").write_all(b"!").expect("it waits");
        assert!(child.wait().expect("it ends").success());
    });
}

/// A pair of interfaces, ours with the address, and the process that gets the other end.
fn begin(name: &str) -> (Veth, Child) {
    let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
    veth.address("syn0", "10.9.0.1/24").expect("an address");
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args([name, "--exact", "--test-threads=1"]).env(BESIDE, "1").stdin(Stdio::piped());
    namespace::begin_beside(&mut command);
    let child = command.spawn().expect("root inside");
    veth.give("syn1", child.id()).expect("it lives");
    (veth, child)
}

/// What the process in the second namespace does, once it has its end of the pair.
fn peer(body: impl FnOnce()) {
    std::io::stdin().read_exact(&mut [0]).expect("the other side is ready");
    let veth = Veth::adopt("syn1").expect("given");
    veth.address("syn1", "10.9.0.2/24").expect("an address");
    body();
}

/// The kernel's side: sends a pattern, and reads it back.
fn exchange(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = stream;
            writer.write_all(&pattern()).expect("connected");
            stream.shutdown(Shutdown::Write).expect("connected");
        });
        let (mut reader, mut read) = (stream, Vec::new());
        reader.read_to_end(&mut read).expect("no reset");
        assert!(read == pattern(), "{} bytes came back", read.len());
    });
}

/// The stack's side: sends back what it reads.
fn echo(mut stream: synfin::net::TcpStream) {
    block_on(async {
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("to the end of the stream");
        assert!(read == pattern(), "{} bytes came", read.len());
        stream.write_all(&read).await.expect("connected");
        stream.close().await.expect("open");
    });
}

fn pattern() -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from(at % 251).expect("below 256")).collect()
}

/// The firewall's rules in this namespace.
fn rules() -> String {
    let output = nft().args(["list", "ruleset"]).output().expect("nft");
    String::from_utf8(output.stdout).expect("text")
}

/// The program, which Debian's users have no path to.
fn nft() -> Command {
    let mut command = Command::new("nft");
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    command.env("PATH", path);
    command
}

fn has_nft() -> bool {
    let found = nft().arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("SYNFIN_REQUIRE_TOOLS").is_none(), "nft is missing: apt install nftables");
    if !found {
        let error = RawIp::open(IpAddr::from(Ipv4Addr::LOCALHOST)).expect_err("there is no nft");
        eprintln!("ignored: {error}");
    }
    found
}
