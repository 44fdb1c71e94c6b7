//! A transfer over a wire that loses or reorders frames: what arrives is whole and in order all the same.

use super::{PATIENCE, broken, ordinary};
use crate::args::Order;
use crate::packet::Side;
use crate::stage::Stage;
use crate::world::{RIGHT, Waited};
use std::io;
use std::net::SocketAddr;
use synfin::proto::ConnectedError;

pub(super) fn play(stage: &mut Stage) -> io::Result<()> {
    let (loss, order) = (stage.settings.loss, stage.settings.order);
    let mut world = ordinary(stage);
    world.begin()?;
    let wire = match (loss, order) {
        (loss, Order::Kept) => format!("loses {loss} of 100 frames"),
        (0, Order::Shuffled) => "lets frames overtake one another".to_owned(),
        (loss, Order::Shuffled) => format!("loses {loss} of 100 frames, and lets frames overtake one another"),
    };
    world.headline(&format!("Handshake, over a wire that {wire}."))?;
    let (now, remote) = (world.now(), SocketAddr::from((RIGHT, 7)));
    let listener = world.host(Side::Right).listen(now, remote, 8).map_err(io::Error::other)?;
    let a = world.dial(remote)?;
    let _ = world.wait(PATIENCE, |world| world.host(Side::Left).connected(a) != Err(ConnectedError::WouldBlock))?;
    world.headline("A sends six segments at once. What comes after a gap is kept; duplicate ACKs and SACK blocks tell of it.")?;
    let data: Vec<u8> = (0..LEN).map(|at| at.to_le_bytes()[0]).collect();
    world.write(Side::Left, a, &data)?;
    let (mut b, mut received) = (None, Vec::new());
    let waited = world.wait(PATIENCE, |world| {
        let (now, mut buffer) = (world.now(), [0; LEN]);
        b = b.or_else(|| world.host(Side::Right).accept(now, listener).ok().map(|(id, _)| id));
        while let Some(Ok(read @ 1..)) = b.map(|id| world.host(Side::Right).recv(now, id, &mut buffer)) {
            received.extend_from_slice(&buffer[..read]);
        }
        received.len() >= LEN
    })?;
    let Some(b) = b else { return Err(broken("B never heard the end of the handshake")) };
    world.settle()?;
    world.headline("Both close. A FIN that is lost is repeated like data; so is the ACK, when the FIN comes again.")?;
    world.finish(Side::Left, a)?;
    let _ = world.wait_for_end(Side::Right, b)?;
    world.settle()?;
    let _ = world.finish(Side::Right, b);
    let _ = world.wait(PATIENCE, |world| world.host(Side::Right).close_reason(b).is_some())?;
    world.settle()?;
    let again = world.info(Side::Left, a).map_or(0, |info| info.total_retransmits);
    let verdict = match waited {
        Waited::Met if received == data => "every byte, in order",
        Waited::InVain if data.starts_with(&received) => "in order, but not all of them",
        Waited::Met | Waited::InVain => "not what was sent",
    };
    let (lost, late) = world.damage();
    world.say(&[&format!("B has read {} bytes: {verdict}. Frames lost: {lost}, late: {late}, sent again by A: {again}.", received.len())])
}

/// Six segments of 1448 bytes: an Ethernet packet without headers and timestamps.
const LEN: usize = 6 * 1448;
