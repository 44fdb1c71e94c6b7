//! The ways in which a connection ends well (RFC 9293 §3.6).

use super::ordinary;
use crate::packet::Side;
use crate::stage::Stage;
use std::io;
use std::time::Duration;

/// One side finishes, the other goes on.
pub(super) fn half_close(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("Handshake.")?;
    let pair = world.connect()?;
    world.settle()?;
    world.headline("Half-close. A asks and is done speaking: the FIN says \"that was the whole question\", not \"goodbye\".")?;
    let question = b"everything you know?";
    world.write(Side::Left, pair.a, question)?;
    world.finish(Side::Left, pair.a)?;
    let _ = world.wait_for_end(Side::Right, pair.b)?;
    world.read(Side::Right, pair.b);
    world.settle()?;
    world.headline("B, in CLOSE-WAIT, still sends as much as it likes; A, in FIN-WAIT-2, acknowledges it.")?;
    for _ in 0..3 {
        world.write(Side::Right, pair.b, &[b'x'; 300])?;
        let _ = world.wait_for_bytes(Side::Left, pair.a, 300)?;
        world.settle()?;
    }
    world.show_netstat()?;
    world.headline("Now B is done, too. A rests in TIME-WAIT, because its last ACK might be lost.")?;
    world.finish(Side::Right, pair.b)?;
    world.settle()?;
    world.show_netstat()
}

/// The passive side has nothing left to say.
pub(super) fn three_segments(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("Handshake.")?;
    let pair = world.connect()?;
    world.settle()?;
    world.headline("Three segments to close. B has nothing left to say when A's FIN comes, so B's FIN rides on the ACK.")?;
    world.finish(Side::Left, pair.a)?;
    let _ = world.wait_for_end(Side::Right, pair.b)?;
    world.finish(Side::Right, pair.b)?;
    world.settle()?;
    world.show_netstat()
}

/// Both sides finish at the same moment.
pub(super) fn simultaneous(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("Handshake.")?;
    let pair = world.connect()?;
    world.settle()?;
    world.headline("Simultaneous close. The FINs cross: both sides are in CLOSING until their own is acknowledged, then both rest.")?;
    world.finish(Side::Left, pair.a)?;
    world.finish(Side::Right, pair.b)?;
    world.settle()?;
    world.show_netstat()?;
    world.pass(Duration::from_secs(61))?;
    world.say(&[])?;
    world.states("a minute later", pair.ends)
}
