//! Whether an interface puts four bytes of packet information before each frame, asked through rtnetlink(7). `TUNGETIFF` can't tell: it says
//! `IFF_NOFILTER` with the bit of `IFF_NO_PI`, and no descriptor without a filter lacks that.
//!
//! ```text
//!   RTM_NEWLINK │ ifinfomsg │ … IFLA_LINKINFO │ … IFLA_INFO_DATA │ … IFLA_TUN_PI: one byte
//! ```

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};

/// True if the TUN or TAP interface with this index has packet information; none if the kernel doesn't say (before 4.16).
pub(super) fn of(index: u32) -> io::Result<Option<bool>> {
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.write_all(&question(index))?;
    let mut answer = vec![0; ANSWER_LEN_MAX];
    let len = socket.read(&mut answer)?;
    Ok(answer_of(&answer[..len]))
}

/// `RTM_GETLINK` for one interface.
fn question(index: u32) -> [u8; QUESTION_LEN] {
    let mut message = [0; QUESTION_LEN];
    message[..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&1u16.to_ne_bytes());
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    message
}

fn answer_of(message: &[u8]) -> Option<bool> {
    if message.get(4..6)? != libc::RTM_NEWLINK.to_ne_bytes() {
        return None;
    }
    let info = attribute(message.get(QUESTION_LEN..)?, libc::IFLA_LINKINFO)?;
    let data = attribute(info, libc::IFLA_INFO_DATA)?;
    attribute(data, TUN_PI)?.first().map(|value| *value != 0)
}

/// The value of the first attribute of this kind: length, kind, value, padding to four bytes.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let (len, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([k0, k1]));
        let value = bytes.get(4..len)?;
        if kind & KIND_MASK == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

/// A netlink header and an `ifinfomsg`.
const QUESTION_LEN: usize = 32;

/// Room for all that the kernel says of one interface, which it keeps below 32 KiB.
const ANSWER_LEN_MAX: usize = 32 << 10;

/// The attribute that says it (linux/if_link.h).
const TUN_PI: u16 = 4;

/// The bits of a kind that are not flags (linux/netlink.h).
const KIND_MASK: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_lie_say_nothing() {
        let attribute = |kind: u16, value: &[u8]| {
            let len = u16::try_from(4 + value.len()).expect("short");
            let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let message = |pi: &[u8]| {
            let data = attribute(libc::IFLA_INFO_DATA, &[attribute(3, &[1]), attribute(TUN_PI, pi)].concat());
            let info = attribute(libc::IFLA_LINKINFO, &[attribute(libc::IFLA_INFO_KIND, b"tun\0"), data].concat());
            let mut header = question(7);
            header[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
            [&header[..], &attribute(libc::IFLA_IFNAME, b"tun0\0"), &info].concat()
        };
        assert_eq!((answer_of(&message(&[0])), answer_of(&message(&[1])), answer_of(&message(&[]))), (Some(false), Some(true), None));
        let whole = message(&[1]);
        assert!((0..whole.len() - 3).all(|len| answer_of(&whole[..len]).is_none()), "cut short");
        let mut endless = whole;
        endless[QUESTION_LEN..QUESTION_LEN + 2].fill(0);
        assert_eq!(answer_of(&endless), None);
    }
}
