//! Bulk data in every combination of device, address family, role, direction and offloads: what arrives is what was sent, and super-packets carry it
//! where the link has them.

use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use siphasher::sip::SipHasher13;
use synfin::device::namespace::Switch;

use crate::lab::{KERNEL, Lab, PATIENCE, SYNFIN, Wire};

/// Bytes of a transfer; with all offloads off, where the machine is slow, and on other wires than the veth, a quarter of them.
const LEN: usize = 64 << 20;

/// Bytes of one transfer when `SYNFIN_TEST=full`.
const LEN_FULL: usize = 1 << 30;

/// Bytes that a writer hands over at once: no divisor of anything.
const BLOCK_LEN: usize = 100_003;

/// A super-packet carries at least this many bytes on the average; it could carry 65,160.
const SUPER_LEN_MEAN_MIN: u64 = 8 * 1448;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4 = 0,
    V6 = 1,
}

/// What synfin does in a test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Receive,
    Send,
}

use Direction::{Receive, Send};
use Family::{V4, V6};
use Role::{Client, Server};

macro_rules! transfers {
    ($($name:ident: $wire:ident, $family:ident, $role:ident, $direction:ident, $offloads:ident;)+) => {
        $(#[test]
        fn $name() {
            Wire::$wire.test(concat!("transfer::", stringify!($name)), || {
                let case = Case { wire: Wire::$wire, family: $family, role: $role, direction: $direction, offloads: Switch::$offloads };
                transfer(case);
            });
        })+
    };
}

transfers! {
    client_receives_over_v4: Veth, V4, Client, Receive, On;
    client_receives_over_v4_without_offloads: Veth, V4, Client, Receive, Off;
    client_receives_over_v6: Veth, V6, Client, Receive, On;
    client_sends_over_v4: Veth, V4, Client, Send, On;
    client_sends_over_v6: Veth, V6, Client, Send, On;
    client_sends_over_v6_without_offloads: Veth, V6, Client, Send, Off;
    server_receives_over_v4: Veth, V4, Server, Receive, On;
    server_receives_over_v6: Veth, V6, Server, Receive, On;
    server_receives_over_v6_without_offloads: Veth, V6, Server, Receive, Off;
    server_sends_over_v4: Veth, V4, Server, Send, On;
    server_sends_over_v4_without_offloads: Veth, V4, Server, Send, Off;
    server_sends_over_v6: Veth, V6, Server, Send, On;
    client_receives_over_v4_on_a_tap: Tap, V4, Client, Receive, On;
    client_receives_over_v6_on_a_tap: Tap, V6, Client, Receive, On;
    client_sends_over_v4_on_a_tap: Tap, V4, Client, Send, On;
    client_sends_over_v6_on_a_tap: Tap, V6, Client, Send, On;
    server_receives_over_v4_on_a_tap: Tap, V4, Server, Receive, On;
    server_receives_over_v6_on_a_tap: Tap, V6, Server, Receive, On;
    server_sends_over_v4_on_a_tap: Tap, V4, Server, Send, On;
    server_sends_over_v6_on_a_tap: Tap, V6, Server, Send, On;
    client_receives_over_v4_on_a_tun: Tun, V4, Client, Receive, On;
    client_receives_over_v6_on_a_tun: Tun, V6, Client, Receive, On;
    client_sends_over_v4_on_a_tun: Tun, V4, Client, Send, On;
    client_sends_over_v6_on_a_tun: Tun, V6, Client, Send, On;
    server_receives_over_v4_on_a_tun: Tun, V4, Server, Receive, On;
    server_receives_over_v6_on_a_tun: Tun, V6, Server, Receive, On;
    server_sends_over_v4_on_a_tun: Tun, V4, Server, Send, On;
    server_sends_over_v6_on_a_tun: Tun, V6, Server, Send, On;
}

/// One cell of the matrix.
#[derive(Clone, Copy)]
struct Case {
    wire: Wire,
    family: Family,
    role: Role,
    direction: Direction,
    offloads: Switch,
}

