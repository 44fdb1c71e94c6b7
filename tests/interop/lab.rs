//! What every test here stands on: the veth pair, the stack on it, the kernel's table of sockets, and a limit on the time a test may take.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use synfin::device::namespace::{self, Veth};
use synfin::device::{Device, PacketSocket, Receiver, Tap, Transmitter, Tun};
use synfin::proto::{Config, State};
use synfin::{Stack, runtime};

/// The kernel's addresses, on `syn0`.
pub(crate) const KERNEL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1))];

/// The stack's addresses, on `syn1`.
pub(crate) const SYNFIN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2))];

/// How long something may take that usually takes no time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test may take before it counts as hanging.
const TEST_TIME_MAX: Duration = Duration::from_secs(90);

/// What lies between the kernel and the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A pair of interfaces, with a packet socket on one.
    Veth,
    /// An interface whose other side is the stack, with Ethernet frames.
    Tap,
    /// The same with bare packets.
    Tun,
}

impl Wire {
    /// Runs a test in a namespace of its own; it is ignored, and says why, where the system forbids that, or this kind of interface.
    pub(crate) fn test(self, name: &str, body: impl FnOnce()) {
        match self {
            Self::Veth => namespace::test(name, body),
            Self::Tap | Self::Tun => namespace::test_with_tun(name, body),
        }
    }

    /// The interface that the stack's device is, or is behind.
    pub(crate) const fn interface(self) -> &'static str {
        match self {
            Self::Veth => "syn1",
            Self::Tap | Self::Tun => "syn-tun",
        }
    }

    /// The device, with the kernel's addresses on its other side. Where it is not on a veth, the pair is there and not used.
    pub(crate) fn open(self) -> (Veth, Opened) {
        let name = self.interface();
        let device: Box<dyn Device> = match self {
            Self::Veth => {
                let veth = veth();
                return (veth, Opened(Box::new(PacketSocket::open(name, &SYNFIN).expect("a packet socket"))));
            }
            Self::Tap => Box::new(Tap::open(name).expect("a TAP")),
            Self::Tun => Box::new(Tun::open(name).expect("a TUN")),
        };
        let veth = Veth::create("unused0", "unused1", 1500).expect("a pair");
        veth.up(name).expect("it is there");
        kernel_has_addresses_on(&veth, name);
        (veth, Opened(device))
    }
}

/// The stack's device, whichever the wire is.
pub(crate) struct Opened(Box<dyn Device>);

impl Device for Opened {
    fn name(&self) -> Option<&str> {
        self.0.name()
    }

    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        self.0.split()
    }
}

/// Makes of each case, a function of the wire, a module with a test for every wire.
macro_rules! over_every_wire {
    ($($case:ident)+) => {
        $(mod $case {
            $crate::lab::over_wires! { $case: veth is Veth, tap is Tap, tun is Tun }
        })+
    };
}

/// The same for the wires that carry Ethernet frames.
macro_rules! over_ethernet {
    ($($case:ident)+) => {
        $(mod $case {
            $crate::lab::over_wires! { $case: veth is Veth, tap is Tap }
        })+
    };
}

macro_rules! over_wires {
    ($case:ident: $($name:ident is $wire:ident),+) => {
        $(#[test]
        fn $name() {
            let wire = $crate::lab::Wire::$wire;
            let path = concat!(module_path!(), "::", stringify!($name));
            let (_crate, path) = path.split_once("::").expect("in a module");
            wire.test(path, || super::$case(wire));
        })+
    };
}

pub(crate) use {over_ethernet, over_every_wire, over_wires};

/// The kernel's TCP at one end of a wire, ours at the other.
pub(crate) struct Lab {
    pub(crate) veth: Veth,
    pub(crate) stack: Stack,
}

impl Lab {
    /// Over the veth, with the engine's defaults.
    pub(crate) fn open() -> Self {
        Self::over(Wire::Veth)
    }

    /// With the engine's defaults, over `wire`.
    pub(crate) fn over(wire: Wire) -> Self {
        Self::with(wire, Config::default(), |device| device)
    }

    /// With other knobs, and whatever `wrap` puts between the stack and its device.
    pub(crate) fn with<D: Device>(wire: Wire, config: Config, wrap: impl FnOnce(Opened) -> D) -> Self {
        let (veth, device) = wire.open();
        Self::around(veth, Stack::builder().device(wrap(device)).config(config))
    }

