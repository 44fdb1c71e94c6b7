//! What a stack is made of, and how it is put together.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::Stack;
use super::capture::{self, Capture};
use super::clock::Clock;
use super::control;
use super::driver::{self, Pace};
use super::executor::Runtime;
use super::passthrough::PacketSink;
use super::poller::Poller;
use super::port::Port;
use super::shard::{Driving, Shard, Spinning};
use super::spin::cores;
use super::sync::Arc;
use crate::device::Device;
use crate::proto::{Cidr, Config, Engine, Passed};

/// What a [`Stack`] or a [`Runtime`] is made of; see [`Stack::builder`] and [`Runtime::builder`].
#[must_use = "a builder does nothing until it is started"]
#[derive(Debug, Default)]
pub struct Builder {
    parts: Parts,
}

/// The same for a [`Runtime`].
#[must_use = "a builder does nothing until it is built"]
#[derive(Debug, Default)]
pub struct RuntimeBuilder {
    parts: Parts,
}

#[derive(Default)]
struct Parts {
    interface: Option<String>,
    device: Option<Box<dyn Device>>,
    addresses: Vec<String>,
    gateways: Vec<String>,
    config: Config,
    pace: Pace,
    kernel_addresses: KernelAddresses,
    capture: Option<PathBuf>,
    capture_size: Option<u64>,
    control: bool,
    sink: Option<PacketSink>,
}

/// What to do about an address that the kernel answers for as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum KernelAddresses {
    #[default]
    Refused,
    Shared,
}

