//! The few rtnetlink messages that a lab needs (rtnetlink(7), netlink(7)): a veth pair, an address, a deletion. Each is acknowledged.
//!
//! ```text
//!   | length | type | flags | sequence | port |  body (ifinfomsg or ifaddrmsg)  |  attributes …
//!   | attribute: length, kind, value, padding to four bytes; a value may be attributes itself |
//! ```

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::IpAddr;

/// Creates a pair of virtual interfaces, both down.
pub(super) fn create_veth(names: [&str; 2], mtu: u32) -> io::Result<()> {
    let [near, far] = names;
    let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &link_body(0));
    message.link(near, mtu);
    message.nested(libc::IFLA_LINKINFO, |info| {
        info.attribute(libc::IFLA_INFO_KIND, b"veth");
        info.nested(libc::IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.bytes.extend_from_slice(&link_body(0));
                peer.link(far, mtu);
            });
        });
    });
    message.send()
}

/// Deletes an interface; of a pair, both.
pub(super) fn delete_link(index: u32) -> io::Result<()> {
    Message::new(libc::RTM_DELLINK, 0, &link_body(index)).send()
}

/// Gives an interface an address, usable at once: without duplicate address detection.
pub(super) fn add_address(index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let [family, flags] = [family.cast_unsigned(), libc::IFA_F_NODAD].map(|value| value.to_le_bytes()[0]);
    let [a, b, c, d] = index.to_ne_bytes();
    let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &[family, prefix, flags, 0, a, b, c, d]);
    message.attribute(libc::IFA_LOCAL, &octets);
    message.attribute(libc::IFA_ADDRESS, &octets);
    message.send()
}

/// Moves a link into the network namespace of a process.
pub(super) fn move_link(index: u32, pid: u32) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &link_body(index));
    message.attribute(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes());
    message.send()
}

/// `struct ifinfomsg`: family, type, index, flags, mask of flags to change.
fn link_body(index: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}

/// A request that is being written.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: libc::c_int, body: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK).expect("the flags of a request have 16 bits");
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self { bytes }
    }

    /// The attributes that name and size a link.
    fn link(&mut self, name: &str, mtu: u32) {
        let mut zero_ended = name.as_bytes().to_vec();
        zero_ended.push(0);
        self.attribute(libc::IFLA_IFNAME, &zero_ended);
        self.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.bytes.extend_from_slice(value));
    }

    /// Writes an attribute whose value is what `fill` appends.
    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let len = u16::try_from(self.bytes.len() - start).expect("a lab's messages are a few hundred bytes");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends it and waits for the kernel's answer.
    fn send(mut self) -> io::Result<()> {
        let len = u32::try_from(self.bytes.len()).expect("a lab's messages are a few hundred bytes");
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
        socket.write_all(&self.bytes)?;
        let mut answer = [0; 4096];
        let len = socket.read(&mut answer)?;
        answer_of(&answer[..len])
    }
}

/// The kernel's answer: `NLMSG_ERROR` with an error number, which is zero for success.
fn answer_of(message: &[u8]) -> io::Result<()> {
    let (Some([_, _, _, _, low, high]), Some([.., a, b, c, d])) = (message.first_chunk::<6>(), message.first_chunk::<20>()) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let (kind, code) = (u16::from_ne_bytes([*low, *high]), i32::from_ne_bytes([*a, *b, *c, *d]));
    match code {
        _ if i32::from(kind) != libc::NLMSG_ERROR => Err(io::ErrorKind::InvalidData.into()),
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// The attribute that describes the other end of a pair (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_their_lengths_are_not() {
        let mut message = Message { bytes: Vec::new() };
        message.nested(2, |outer| outer.attribute(1, b"veth\0"));
        let word = |value: u16| value.to_ne_bytes();
        let expected = [word(16), word(2), word(9), word(1)].concat();
        assert_eq!(message.bytes, [&expected[..], b"veth\0\0\0\0"].concat());
    }

    #[test]
    fn answers_are_told_apart() {
        let answer = |kind: i32, code: i32| {
            let kind = u16::try_from(kind).expect("a small number").to_ne_bytes();
            answer_of(&[&[20, 0, 0, 0], &kind[..], &[0; 10], &code.to_ne_bytes()].concat())
        };
        assert!(answer(libc::NLMSG_ERROR, 0).is_ok());
        assert_eq!(answer(libc::NLMSG_ERROR, -libc::EEXIST).expect_err("refused").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(answer(libc::NLMSG_DONE, 0).expect_err("no answer").kind(), io::ErrorKind::InvalidData);
        assert_eq!(answer_of(&[0; 19]).expect_err("cut short").kind(), io::ErrorKind::UnexpectedEof);
    }
}
