//! SYNs that nobody means (RFC 4987): half-open connections fill the table, and what the listener does about it.

use super::{PATIENCE, with_window};
use crate::packet::Side;
use crate::stage::Stage;
use crate::world::{RIGHT, World};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use synfin::proto::wire::ip::protocol;
use synfin::proto::wire::tcp::HEADER_LEN_MAX;
use synfin::proto::wire::{Address, Flags, IpHeader, OptionLayout, Segment, SeqNum, Sum, ip::HEADER_LEN_MAX as IP_HEADER_LEN_MAX};
use synfin::proto::{DropReason, SocketId, State, SynCookies, TxFrame, netstat};

pub(super) fn play(stage: &mut Stage) -> io::Result<()> {
    let mut small_table = with_window(65_535);
    small_table.half_open_capacity = 8;
    small_table.syn_cookies = SynCookies::Off;
    let mut world = World::new(stage, [with_window(65_535), small_table]);
    world.begin()?;
    world.headline("A listener on B, with room for 8 half-open connections (else it is 2048), and one honest connection.")?;
    let address = SocketAddr::from((RIGHT, 80));
    let now = world.now();
    let listener = world.host(Side::Right).listen(now, address, 16).map_err(io::Error::other)?;
    let honest = connect(&mut world, address, listener)?;
    world.settle()?;

    world.headline("The flood: SYNs from invented addresses. B answers each; nobody is there to send the third segment.")?;
    for index in 0..FLOOD {
        if index == DRAWN {
            world.look_away()?;
        }
        let frame = invented_syn(&mut world, index);
        world.inject(frame)?;
        world.pass(Duration::from_millis(11))?;
    }
    world.look_again()?;
    half_open_table(&mut world)?;
    verdict(&mut world)?;

    world.headline("Meanwhile the connection that is there is not disturbed.")?;
    world.write(Side::Left, honest, b"still fine")?;
    world.settle()?;
    world.headline("An honest newcomer is dropped, too, but repeats its SYN, and half-open connections are soon forgotten.")?;
    world.look_away()?;
    let began = world.now();
    connect(&mut world, address, listener)?;
    world.settle()?;
    world.look_again()?;
    let waited = world.now() - began;
    world.say(&[
        &format!("The newcomer is connected after {:.1} s. B's table:", waited.as_secs_f32()),
        &format!("     {}", netstat::HEADER),
    ])?;
    let rows = world.netstat(Side::Right);
    world.print_rows(&rows)
}

/// An honest connection from A.
fn connect(world: &mut World<'_>, address: SocketAddr, listener: SocketId) -> io::Result<SocketId> {
    let id = world.dial(address)?;
    let _ = world.wait(PATIENCE, |world| {
        let now = world.now();
        world.host(Side::Right).accept(now, listener).is_ok()
    })?;
    Ok(id)
}

/// `netstat -nap | grep SYN_RECV`, of an engine.
fn half_open_table(world: &mut World<'_>) -> io::Result<()> {
    world.say(&["What an administrator looks for with `netstat -nap | grep SYN_RECV`, here from B's engine:"])?;
    let mut rows = world.netstat(Side::Right);
    rows.retain(|row| row.state == State::SynReceived);
    world.print_rows(&rows)?;
    world.stage.screen.line(&format!("     ({} rows)", rows.len()))
}

fn verdict(world: &mut World<'_>) -> io::Result<()> {
    let stats = *world.host(Side::Right).stats();
    let reason = DropReason::SynCacheFull;
    let count = stats.drops.of(reason);
    world.say(&[
        &format!("What the listener does: of {} SYNs it has dropped {count}, and counted them ({reason}).", stats.syns_in),
        "A half-open connection is a record of 96 bytes at most: no socket, no buffer, no task. From half of the table",
        "on, each gets one repeated SYN,ACK and is then forgotten. What is established notices nothing.",
    ])
}

/// A SYN from an address of the range for documentation (RFC 5737).
fn invented_syn(world: &mut World<'_>, index: u8) -> TxFrame {
    let chance = world.stage.random.next().to_le_bytes();
    let source = Address::from(IpAddr::V4(Ipv4Addr::new(198, 51, 100, index + 1)));
    let destination = Address::from(IpAddr::V4(RIGHT));
    let segment = Segment {
        source_port: u16::from_le_bytes([chance[0], chance[1]]) | 1024,
        destination_port: 80,
        seq: SeqNum(u32::from_le_bytes([chance[2], chance[3], chance[4], chance[5]])),
        flags: Flags::SYN,
        window: 65_535,
        ..Segment::default()
    };
    let (mut tcp, mut packet) = ([0; HEADER_LEN_MAX], [0; IP_HEADER_LEN_MAX]);
    let len = segment.emit(OptionLayout::Linux, &mut tcp);
    let header = IpHeader { source, destination, protocol: protocol::TCP, hop_limit: 64, traffic_class: 0 };
    let ip_len = header.emit(0, len, &mut packet);
    let sum = Sum::pseudo_header(source, destination, protocol::TCP, u32::try_from(len).expect("at most 60")).partial();
    let mut frame = TxFrame::new();
    frame.put_header(&packet[..ip_len]);
    frame.put_header(&tcp[..len]);
    frame.transport_offset = u8::try_from(ip_len).expect("at most 40");
    let at = ip_len + synfin::proto::wire::tcp::CHECKSUM_OFFSET;
    frame.header_mut()[at..at + 2].copy_from_slice(&sum);
    frame
}

/// SYNs in the flood, and how many of them are drawn.
const FLOOD: u8 = 40;
const DRAWN: u8 = 2;