fn transfer(Case { wire, family, role, direction, offloads }: Case) {
    let lab = Lab::over(wire);
    if wire == Wire::Veth {
        ["syn0", "syn1"].into_iter().for_each(|name| lab.veth.set_offloads(name, offloads).expect("veth has them"));
    }
    let is_full = std::env::var_os("SYNFIN_TEST").is_some_and(|value| value == "full");
    let len = match offloads {
        Switch::Off => LEN / 4,
        Switch::On if wire != Wire::Veth => LEN / 4,
        Switch::On if is_full && (wire, family, role, direction) == (Wire::Veth, V4, Server, Receive) => LEN_FULL,
        Switch::On => LEN,
    };
    let (stream, kernel) = connection(&lab, family, role).expect("connected");
    let kernel = std::thread::spawn(move || match direction {
        Receive => kernel_sends(kernel, len),
        Send => kernel_receives(kernel),
    });
    let ours = block_on(async {
        match direction {
            Receive => synfin_receives(stream).await,
            Send => synfin_sends(stream, len).await,
        }
    });
    let kernels = kernel.join().expect("no panic").expect("the kernel's transfer");
    assert_eq!(ours.expect("our transfer"), kernels, "length and hash");
    assert_eq!(kernels.0, len);

    let stats = lab.stack.stats().expect("the stack lives").engine;
    let (segments, frames, supers) = match direction {
        Receive => (stats.segments_in, stats.frames_in, stats.super_frames_in),
        Send => (stats.segments_out, stats.frames_out, stats.super_frames_out),
    };
    match (direction, offloads) {
        // The kernel cuts what it sends; what we send it cuts for us.
        (Receive, Switch::Off) => assert_eq!(supers, 0),
        _ => {
            assert!(len as u64 / supers.max(1) >= SUPER_LEN_MEAN_MIN && supers > 0, "{segments} segments, {frames} frames, {supers} super")
        }
    }
    if offloads == Switch::On {
        assert!(
            supers * SUPER_LEN_MEAN_MIN <= len as u64 * 2 && frames < len as u64 / SUPER_LEN_MEAN_MIN,
            "{frames} frames, {supers} super"
        );
    }
}

fn connection(lab: &Lab, family: Family, role: Role) -> io::Result<(synfin::net::TcpStream, std::net::TcpStream)> {
    let (stream, kernel) = match role {
        Client => {
            let listener = std::net::TcpListener::bind((KERNEL[family as usize], 0))?;
            let address = listener.local_addr()?;
            let stream = block_on(lab.stack.connect(address))?;
            let (kernel, peer) = listener.accept()?;
            assert_eq!(peer, stream.local_addr()?);
            (stream, kernel)
        }
        Server => {
            let listener = block_on(lab.stack.listen((SYNFIN[family as usize], 0)))?;
            let address: SocketAddr = listener.local_addr()?;
            let kernel = std::thread::spawn(move || std::net::TcpStream::connect(address));
            let (stream, peer) = block_on(listener.accept())?;
            let kernel = kernel.join().expect("no panic")?;
            assert_eq!(peer, kernel.local_addr()?);
            (stream, kernel)
        }
    };
    kernel.set_read_timeout(Some(PATIENCE))?;
    kernel.set_write_timeout(Some(PATIENCE))?;
    Ok((stream, kernel))
}

/// How much was sent or received, and its hash.
pub(crate) type Sum = (usize, u64);

fn kernel_sends(mut kernel: std::net::TcpStream, len: usize) -> io::Result<Sum> {
    let mut source = Source::new(len);
    while let Some(block) = source.next_block() {
        kernel.write_all(block)?;
    }
    kernel.shutdown(Shutdown::Write)?;
    assert_eq!(kernel.read(&mut [0; 1])?, 0, "the other side closes without a word");
    Ok((len, source.hasher.finish()))
}

pub(crate) fn kernel_receives(mut kernel: std::net::TcpStream) -> io::Result<Sum> {
    let (mut buffer, mut len, mut hasher) = (vec![0; 1 << 18], 0, SipHasher13::new());
    loop {
        match kernel.read(&mut buffer)? {
            0 => return Ok((len, hasher.finish())),
            read => {
                len += read;
                hasher.write(&buffer[..read]);
            }
        }
    }
}

async fn synfin_sends(mut stream: synfin::net::TcpStream, len: usize) -> io::Result<Sum> {
    let mut source = Source::new(len);
    while let Some(block) = source.next_block() {
        stream.write_all(block).await?;
    }
    stream.close().await?;
    assert_eq!(stream.read(&mut [0; 1]).await?, 0, "the other side closes without a word");
    Ok((len, source.hasher.finish()))
}

async fn synfin_receives(mut stream: synfin::net::TcpStream) -> io::Result<Sum> {
    let (mut buffer, mut len, mut hasher) = (vec![0; 1 << 18], 0, SipHasher13::new());
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok((len, hasher.finish())),
            read => {
                len += read;
                hasher.write(&buffer[..read]);
            }
        }
    }
}

/// Pseudo-random bytes, so that a piece in the wrong place changes the hash.
pub(crate) struct Source {
    left: usize,
    state: u64,
    block: Vec<u8>,
    pub(crate) hasher: SipHasher13,
}

impl Source {
    pub(crate) fn new(len: usize) -> Self {
        Self { left: len, state: 0x9e37_79b9_7f4a_7c15, block: Vec::with_capacity(BLOCK_LEN + 8), hasher: SipHasher13::new() }
    }

    pub(crate) fn next_block(&mut self) -> Option<&[u8]> {
        let len = self.left.min(BLOCK_LEN);
        self.left -= len;
        self.block.clear();
        while self.block.len() < len {
            // Marsaglia's xorshift64.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.block.extend_from_slice(&self.state.to_le_bytes());
        }
        self.block.truncate(len);
        self.hasher.write(&self.block);
        (len > 0).then_some(&self.block)
    }
}