impl Builder {
    /// Uses a network interface of this machine, over AF_PACKET.
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.parts.interface = Some(name.into());
        self
    }

    /// Uses this device instead of an interface.
    /// ```
    /// use synfin::Stack;
    /// use synfin::device::memory;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// // Two hosts on a wire that exists in memory only.
    /// let (left, right) = memory::pair();
    /// let server = Stack::builder().device(left).address("10.9.0.1/24").start()?;
    /// let client = Stack::builder().device(right).address("10.9.0.2/24").start()?;
    /// # futures::executor::block_on(async {
    /// let listener = server.listen("10.9.0.1:80").await?;
    /// let stream = client.connect("10.9.0.1:80").await?;
    /// assert_eq!(stream.local_addr()?.ip().to_string(), "10.9.0.2");
    /// # drop(listener);
    /// # Ok(()) })
    /// # }
    /// ```
    pub fn device(mut self, device: impl Device) -> Self {
        self.parts.device = Some(Box::new(device));
        self
    }

    /// Gives the stack an address and its network, such as `10.9.0.2/24` or `fd09::2/64`. Any number of them; the text is read by
    /// [`start`](Self::start).
    pub fn address(mut self, cidr: impl Into<String>) -> Self {
        self.parts.addresses.push(cidr.into());
        self
    }

    /// Sends what is for other networks through this router. One per address family; the text is read by [`start`](Self::start).
    pub fn gateway(mut self, address: impl Into<String>) -> Self {
        self.parts.gateways.push(address.into());
        self
    }

    /// Sets the engine's knobs.
    pub fn config(mut self, config: Config) -> Self {
        self.parts.config = config;
        self
    }

    /// Never sleeps: one core for the lowest latency.
    pub fn busy_poll(mut self) -> Self {
        self.parts.pace = Pace::Busy;
        self
    }

    /// Accepts addresses that the kernel owns too. Both will answer, and the kernel resets our connections unless a firewall rule keeps its
    /// resets back.
    pub fn share_kernel_addresses(mut self) -> Self {
        self.parts.kernel_addresses = KernelAddresses::Shared;
        self
    }

    /// Writes every frame, loopback included, into a pcapng file for Wireshark, with a comment for each state change and each dropped frame. An
    /// existing file is emptied. When the file has [`capture_size`](Self::capture_size) bytes it becomes `PATH.1`, and a new one begins.
    ///
    /// What is written can be read at once. A frame that finds no room or can't be written is counted in
    /// [`Counters::capture_lost`](crate::runtime::Counters::capture_lost), and holds nothing up.
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let path = std::env::temp_dir().join(format!("synfin-{}.pcapng", std::process::id()));
    /// let stack = synfin::Stack::builder().capture(&path).start()?;
    /// # futures::executor::block_on(async {
    /// let listener = stack.listen("127.0.0.1:80").await?;
    /// let stream = stack.connect("127.0.0.1:80").await?;
    /// assert!(std::fs::metadata(&path)?.len() > 0);
    /// # drop((stream, listener));
    /// # std::fs::remove_file(&path)
    /// # })
    /// # }
    /// ```
    pub fn capture(mut self, path: impl Into<PathBuf>) -> Self {
        self.parts.capture = Some(path.into());
        self
    }

    /// When a capture's file is full, in bytes; 64 MiB if nothing is said. With `PATH.1`, a capture takes twice as much. A frame that is larger
    /// than a file has one for itself.
    pub fn capture_size(mut self, bytes: u64) -> Self {
        self.parts.capture_size = Some(bytes);
        self
    }

    /// Lets `synfin netstat`, run by the same user, see this stack's sockets from another terminal; off unless `SYNFIN_CONTROL=1` is in the
    /// environment. See [`control`](super::control).
    pub fn control(mut self, control: bool) -> Self {
        self.parts.control = control;
        self
    }

    /// Hands on every IP packet that is not for the stack, instead of dropping it: all but TCP for one of its addresses, and the ICMP that the
    /// stack itself needs (echo requests, neighbour discovery, errors about TCP). So UDP and DNS, TCP for other addresses on a TUN, fragments,
    /// and any other protocol.
    ///
    /// `sink` is called on whatever thread received the packet, one at a time and in order of arrival, with no lock of the engine's held. It
    /// may use the stack but must not block: `try_send` into a bounded queue is what it is for. A packet that it refuses with an error is
    /// lost, and counted in [`Counters::passthrough_lost`](crate::runtime::Counters::passthrough_lost). While it is busy at most 256 packets
    /// and 2 MiB wait for it; more are dropped and counted as
    /// [`PassthroughFull`](crate::proto::DropReason::PassthroughFull). [`Stats::packets_passed`](crate::proto::Stats::packets_passed) counts
    /// those that got through to it. On an AF_PACKET interface only packets to the stack's addresses enter at all.
    /// ```
    /// use std::{io, sync::mpsc};
    /// use synfin::{Stack, device, proto::Passed};
    ///
    /// # fn main() -> io::Result<()> {
    /// let (packets, received) = mpsc::sync_channel(64);
    /// let sink = move |packet: Passed| packets.try_send(packet).map_err(|_| io::ErrorKind::WouldBlock.into());
    /// let (device, wire) = device::channel();
    /// let stack = Stack::builder().device(device).address("10.9.0.2/24").passthrough(sink).start()?;
    ///
    /// // A UDP datagram of 10.9.0.1 to the stack's port 53.
    /// let mut datagram = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0x66, 0xb9, 10, 9, 0, 1, 10, 9, 0, 2];
    /// datagram.extend_from_slice(&[0x9c, 0x40, 0, 53, 0, 12, 0, 0]);
    /// datagram.extend_from_slice(b"name");
    /// wire.blocking_send(&datagram.clone().into())?;
    /// assert_eq!(received.recv().expect("the stack lives").bytes, datagram);
    /// # drop(stack);
    /// # Ok(())
    /// # }
    /// ```
    pub fn passthrough(mut self, sink: impl FnMut(Passed) -> io::Result<()> + Send + 'static) -> Self {
        self.parts.sink = Some(PacketSink::new(sink));
        self
    }

    /// Starts the stack and its thread, `synfin-io`.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no address, a link without an address, or an interface together with a device; `AddrInUse` for an
    /// address that the kernel owns; `PermissionDenied` and others from opening the interface; what creating a capture's file gives, with its
    /// path; whatever starting a thread gives; with [`control`](Self::control), those of [`control::directory`](super::control::directory).
    pub fn start(self) -> io::Result<Stack> {
        let pace = self.parts.pace;
        let spinning = if pace == Pace::Busy || cores() < 2 { Spinning::Off } else { Spinning::Adaptive };
        let is_controlled = self.parts.control;
        let (shard, poller) = self.parts.assemble(Driving::Thread(spinning))?;
        let stack = Stack::new(Arc::clone(&shard), control::serve(&shard, is_controlled)?);
        driver::spawn(shard, poller, pace)?;
        Ok(stack)
    }
}

