//! The tour: a whole connection, from SYN to FIN.

use super::ordinary;
use crate::packet::Side;
use crate::stage::Stage;
use std::io;
use std::time::Duration;

pub(super) fn play(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("1. Handshake. Three segments: each side says where its numbering begins, and hears that the other knows.")?;
    let pair = world.connect()?;
    world.settle()?;

    world.headline("2. Echo. Every byte has a number; ack names the next one expected. An answer carries the ACK of the question.")?;
    let question = b"hello, synfin";
    world.write(Side::Left, pair.a, question)?;
    let _ = world.wait_for_bytes(Side::Right, pair.b, question.len())?;
    world.write(Side::Right, pair.b, question)?;
    let _ = world.wait_for_bytes(Side::Left, pair.a, question.len())?;
    world.settle()?;

    world.headline("3. Half-close. A's FIN ends one direction only: A will say no more, B still may, and A still listens.")?;
    world.finish(Side::Left, pair.a)?;
    world.settle()?;
    for line in [&b"data after your FIN"[..], b"and more of it"] {
        world.write(Side::Right, pair.b, line)?;
        let _ = world.wait_for_bytes(Side::Left, pair.a, line.len())?;
        world.settle()?;
    }
    world.show_netstat()?;

    world.headline("4. Four segments to close (FIN, ACK, FIN, ACK): the passive side may still have data, so its FIN comes later.")?;
    world.finish(Side::Right, pair.b)?;
    world.settle()?;
    world.show_netstat()?;

    world.headline("5. TIME-WAIT. Who closes first stays to repeat the last ACK if it was lost, until old segments have died out.")?;
    world.states("no segment", pair.ends)?;
    world.pass(Duration::from_secs(61))?;
    world.states("a minute later", pair.ends)
}
