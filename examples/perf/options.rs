//! The command line: which role, on which TCP, how much of it.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use synfin::device::Tap;
use synfin::proto::Cidr;
use synfin::{Runtime, Stack};

use crate::place::Backend;
use crate::support::Flags;

pub(crate) const USAGE: &str = "perf --role sink|source|echo|ping|accept|connect [--backend synfin|runtime|tokio] [--connect IP:PORT] \
    [--congestion NAME] [--tap NAME for --interface NAME] \
    [--seconds S] [--streams N] [--inflight N] [--size BYTES] [--busy-poll] [--check]";

/// What a side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sink,
    Source,
    Echo,
    Ping,
    Accept,
    Connect,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Echo => "echo",
            Self::Ping => "ping",
            Self::Accept => "accept",
            Self::Connect => "connect",
        }
    }

    pub(crate) const fn counterpart(self) -> Self {
        match self {
            Self::Sink => Self::Source,
            Self::Source => Self::Sink,
            Self::Echo => Self::Ping,
            Self::Ping => Self::Echo,
            Self::Accept => Self::Connect,
            Self::Connect => Self::Accept,
        }
    }

    pub(crate) const fn side(self) -> Side {
        match self {
            Self::Sink | Self::Echo | Self::Accept => Side::Server,
            Self::Source | Self::Ping | Self::Connect => Side::Client,
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let roles = [Self::Sink, Self::Source, Self::Echo, Self::Ping, Self::Accept, Self::Connect];
        roles.into_iter().find(|role| role.name() == text).ok_or_else(|| "sink, source, echo, ping, accept or connect".to_owned())
    }
}

/// Who opens the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// Whether the bytes are compared with the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checking {
    Off,
    Pattern,
}

/// Whether the thread of the stack ever sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Sleeping,
    Busy,
}

pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) backend: Backend,
    pub(crate) connect: Option<SocketAddr>,
    /// What the kernel's TCP uses on the connections that it opens, if not its default.
    pub(crate) congestion: Option<String>,
    pub(crate) seconds: Option<Duration>,
    pub(crate) streams: usize,
    pub(crate) inflight: usize,
    pub(crate) checking: Checking,
    size: Option<usize>,
    pace: Pace,
    attachment: Attachment,
    shared: Flags,
}

/// What an interface is to a stack of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attachment {
    /// A packet socket on it.
    Packet,
    /// The other side of it is ours.
    Tap,
}