    /// With the stack that `builder` makes for the addresses of [`SYNFIN`].
    pub(crate) fn around(veth: Veth, builder: runtime::Builder) -> Self {
        Self::watched(veth, start(builder))
    }

    fn watched(veth: Veth, stack: Stack) -> Self {
        let watched = stack.clone();
        std::thread::spawn(move || {
            std::thread::sleep(TEST_TIME_MAX);
            eprintln!("hanging: {:#?}\nkernel: {:?}", watched.netstat(), kernel_states());
            std::process::abort();
        });
        Self { veth, stack }
    }

    /// Waits until a socket of the stack with this port on either side is in `state`.
    pub(crate) fn await_synfin(&self, port: u16, state: State) {
        let has_port = |address: Option<SocketAddr>| address.is_some_and(|address| address.port() == port);
        wait_for(&format!("{state} in the stack"), || {
            let rows = self.stack.netstat().expect("the stack lives");
            rows.iter().any(|row| row.state == state && (row.local.port() == port || has_port(row.remote)))
        });
    }

    /// Waits until the stack has no socket but resting ones.
    pub(crate) fn await_quiet(&self) {
        wait_for("no socket in the stack", || {
            self.stack.netstat().expect("the stack lives").iter().all(|row| row.state == State::TimeWait)
        });
    }
}

/// The pair, with the kernel's addresses.
pub(crate) fn veth() -> Veth {
    let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
    kernel_has_addresses_on(&veth, "syn0");
    veth
}

fn kernel_has_addresses_on(veth: &Veth, name: &str) {
    ["10.9.0.1/24", "fd09::1/64"].into_iter().for_each(|cidr| veth.address(name, cidr).expect("an address"));
}

fn start(builder: runtime::Builder) -> Stack {
    let stack = builder.address("10.9.0.2/24").address("fd09::2/64").start().expect("a stack");
    block_on(stack.ready()).expect("the link is up");
    stack
}

/// Waits until `is_so`.
#[track_caller]
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}; the kernel has {:?}", kernel_states());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until one of the kernel's sockets from `local` to `remote` (ports) is in `state`, or until there is none.
#[track_caller]
pub(crate) fn await_kernel(local: u16, remote: u16, state: Option<KernelState>) {
    wait_for(&format!("{state:?} in the kernel"), || {
        let states = kernel_states();
        let found = states.iter().find(|(ports, _)| *ports == [local, remote]).map(|(_, state)| *state);
        found == state
    });
}

/// The states of /proc/net/tcp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelState {
    Established,
    FinWait1,
    FinWait2,
    TimeWait,
    CloseWait,
    LastAck,
    Closing,
    /// SYN_SENT, SYN_RECV, CLOSE, LISTEN, NEW_SYN_RECV.
    Other(u8),
}

/// The ports and states of the kernel's sockets, both families.
pub(crate) fn kernel_states() -> Vec<([u16; 2], KernelState)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(kernel_row).collect()
}

fn kernel_row(line: &str) -> Option<([u16; 2], KernelState)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit_once(':')?.1, 16).ok();
    let ports = [port()?, port()?];
    let state = match u8::from_str_radix(fields.next()?, 16).ok()? {
        1 => KernelState::Established,
        4 => KernelState::FinWait1,
        5 => KernelState::FinWait2,
        6 => KernelState::TimeWait,
        8 => KernelState::CloseWait,
        9 => KernelState::LastAck,
        11 => KernelState::Closing,
        other => KernelState::Other(other),
    };
    Some((ports, state))
}

/// A connection of the kernel's to a listener of the stack's.
pub(crate) fn accept_from_kernel(stack: &Stack) -> io::Result<(synfin::net::TcpStream, std::net::TcpStream)> {
    let listener = block_on(stack.listen((SYNFIN[0], 0)))?;
    let address = listener.local_addr()?;
    let kernel = std::thread::spawn(move || std::net::TcpStream::connect(address));
    let (stream, _) = block_on(listener.accept())?;
    let kernel = kernel.join().expect("no panic")?;
    kernel.set_read_timeout(Some(PATIENCE))?;
    kernel.set_write_timeout(Some(PATIENCE))?;
    Ok((stream, kernel))
}
