//! Two people on a bad line, probing whether the other still hears them: keepalive (RFC 9293 §3.8.4) and the user timeout (RFC 5482).

use super::{PATIENCE, Pair, ordinary};
use crate::packet::Side;
use crate::stage::Stage;
use crate::world::{Line, World};
use std::io;
use std::time::Duration;
use synfin::proto::{Keepalive, SocketOption};

pub(super) fn play(stage: &mut Stage) -> io::Result<()> {
    keepalive(stage)?;
    user_timeout(stage)
}

fn keepalive(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("Handshake. A asks for keepalive: after 10 s of silence a probe, then one every 5 s, three in all.")?;
    let pair = world.connect()?;
    world.settle()?;
    let times = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), count: 3 };
    let now = world.now();
    world.host(Side::Left).set_option(now, pair.a, SocketOption::KeepaliveTimes(times));
    world.host(Side::Left).set_option(now, pair.a, SocketOption::Keepalive(true));

    world.headline("Two people on a bad line, long silent. \"Do you still hear me?\" This time the line is good, and B answers.")?;
    world.pass(Duration::from_secs(12))?;
    world.headline("The line breaks. No FIN, no reset, just silence: without probes A would never know, and wait for ever.")?;
    world.set_line(Line::Dead);
    until_given_up(&mut world, pair)
}

fn user_timeout(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("Again, with a user timeout of 8 s: A's application does not want to wait for longer.")?;
    let pair = world.connect()?;
    world.settle()?;
    let now = world.now();
    world.host(Side::Left).set_option(now, pair.a, SocketOption::UserTimeout(Some(Duration::from_secs(8))));
    world.headline("A speaks, and the line is dead. It repeats itself, each time after twice as long, until the user timeout.")?;
    world.set_line(Line::Dead);
    world.write(Side::Left, pair.a, b"hello?")?;
    until_given_up(&mut world, pair)
}

fn until_given_up(world: &mut World<'_>, pair: Pair) -> io::Result<()> {
    let _ = world.wait(PATIENCE, |world| world.host(Side::Left).close_reason(pair.a).is_some())?;
    world.pass(Duration::from_millis(1))?;
    world.states("A gives up, B has not noticed", pair.ends)?;
    match world.host(Side::Left).take_error(pair.a) {
        Some(reason) => world.say(&[&format!("A's application is told: {reason} ({reason:?})")]),
        None => Ok(()),
    }
}
