//! The Linux kernel's table of TCP sockets (proc(5), `/proc/net/tcp`): one row's state for the ladder, and what `ss -tan` prints.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use synfin::proto::State;

/// A socket of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) state: State,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    send_queue: u32,
    receive_queue: u32,
}

/// Every IPv4 socket of this network namespace.
pub(crate) fn table() -> io::Result<Vec<Row>> {
    Ok(std::fs::read_to_string("/proc/net/tcp")?.lines().skip(1).filter_map(parse).collect())
}

/// The table as `ss -tan` prints it: by `ss` itself where it is installed, else in its columns.
pub(crate) fn listing() -> io::Result<(&'static str, Vec<String>)> {
    match Command::new("ss").arg("-tan").output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(("ss -tan", text.lines().map(|line| line.trim_end().to_owned()).collect()))
        }
        Ok(_) | Err(_) => {
            let rows = table()?;
            let header =
                format!("{:<11} {:>6} {:>6}  {:>21} {:>21}", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port");
            Ok(("/proc/net/tcp (ss is not installed)", std::iter::once(header).chain(rows.iter().map(Row::to_string)).collect()))
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { state, local, remote, send_queue, receive_queue } = self;
        let peer = if remote.port() == 0 { format!("{}:*", remote.ip()) } else { remote.to_string() };
        write!(f, "{:<11} {receive_queue:>6} {send_queue:>6}  {:>21} {peer:>21}", ss_name(*state), local.to_string())
    }
}

/// `ss` has names of its own.
const fn ss_name(state: State) -> &'static str {
    match state {
        State::Closed => "UNCONN",
        State::Established => "ESTAB",
        State::SynReceived => "SYN-RECV",
        other => other.rfc_name(),
    }
}

/// One line: number, local, remote, state, queues, all in hexadecimal; addresses as the machine keeps them.
fn parse(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    let state = state(u8::from_str_radix(fields.next()?, 16).ok()?)?;
    let (send, receive) = fields.next()?.split_once(':')?;
    let queue = |text| u32::from_str_radix(text, 16).ok();
    Some(Row { state, local, remote, send_queue: queue(send)?, receive_queue: queue(receive)? })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

/// The kernel's numbers (`include/net/tcp_states.h`); 12 is a handshake that has not got a socket yet.
const fn state(number: u8) -> Option<State> {
    Some(match number {
        1 => State::Established,
        2 => State::SynSent,
        3 | 12 => State::SynReceived,
        4 => State::FinWait1,
        5 => State::FinWait2,
        6 => State::TimeWait,
        7 => State::Closed,
        8 => State::CloseWait,
        9 => State::LastAck,
        10 => State::Listen,
        11 => State::Closing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_kernel_is_a_row() {
        let line = "   1: 0100090A:0007 0200090A:D431 08 00000010:00000005 00:00000000 00000000     0        0 12345 1 0";
        let row = parse(line).expect("a row");
        assert_eq!(
            (row.state, row.local, row.remote),
            (State::CloseWait, "10.9.0.1:7".parse().unwrap(), "10.9.0.2:54321".parse().unwrap())
        );
        assert_eq!((row.send_queue, row.receive_queue), (16, 5));
        assert_eq!(row.to_string(), "CLOSE-WAIT       5     16             10.9.0.1:7        10.9.0.2:54321");
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue rx_queue"), None);
    }
}