impl Runtime {
    /// What a new runtime is made of. Without a device it has only its loopback.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }
}

impl RuntimeBuilder {
    /// See [`Builder::interface`].
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.parts.interface = Some(name.into());
        self
    }

    /// See [`Builder::device`].
    pub fn device(mut self, device: impl Device) -> Self {
        self.parts.device = Some(Box::new(device));
        self
    }

    /// See [`Builder::address`].
    pub fn address(mut self, cidr: impl Into<String>) -> Self {
        self.parts.addresses.push(cidr.into());
        self
    }

    /// See [`Builder::gateway`].
    pub fn gateway(mut self, address: impl Into<String>) -> Self {
        self.parts.gateways.push(address.into());
        self
    }

    /// See [`Builder::config`].
    pub fn config(mut self, config: Config) -> Self {
        self.parts.config = config;
        self
    }

    /// Never sleeps: the core of the thread in [`Runtime::block_on`] for the lowest latency.
    pub fn busy_poll(mut self) -> Self {
        self.parts.pace = Pace::Busy;
        self
    }

    /// See [`Builder::share_kernel_addresses`].
    pub fn share_kernel_addresses(mut self) -> Self {
        self.parts.kernel_addresses = KernelAddresses::Shared;
        self
    }

    /// See [`Builder::capture`].
    pub fn capture(mut self, path: impl Into<PathBuf>) -> Self {
        self.parts.capture = Some(path.into());
        self
    }

    /// See [`Builder::capture_size`].
    pub fn capture_size(mut self, bytes: u64) -> Self {
        self.parts.capture_size = Some(bytes);
        self
    }

    /// See [`Builder::control`]; its thread is the only one that a runtime starts.
    pub fn control(mut self, control: bool) -> Self {
        self.parts.control = control;
        self
    }

    /// See [`Builder::passthrough`]. The sink is called on the thread in [`Runtime::block_on`].
    pub fn passthrough(mut self, sink: impl FnMut(Passed) -> io::Result<()> + Send + 'static) -> Self {
        self.parts.sink = Some(PacketSink::new(sink));
        self
    }

    /// Puts the runtime together; no thread is started.
    ///
    /// # Errors
    /// As [`Builder::start`], but for the thread.
    pub fn build(self) -> io::Result<Runtime> {
        let pace = self.parts.pace;
        let is_controlled = self.parts.control;
        let (shard, poller) = self.parts.assemble(Driving::Runtime)?;
        let control = control::serve(&shard, is_controlled)?;
        Ok(Runtime::new(Stack::new(shard, control), poller, pace))
    }
}

impl Parts {
    fn assemble(self, driving: Driving) -> io::Result<(Arc<Shard>, Poller)> {
        let cidrs = self.addresses.iter().map(|text| parse_cidr(text)).collect::<io::Result<Vec<_>>>()?;
        let gateways = self.gateways.iter().map(|text| parse_gateway(text)).collect::<io::Result<Vec<_>>>()?;
        let clock = Clock::Real;
        let now = clock.now();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let mut engine = Engine::new(self.config, secret, now);
        for cidr in &cidrs {
            if !engine.add_address(now, *cidr) {
                return Err(invalid("too many addresses"));
            }
        }
        for gateway in gateways {
            engine.set_gateway(gateway);
        }
        let device = open_device(self.interface, self.device, &cidrs, self.kernel_addresses)?;
        let name = device.as_ref().and_then(|device| device.name()).unwrap_or("device").to_owned();
        let poller = Poller::new()?;
        let notifier = poller.notifier();
        let port = device.map(|device| {
            let notifier = Arc::clone(&notifier);
            Port::new(device, move || notifier.notify())
        });
        if let Some(port) = &port {
            engine.set_link(now, port.receive.lock()?.changed_link());
        }
        if let Some(descriptor) = port.as_ref().and_then(|port| port.descriptor) {
            notifier.watch(descriptor)?;
        }
        let link = engine.link().map(|link| (name.as_str(), link.medium));
        let size = self.capture_size.unwrap_or(capture::SIZE_DEFAULT);
        let target = self.capture.map(|path| capture::Target { path, size });
        let capture = target.map(|target| Capture::create(target, link, &clock)).transpose()?;
        if capture.is_some() {
            engine.start_trace();
        }
        if self.sink.is_some() {
            engine.start_passthrough();
        }
        let shard = Shard::new(engine, port, notifier, clock, driving).with_capture(capture).with_sink(self.sink);
        Ok((Arc::new(shard), poller))
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { interface, device, addresses, gateways, config: _, pace, kernel_addresses, capture, capture_size, control, sink } = self;
        f.debug_struct("Parts")
            .field("interface", interface)
            .field("device", &device.is_some())
            .field("addresses", addresses)
            .field("gateways", gateways)
            .field("pace", pace)
            .field("kernel_addresses", kernel_addresses)
            .field("capture", capture)
            .field("capture_size", capture_size)
            .field("control", control)
            .field("sink", sink)
            .finish_non_exhaustive()
    }
}

