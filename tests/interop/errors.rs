//! Errors as a program sees them. Every case is one body over two hosts: the one that is observed and its peer. It runs once with the kernel
//! observed and synfin as its peer, and once the other way round; the two have to see the same numbers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use synfin::Stack;
use synfin::proto::Config;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::gate::{Gate, Rule};
use crate::lab::{KERNEL, Lab, PATIENCE, SYNFIN, Wire, kernel_states, over_ethernet, over_every_wire};

/// What a call gave: a count, or the system's error number (zero for an error without one).
type Outcome = Result<usize, i32>;

/// One of the two TCPs.
#[derive(Clone)]
enum Host {
    Kernel,
    Synfin(Stack),
}

enum Listener {
    Kernel(tokio::net::TcpListener),
    Synfin(synfin::net::TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    fn reset_on_drop(&self) -> io::Result<()>;
}

impl Stream for tokio::net::TcpStream {
    fn reset_on_drop(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl Stream for synfin::net::TcpStream {
    fn reset_on_drop(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl Host {
    const fn ip(&self) -> IpAddr {
        match self {
            Self::Kernel => KERNEL[0],
            Self::Synfin(_) => SYNFIN[0],
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Kernel => Box::new(tokio::net::TcpStream::connect(address).await?),
            Self::Synfin(stack) => Box::new(stack.connect(address).await?),
        })
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        Ok(match self {
            Self::Kernel => Listener::Kernel(tokio::net::TcpListener::bind(address).await?),
            Self::Synfin(stack) => Listener::Synfin(stack.listen(address).await?),
        })
    }

    async fn listen_anywhere(&self) -> (Listener, SocketAddr) {
        let listener = self.listen(SocketAddr::new(self.ip(), 0)).await.expect("a free port");
        let address = match &listener {
            Listener::Kernel(listener) => listener.local_addr(),
            Listener::Synfin(listener) => listener.local_addr(),
        };
        (listener, address.expect("it listens"))
    }

    /// A connection: our end and that of `peer`, which accepted it.
    async fn pair(&self, peer: &Self) -> [Box<dyn Stream>; 2] {
        let (listener, address) = peer.listen_anywhere().await;
        let ours = self.connect(address).await.expect("somebody listens");
        [ours, listener.accept().await.expect("a connection waits")]
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Kernel(listener) => Box::new(listener.accept().await?.0),
            Self::Synfin(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Runs `case` with either host observed, both at once, and compares what they saw with `expected`.
fn check<F: Future<Output = Vec<Outcome>>>(lab: &Lab, expected: &[Outcome], case: impl Fn(Host, Host) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (kernel, synfin) = (Host::Kernel, Host::Synfin(lab.stack.clone()));
    let observed = async |host: &Host, peer: &Host| {
        tokio::time::timeout(PATIENCE, case(host.clone(), peer.clone())).await.unwrap_or_else(|_| {
            let who = if matches!(host, Host::Kernel) { "the kernel" } else { "synfin" };
            panic!("{who} waits in vain; stack: {:#?}, kernel: {:?}", lab.stack.netstat(), kernel_states())
        })
    };
    let (kernels, ours) = runtime.block_on(async { tokio::join!(observed(&kernel, &synfin), observed(&synfin, &kernel)) });
    assert_eq!(kernels, expected, "the kernel's");
    assert_eq!(ours, expected, "synfin's");
}

fn outcome<T>(result: &io::Result<T>) -> Outcome {
    match result {
        Ok(_) => Ok(0),
        Err(error) => Err(error.raw_os_error().unwrap_or(0)),
    }
}

async fn read(stream: &mut Box<dyn Stream>) -> Outcome {
    let mut buffer = [0; 16];
    stream.read(&mut buffer).await.map_err(|error| error.raw_os_error().unwrap_or(0))
}

async fn write(stream: &mut Box<dyn Stream>) -> Outcome {
    stream.write(b"word").await.map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Drops a stream so that its peer is sent a reset.
fn reset(stream: Box<dyn Stream>) {
    stream.reset_on_drop().expect("it is open");
    drop(stream);
}

/// Long enough for a segment to arrive.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

over_every_wire! {
    nobody_listens
    there_is_no_way
    the_peer_swallows_everything
    a_reset_is_reported_once
    what_came_before_a_reset_is_read_first
    a_reset_after_the_peers_fin_is_a_broken_pipe
    a_peer_that_closes_with_data_unread_resets
    our_own_half_is_closed
    the_listener_goes_before_it_accepts
    what_is_accepted_was_reset_before
}

// A TUN has no neighbours: what leaves it is delivered or lost without a word.
over_ethernet! { the_neighbour_does_not_answer }

fn nobody_listens(wire: Wire) {
    check(&Lab::over(wire), &[Err(libc::ECONNREFUSED)], async |host, peer| {
        let (listener, address) = peer.listen_anywhere().await;
        drop(listener);
        vec![outcome(&host.connect(address).await)]
    });
}

fn there_is_no_way(wire: Wire) {
    let (unreachable, foreign) = (Err(libc::ENETUNREACH), Err(libc::EADDRNOTAVAIL));
    check(&Lab::over(wire), &[unreachable, unreachable, foreign, Err(libc::EADDRINUSE)], async |host, peer| {
        let (_listener, own) = host.listen_anywhere().await;
        vec![
            outcome(&host.connect("192.0.2.1:80".parse().expect("an address")).await),
            outcome(&host.connect("[2001:db8::1]:80".parse().expect("an address")).await),
            outcome(&host.listen(SocketAddr::new(peer.ip(), 80)).await),
            outcome(&host.listen(own).await),
        ]
    });
}

fn the_neighbour_does_not_answer(wire: Wire) {
    let unreachable = Err(libc::EHOSTUNREACH);
    check(&Lab::over(wire), &[unreachable; 2], async |host, _| {
        let start = Instant::now();
        let [v4, v6] = ["10.9.0.77:80", "[fd09::77]:80"].map(|text| host.connect(text.parse().expect("an address")));
        let (v4, v6) = tokio::join!(v4, v6);
        assert!(start.elapsed() > Duration::from_secs(2), "three questions, a second apart");
        vec![outcome(&v4), outcome(&v6)]
    });
}

fn the_peer_swallows_everything(wire: Wire) {
    // Both retry once, after a second, and wait two more; our answers to the kernel are lost as well as our questions.
    std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").expect("root may");
    std::fs::write("/proc/sys/net/ipv4/tcp_syn_linear_timeouts", "0").unwrap_or_default();
    let mut config = Config::default();
    (config.syn_retries, config.syn_linear_timeouts) = (1, 0);
    let gate = Gate::new(Rule::Pass);
    let lab = Lab::with(wire, config, |device| gate.around(device));
    gate.set(Rule::SwallowTcp);
    check(&lab, &[Err(libc::ETIMEDOUT)], async |host, peer| {
        let (_listener, address) = peer.listen_anywhere().await;
        vec![outcome(&host.connect(address).await)]
    });
}

fn a_reset_is_reported_once(wire: Wire) {
    let lab = Lab::over(wire);
    check(&lab, &[Err(libc::ECONNRESET), Ok(0), Err(libc::EPIPE)], async |host, peer| {
        let [mut ours, theirs] = host.pair(&peer).await;
        reset(theirs);
        vec![read(&mut ours).await, read(&mut ours).await, write(&mut ours).await]
    });
    check(&lab, &[Err(libc::ECONNRESET), Err(libc::EPIPE), Ok(0)], async |host, peer| {
        let [mut ours, theirs] = host.pair(&peer).await;
        reset(theirs);
        settle().await;
        vec![write(&mut ours).await, write(&mut ours).await, read(&mut ours).await]
    });
}

fn what_came_before_a_reset_is_read_first(wire: Wire) {
    check(&Lab::over(wire), &[Ok(4), Err(libc::ECONNRESET), Ok(0)], async |host, peer| {
        let [mut ours, mut theirs] = host.pair(&peer).await;
        write(&mut theirs).await.expect("room");
        settle().await;
        reset(theirs);
        settle().await;
        vec![read(&mut ours).await, read(&mut ours).await, read(&mut ours).await]
    });
}

fn a_reset_after_the_peers_fin_is_a_broken_pipe(wire: Wire) {
    let lab = Lab::over(wire);
    check(&lab, &[Ok(0), Ok(0), Err(libc::EPIPE)], async |host, peer| {
        let [mut ours, mut theirs] = host.pair(&peer).await;
        theirs.shutdown().await.expect("open");
        let end = read(&mut ours).await;
        reset(theirs);
        settle().await;
        vec![end, read(&mut ours).await, write(&mut ours).await]
    });
    // Closed altogether, the peer answers the first write with a reset.
    check(&lab, &[Ok(4), Err(libc::EPIPE), Ok(0)], async |host, peer| {
        let [mut ours, theirs] = host.pair(&peer).await;
        drop(theirs);
        settle().await;
        let first = write(&mut ours).await;
        settle().await;
        vec![first, write(&mut ours).await, read(&mut ours).await]
    });
}

fn a_peer_that_closes_with_data_unread_resets(wire: Wire) {
    check(&Lab::over(wire), &[Err(libc::ECONNRESET), Err(libc::EPIPE)], async |host, peer| {
        let [mut ours, theirs] = host.pair(&peer).await;
        write(&mut ours).await.expect("room");
        settle().await;
        drop(theirs);
        settle().await;
        vec![write(&mut ours).await, write(&mut ours).await]
    });
}

fn our_own_half_is_closed(wire: Wire) {
    check(&Lab::over(wire), &[Ok(0), Err(libc::EPIPE), Ok(0)], async |host, peer| {
        let [mut ours, theirs] = host.pair(&peer).await;
        let first = outcome(&ours.shutdown().await);
        let written = write(&mut ours).await;
        let again = outcome(&ours.shutdown().await);
        drop(theirs);
        vec![first, written, again]
    });
}

fn the_listener_goes_before_it_accepts(wire: Wire) {
    check(&Lab::over(wire), &[Err(libc::ECONNRESET), Ok(0)], async |host, peer| {
        let (listener, address) = peer.listen_anywhere().await;
        let mut ours = host.connect(address).await.expect("somebody listens");
        // The peer's side of the handshake ends half a round trip later.
        settle().await;
        drop(listener);
        vec![read(&mut ours).await, read(&mut ours).await]
    });
}

fn what_is_accepted_was_reset_before(wire: Wire) {
    check(&Lab::over(wire), &[Err(libc::ECONNRESET), Ok(0)], async |host, peer| {
        let (listener, address) = host.listen_anywhere().await;
        reset(peer.connect(address).await.expect("we listen"));
        settle().await;
        let mut ours = listener.accept().await.expect("it was queued");
        vec![read(&mut ours).await, read(&mut ours).await]
    });
}
