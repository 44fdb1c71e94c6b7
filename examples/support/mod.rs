//! What the examples share: their flags, and the stack that follows from them.
//!
//! Without `--interface` a stack has only its loopback, which lives inside the process; an example then plays both sides. With it, the
//! example speaks to other hosts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use synfin::Stack;
use synfin::device::{Device, PacketSocket};
use synfin::proto::Cidr;
use synfin::runtime::Builder;

/// Where an example runs.
pub(crate) struct Place {
    pub(crate) stack: Stack,
    /// The server's address: ours, or that of the host named on the command line.
    pub(crate) server: SocketAddr,
    pub(crate) reach: Reach,
}

/// Who can reach the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This program only.
    Program,
    /// The hosts beyond an interface.
    Network,
}

/// Reads the command line and starts the stack; `wrap` may put something between it and the interface. `usage` is the example's own part of
/// the command line: `"echo_client [SERVER]"`. A wrong flag ends the program with a word on what is right.
pub(crate) fn start<D: Device>(usage: &str, port: u16, wrap: impl FnOnce(PacketSocket) -> D) -> io::Result<Place> {
    let flags = Flags::parse(lexopt::Parser::from_env(), usage, port).unwrap_or_else(|error| {
        eprintln!("{error}\n\nusage: {usage} {FLAGS}");
        #[expect(clippy::disallowed_methods, reason = "an example's main does not know the exit code of a wrong flag")]
        std::process::exit(2)
    });
    let (Some(interface), [first, ..]) = (&flags.interface, &flags.addresses[..]) else {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, flags.port));
        println!("on a loopback that only this program can reach; --interface and --address put it on a network");
        let stack = flags.captured(Stack::builder()).start()?;
        return Ok(Place { stack, server, reach: Reach::Program });
    };
    let addresses: Vec<IpAddr> = flags.addresses.iter().map(Cidr::address).collect();
    let mut builder = flags.captured(Stack::builder()).device(wrap(PacketSocket::open(interface, &addresses)?));
    for address in &flags.addresses {
        builder = builder.address(address.to_string());
    }
    for gateway in &flags.gateways {
        builder = builder.gateway(gateway.to_string());
    }
    let server = SocketAddr::new(flags.server.unwrap_or_else(|| first.address()), flags.port);
    println!("on {interface} as {}", first.address());
    Ok(Place { stack: builder.start()?, server, reach: Reach::Network })
}

/// How an example ends: what went wrong is said as text, as `main` would not.
pub(crate) fn exit_code(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) const FLAGS: &str = "[--interface NAME --address CIDR [--gateway IP]] [--port N] [--capture FILE]";

pub(crate) struct Flags {
    pub(crate) interface: Option<String>,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) server: Option<IpAddr>,
    pub(crate) capture: Option<PathBuf>,
}

impl Flags {
    /// The builder of a stack that writes its frames where the flags say.
    pub(crate) fn captured(&self, builder: Builder) -> Builder {
        match &self.capture {
            Some(path) => builder.capture(path),
            None => builder,
        }
    }

    pub(crate) fn parse(mut parser: lexopt::Parser, usage: &str, port: u16) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;

        let mut flags = Self { interface: None, addresses: Vec::new(), gateways: Vec::new(), port, server: None, capture: None };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("interface") => flags.interface = Some(parser.value()?.string()?),
                Long("address") => flags.addresses.push(parser.value()?.parse()?),
                Long("gateway") => flags.gateways.push(parser.value()?.parse()?),
                Long("port") => flags.port = parser.value()?.parse()?,
                Long("capture") => flags.capture = Some(parser.value()?.into()),
                Value(server) if usage.contains("[SERVER]") && flags.server.is_none() => flags.server = Some(server.parse()?),
                _ => return Err(argument.unexpected()),
            }
        }
        match flags.interface {
            Some(_) if flags.addresses.is_empty() => Err("--interface needs --address, such as 10.9.0.2/24".into()),
            None if !flags.addresses.is_empty() || !flags.gateways.is_empty() => Err("--address and --gateway need --interface".into()),
            None if flags.server.is_some() => Err("a server elsewhere needs --interface to be reached through".into()),
            _ => Ok(flags),
        }
    }
}