impl Options {
    pub(crate) fn from_env() -> Result<Self, lexopt::Error> {
        let options = Self::parse(lexopt::Parser::from_env())?;
        options.contradiction().map_or(Ok(options), |text| Err(text.into()))
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;

        let (mut role, mut backend, mut connect, mut seconds, mut size) = (None, Backend::Synfin, None, None, None);
        let (mut streams, mut inflight, mut checking, mut pace) = (1, 1, Checking::Off, Pace::Sleeping);
        let (mut congestion, mut attachment) = (None, Attachment::Packet);
        let (mut port, mut shared) = (PORT, Vec::<OsString>::new());
        while let Some(argument) = parser.next()? {
            match argument {
                Long("role") => role = Some(named("--role", &parser.value()?)?),
                Long("backend") => backend = named("--backend", &parser.value()?)?,
                Long("connect") => connect = Some(named("--connect", &parser.value()?)?),
                Long("congestion") => congestion = Some(parser.value()?.string()?),
                Long("seconds") => seconds = Some(duration(&parser.value()?)?),
                Long("streams") => streams = count("--streams", &parser.value()?, STREAMS_MAX)?,
                Long("inflight") => inflight = count("--inflight", &parser.value()?, STREAMS_MAX)?,
                Long("size") => size = Some(count("--size", &parser.value()?, SIZE_MAX)?),
                Long("port") => port = named("--port", &parser.value()?)?,
                Long("busy-poll") => pace = Pace::Busy,
                Long("check") => checking = Checking::Pattern,
                Long("tap") => {
                    attachment = Attachment::Tap;
                    shared.extend(["--interface".into(), parser.value()?]);
                }
                Long(name @ ("interface" | "address" | "gateway" | "capture")) => {
                    shared.push(format!("--{name}").into());
                    shared.push(parser.value()?);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        let role = role.ok_or("--role is missing")?;
        let shared = Flags::parse(lexopt::Parser::from_args(shared), USAGE, port)?;
        Ok(Self { role, backend, connect, congestion, seconds, streams, inflight, checking, size, pace, attachment, shared })
    }

    /// Flags that are right by themselves, and make no sense together.
    fn contradiction(&self) -> Option<&'static str> {
        let side = self.role.side();
        if self.pace == Pace::Busy && self.backend == Backend::Tokio {
            return Some("--busy-poll is for --backend synfin and runtime: the kernel's TCP has no thread of ours");
        }
        if self.congestion.is_some() && self.backend != Backend::Tokio {
            return Some("--congestion is for --backend tokio");
        }
        if side == Side::Server && self.connect.is_some() {
            return Some("--connect is for source, ping and connect: a server waits on --port");
        }
        (side == Side::Client && self.connect.is_none() && self.shared.interface.is_some())
            .then_some("--interface needs --connect, such as 10.9.0.1:5001: a client must know whom to call")
    }

    /// Where a server waits; the kernel does so on all its addresses unless told one.
    pub(crate) fn local(&self) -> SocketAddr {
        let only = if self.backend == Backend::Tokio { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let address = self.shared.addresses.first().map_or(IpAddr::V4(only), Cidr::address);
        SocketAddr::new(address, self.shared.port)
    }

    /// Whether the process plays the counterpart as well: nobody else can.
    pub(crate) fn is_alone(&self) -> bool {
        match self.role.side() {
            Side::Client => self.connect.is_none(),
            Side::Server => self.shared.interface.is_none() && self.backend != Backend::Tokio,
        }
    }

    pub(crate) const fn is_on_network(&self) -> bool {
        self.shared.interface.is_some()
    }

    /// How long a client works.
    pub(crate) fn turn(&self) -> Duration {
        self.seconds.unwrap_or(TURN)
    }

    /// Bytes of a question, or of one write.
    pub(crate) fn size(&self, role: Role) -> usize {
        self.size.unwrap_or(if role == Role::Source { BLOCK_LEN } else { 1 })
    }

    pub(crate) fn stack(&self) -> io::Result<Stack> {
        let mut builder = self.shared.captured(Stack::builder());
        if let Some(interface) = &self.shared.interface {
            builder = match self.attachment {
                Attachment::Packet => builder.interface(interface),
                Attachment::Tap => builder.device(Tap::open(interface)?),
            };
        }
        for address in &self.shared.addresses {
            builder = builder.address(address.to_string());
        }
        for gateway in &self.shared.gateways {
            builder = builder.gateway(gateway.to_string());
        }
        if self.pace == Pace::Busy { builder.busy_poll() } else { builder }.start()
    }

    pub(crate) fn runtime(&self) -> io::Result<Runtime> {
        let mut builder = Runtime::builder();
        if let Some(path) = &self.shared.capture {
            builder = builder.capture(path);
        }
        if let Some(interface) = &self.shared.interface {
            builder = match self.attachment {
                Attachment::Packet => builder.interface(interface),
                Attachment::Tap => builder.device(Tap::open(interface)?),
            };
        }
        for address in &self.shared.addresses {
            builder = builder.address(address.to_string());
        }
        for gateway in &self.shared.gateways {
            builder = builder.gateway(gateway.to_string());
        }
        if self.pace == Pace::Busy { builder.busy_poll() } else { builder }.build()
    }
}

/// Reads the value of a flag, and names the flag where it is wrong.
fn named<T: FromStr<Err: std::fmt::Display>>(flag: &str, value: &OsString) -> Result<T, lexopt::Error> {
    let text = value.to_string_lossy();
    text.parse().map_err(|error| format!("{flag} {text}: {error}").into())
}

fn count(flag: &str, value: &OsString, max: usize) -> Result<usize, lexopt::Error> {
    let count = named(flag, value)?;
    if (1..=max).contains(&count) { Ok(count) } else { Err(format!("{flag} {count}: from 1 to {max}").into()) }
}

fn duration(value: &OsString) -> Result<Duration, lexopt::Error> {
    let seconds: f64 = named("--seconds", value)?;
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("--seconds {seconds}: more than 0, and at most {SECONDS_MAX}").into())
    }
}

/// Where a server waits unless told: the port of iperf.
const PORT: u16 = 5001;

/// How long a client works unless told; iperf's default.
const TURN: Duration = Duration::from_secs(10);

/// The longest measurement in seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// Bytes of one write in bulk unless told, as in the benches.
const BLOCK_LEN: usize = 1 << 18;

/// The most connections of one client: below the ports of one address.
const STREAMS_MAX: usize = 10_000;

/// The longest question or write in bytes.
const SIZE_MAX: usize = 1 << 26;
