//! Flow control at its end: the receive buffer is full (RFC 9293 §3.8.6).

use super::{PATIENCE, with_window};
use crate::packet::Side;
use crate::stage::Stage;
use crate::world::World;
use std::io;

pub(super) fn play(stage: &mut Stage) -> io::Result<()> {
    let mut world = World::new(stage, [with_window(65_535), with_window(4096)]);
    world.begin()?;
    world.headline("Handshake. B announces a window of 4096 bytes: that is how much it has room for.")?;
    let pair = world.connect()?;
    world.settle()?;
    world.headline("A writes 6000 bytes, B does not read. Each ACK says how much room is left. The last 1200 wait a little: if")?;
    world.stage.screen.line("B read, a full segment would fit. It does not, so they go alone, and then the window is 0.")?;
    world.write(Side::Left, pair.a, &[b'x'; 6000])?;
    let has_asked = |world: &mut World<'_>, count: u64| world.host(Side::Left).stats().tcp.window_probes >= count;
    let _ = world.wait(PATIENCE, |world| world.info(Side::Left, pair.a).is_some_and(|info| info.snd_wnd == 0))?;
    world.headline("Now A must not send, nor wait for ever: the news of an open window may get lost. A asks, ever more rarely.")?;
    let _ = world.wait(PATIENCE, |world| has_asked(world, 5))?;
    world.settle()?;
    world.show_netstat()?;
    world.headline("B reads: the window opens, and the rest flows.")?;
    let mut total = 0;
    let _ = world.wait(PATIENCE, |world| {
        total += world.read(Side::Right, pair.b);
        total >= 6000
    })?;
    world.settle()?;
    world.say(&[&format!("B has read {total} bytes.")])
}