fn open_device(
    interface: Option<String>,
    device: Option<Box<dyn Device>>,
    cidrs: &[Cidr],
    kernel_addresses: KernelAddresses,
) -> io::Result<Option<Box<dyn Device>>> {
    match (interface, device) {
        (None, None) if cidrs.is_empty() => Ok(None),
        (None, None) => Err(invalid("an address needs an interface or a device: add .interface(name) or .device(device)")),
        (Some(_), Some(_)) => Err(invalid("an interface or a device, not both")),
        (_, _) if cidrs.is_empty() => Err(invalid("a link needs an address: add .address(\"10.9.0.2/24\")")),
        (None, Some(device)) => Ok(Some(device)),
        (Some(name), None) => {
            let addresses: Vec<IpAddr> = cidrs.iter().map(|cidr| cidr.address()).collect();
            open_interface(&name, &addresses, kernel_addresses).map(Some)
        }
    }
}

#[cfg(target_os = "linux")]
fn open_interface(name: &str, addresses: &[IpAddr], kernel_addresses: KernelAddresses) -> io::Result<Box<dyn Device>> {
    use crate::device::{PacketSocket, host};

    for address in addresses {
        if kernel_addresses == KernelAddresses::Refused {
            host::check_is_free(*address)?;
        }
        if host::is_forwarding(*address) {
            tracing::warn!(%address, remedy = host::FORWARDING_REMEDY, "the kernel forwards packets, this stack's among them");
        }
    }
    Ok(Box::new(PacketSocket::open(name, addresses)?))
}

#[cfg(not(target_os = "linux"))]
fn open_interface(_: &str, _: &[IpAddr], _: KernelAddresses) -> io::Result<Box<dyn Device>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "interfaces are opened on Linux only: use .device(..)"))
}

fn parse_cidr(text: &str) -> io::Result<Cidr> {
    text.parse().map_err(|_| invalid(&format!("`{text}` is no address with a prefix length, such as 10.9.0.2/24 or fd09::2/64")))
}

fn parse_gateway(text: &str) -> io::Result<IpAddr> {
    text.parse().map_err(|_| invalid(&format!("`{text}` is no address of a gateway, such as 10.9.0.1 or fd09::1")))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: io::Result<Stack>) -> io::ErrorKind {
        result.expect_err("refused").kind()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(kind(Stack::builder().address("10.9.0.2/24").start()), io::ErrorKind::InvalidInput);
        assert_eq!(kind(Stack::builder().interface("lo").address("ten/24").start()), io::ErrorKind::InvalidInput);
        assert_eq!(kind(Stack::builder().interface("lo").start()), io::ErrorKind::InvalidInput);
        assert_eq!(kind(Stack::builder().gateway("10.9.0.1/24").start()), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_address_of_the_kernel_is_refused() {
        assert_eq!(kind(Stack::builder().interface("lo").address("127.0.0.1/8").start()), io::ErrorKind::AddrInUse);
    }
}
