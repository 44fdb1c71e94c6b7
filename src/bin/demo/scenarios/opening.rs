//! Two hosts that call each other at the same moment (RFC 9293 §3.5, figure 7).

use super::ordinary;
use crate::packet::Side;
use crate::stage::Stage;
use crate::world::{LEFT, RIGHT};
use std::io;
use std::net::SocketAddr;

pub(super) fn simultaneous(stage: &mut Stage) -> io::Result<()> {
    let mut world = ordinary(stage);
    world.begin()?;
    world.headline("Simultaneous open. Nobody listens; two SYNs cross, and both sides meet in one connection, not two.")?;
    let (left, right) = (SocketAddr::from((LEFT, 7001)), SocketAddr::from((RIGHT, 7002)));
    let now = world.now();
    let a = world.host(Side::Left).connect(now, right, Some(left), None).map_err(io::Error::other)?;
    let b = world.host(Side::Right).connect(now, left, Some(right), None).map_err(io::Error::other)?;
    let _ = world.wait(super::PATIENCE, |world| {
        [(Side::Left, a), (Side::Right, b)].into_iter().all(|(side, id)| world.host(side).connected(id).is_ok())
    })?;
    world.settle()?;
    world.headline("It is a connection like any other.")?;
    world.write(Side::Left, a, b"you too?")?;
    let _ = world.wait_for_bytes(Side::Right, b, 8)?;
    world.settle()?;
    world.show_netstat()
}
