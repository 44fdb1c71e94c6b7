//! The classic BPF program that decides which frames enter the socket at all: ARP, packets for the stack's addresses, and the multicasts of
//! neighbour discovery (RFC 4861). What the kernel drops here costs the process nothing.
//!
//! The engine checks every packet again; a program that lets too much in would be slow, not wrong.

use super::super::sys::option;
use socket2::{SockFilter, Socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

/// How many addresses of a family are told apart; beyond that its packets all enter.
pub(super) const ADDRESSES_MAX: usize = 128;

/// Lets in what a stack with these addresses needs. To be called before the socket is bound, so that nothing else has entered by then.
pub(super) fn attach(socket: &Socket, addresses: &[IpAddr]) -> io::Result<()> {
    let program: Vec<_> = program(addresses).iter().map(|step| SockFilter::new(step.code, step.yes, step.no, step.operand)).collect();
    socket.attach_filter(&program)
}

/// Asks the interface with this index to hand over the multicasts that [`attach`] lets in.
pub(super) fn join_multicasts(socket: &Socket, index: u32, addresses: &[IpAddr]) -> io::Result<()> {
    multicasts(addresses).iter().try_for_each(|group| {
        let [.., a, b, c, d] = group.octets();
        // RFC 2464 §7
        option::join_multicast(socket.as_fd(), index, [0x33, 0x33, a, b, c, d])
    })
}

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    code: u16,
    yes: u8,
    no: u8,
    operand: u32,
}

const fn step(code: u32, operand: u32) -> Step {
    jump(code, operand, 0, 0)
}

/// A conditional step: how many steps to skip when it holds, and when not.
const fn jump(code: u32, operand: u32, yes: u8, no: u8) -> Step {
    // Every code is below 256.
    #[expect(clippy::cast_possible_truncation, reason = "opcodes have eight bits")]
    Step { code: code as u16, yes, no, operand }
}

fn program(addresses: &[IpAddr]) -> Vec<Step> {
    let v4: Vec<Ipv4Addr> = addresses.iter().filter_map(|address| if let IpAddr::V4(v4) = address { Some(*v4) } else { None }).collect();
    let v6: Vec<Ipv6Addr> = addresses.iter().filter_map(|address| if let IpAddr::V6(v6) = address { Some(*v6) } else { None }).collect();
    let v4 = ipv4_steps(&v4);
    let skip_v4 = u32::try_from(v4.len()).expect("at most 258 steps");

    let mut steps = vec![
        // Frames for other hosts (a promiscuous interface) and our own.
        step(LOAD_WORD, PACKET_TYPE),
        jump(IF_GREATER, PACKET_MULTICAST, 0, 1),
        REJECT,
        // Frames of a VLAN; identifier 0 is only a priority.
        step(LOAD_WORD, VLAN_PRESENT),
        jump(IF_EQUAL, 0, 4, 0),
        step(LOAD_WORD, VLAN_TAG),
        step(AND, 0xfff),
        jump(IF_EQUAL, 0, 1, 0),
        REJECT,
        step(LOAD_HALF, ETHERTYPE_AT),
        jump(IF_EQUAL, ETHERTYPE_ARP, 0, 1),
        ACCEPT,
        jump(IF_EQUAL, ETHERTYPE_IPV4, 1, 0),
        step(SKIP, skip_v4),
    ];
    steps.extend(v4);
    steps.extend([jump(IF_EQUAL, ETHERTYPE_IPV6, 1, 0), REJECT]);
    steps.extend(ipv6_steps(&v6));
    steps
}

fn ipv4_steps(addresses: &[Ipv4Addr]) -> Vec<Step> {
    if addresses.len() > ADDRESSES_MAX || addresses.contains(&Ipv4Addr::UNSPECIFIED) {
        return vec![ACCEPT];
    }
    let mut steps = vec![step(LOAD_WORD, IPV4_DESTINATION_AT)];
    for address in addresses {
        steps.extend([jump(IF_EQUAL, address.to_bits(), 0, 1), ACCEPT]);
    }
    steps.push(REJECT);
    steps
}

fn ipv6_steps(addresses: &[Ipv6Addr]) -> Vec<Step> {
    if addresses.is_empty() {
        return vec![REJECT];
    }
    if addresses.len() > ADDRESSES_MAX || addresses.contains(&Ipv6Addr::UNSPECIFIED) {
        return vec![ACCEPT];
    }
    let all: Vec<_> = addresses.iter().copied().map(IpAddr::V6).collect();
    let mut steps: Vec<_> = addresses.iter().flat_map(|address| ipv6_destination(*address)).collect();
    // A query for listeners has its router alert before ICMPv6 (RFC 3810 §5).
    steps.extend([step(LOAD_BYTE, IPV6_NEXT_HEADER_AT), jump(IF_EQUAL, ICMPV6, 2, 0), jump(IF_EQUAL, HOP_BY_HOP, 1, 0), REJECT]);
    steps.extend(multicasts(&all).into_iter().flat_map(ipv6_destination));
    steps.push(REJECT);
    steps
}

/// Accepts a packet for `address`, word by word; falls off the end for any other.
fn ipv6_destination(address: Ipv6Addr) -> [Step; 9] {
    let octets = address.octets();
    let mut steps = [ACCEPT; 9];
    for (index, word) in octets.chunks_exact(4).enumerate() {
        let at = u32::try_from(4 * index).expect("four words");
        let after = u8::try_from(2 * index + 2).expect("four words");
        steps[2 * index] = step(LOAD_WORD, IPV6_DESTINATION_AT + at);
        steps[2 * index + 1] = jump(IF_EQUAL, u32::from_be_bytes([word[0], word[1], word[2], word[3]]), 0, 9 - after);
    }
    steps
}

/// The groups in which neighbours speak to these addresses: all nodes, and the solicited-node group of each (RFC 4291 §2.7.1).
fn multicasts(addresses: &[IpAddr]) -> Vec<Ipv6Addr> {
    let mut groups: Vec<_> = addresses
        .iter()
        .filter_map(|address| if let IpAddr::V6(address) = address { Some(address.octets()) } else { None })
        .map(|[.., a, b, c]| Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]))
        .collect();
    if !groups.is_empty() {
        groups.push(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    }
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(ADDRESSES_MAX);
    groups
}

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const SKIP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// How many bytes of a frame enter: more than the longest super-packet has. A smaller power would cut those.
const WHOLE: u32 = 0x4_0000;
const ACCEPT: Step = step(RETURN, WHOLE);
const REJECT: Step = step(RETURN, 0);

/// Facts about a frame that are not in it (`SKF_AD_…`, linux/filter.h).
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const VLAN_TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG).cast_unsigned();
const VLAN_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT).cast_unsigned();
/// The last packet type that is meant for us; above it come other hosts' frames and outgoing ones.
const PACKET_MULTICAST: u32 = 2;

const ETHERTYPE_AT: u32 = 12;
const ETHERTYPE_ARP: u32 = 0x0806;
const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const IPV4_DESTINATION_AT: u32 = 14 + 16;
const IPV6_NEXT_HEADER_AT: u32 = 14 + 6;
const IPV6_DESTINATION_AT: u32 = 14 + 24;
const ICMPV6: u32 = 58;
const HOP_BY_HOP: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel knows of a frame beside its bytes.
    #[derive(Clone, Copy, Default)]
    struct Aside {
        packet_type: u32,
        vlan: Option<u32>,
    }

    /// Runs a program as the kernel does: a load beyond the frame rejects it.
    fn run(program: &[Step], frame: &[u8], aside: Aside) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Step { code, yes, no, operand } = program[at];
            let load = |len: usize| {
                let bytes = frame.get(operand as usize..operand as usize + len)?;
                Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            };
            let loaded = match u32::from(code) {
                LOAD_WORD if operand == PACKET_TYPE => Some(aside.packet_type),
                LOAD_WORD if operand == VLAN_PRESENT => Some(u32::from(aside.vlan.is_some())),
                LOAD_WORD if operand == VLAN_TAG => Some(aside.vlan.unwrap_or(0)),
                LOAD_WORD => load(4),
                LOAD_HALF => load(2),
                LOAD_BYTE => load(1),
                AND => Some(accumulator & operand),
                _ => Some(accumulator),
            };
            let Some(value) = loaded else { return 0 };
            accumulator = value;
            at += 1 + match u32::from(code) {
                RETURN => return operand,
                SKIP => operand as usize,
                IF_EQUAL => usize::from(if accumulator == operand { yes } else { no }),
                IF_GREATER => usize::from(if accumulator > operand { yes } else { no }),
                _ => 0,
            };
        }
    }

    fn frame(ethertype: u32, destination: IpAddr, protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 80];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes()[2..]);
        match destination {
            IpAddr::V4(address) => frame[30..34].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => frame[38..54].copy_from_slice(&address.octets()),
        }
        frame[20] = protocol;
        frame
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    /// Which of `seen`, as TCP packets, enter a stack with the addresses `owned`.
    fn entering<'a>(owned: &[&str], seen: &[&'a str]) -> Vec<&'a str> {
        let program = program(&addresses(owned));
        let enters = |text: &&str| {
            let address: IpAddr = text.parse().expect("an address");
            let ethertype = if address.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
            run(&program, &frame(ethertype, address, 6), Aside::default()) == WHOLE
        };
        seen.iter().copied().filter(|text| enters(text)).collect()
    }

    #[test]
    fn own_addresses_enter_and_others_do_not() {
        let seen = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "255.255.255.255", "fd09::1", "fd09::2", "fd09::3", "ff02::1", "1:2:3:4:fd09::2"];
        assert_eq!(entering(&["10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3"], &seen), ["10.9.0.2", "10.9.0.3", "fd09::2", "fd09::3"]);
        assert_eq!(entering(&["10.9.0.2"], &seen), ["10.9.0.2"]);
        assert_eq!(entering(&["fd09::2"], &seen), ["fd09::2"]);
        assert_eq!(entering(&[], &seen), [""; 0]);
    }

    #[test]
    fn unspecified_address_and_too_many_let_a_family_in() {
        assert_eq!(entering(&["0.0.0.0"], &["1.2.3.4", "fd09::1"]), ["1.2.3.4"]);
        assert_eq!(entering(&["::"], &["1.2.3.4", "fd09::1"]), ["fd09::1"]);
        let many: Vec<_> = (0..=ADDRESSES_MAX).map(|last| format!("10.0.0.{last}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(entering(&many, &["1.2.3.4"]), ["1.2.3.4"]);
        assert_eq!(entering(&many[1..], &["1.2.3.4", "10.0.0.0", "10.0.0.1", "10.0.0.128"]), ["10.0.0.1", "10.0.0.128"]);
    }

    #[test]
    fn neighbour_discovery_enters_by_its_groups() {
        let program = program(&addresses(&["fd09::12:3456"]));
        let enters = |destination: &str, protocol| {
            run(&program, &frame(ETHERTYPE_IPV6, destination.parse().expect("an address"), protocol), Aside::default()) == WHOLE
        };
        assert!(enters("ff02::1:ff12:3456", 58) && enters("ff02::1", 58) && enters("ff02::1", 0));
        assert!(!enters("ff02::1:ff12:3456", 6) && !enters("ff02::1:ff12:3457", 58) && !enters("ff02::2", 58) && !enters("ff02::2", 0));
    }

    #[test]
    fn arp_enters_unless_it_is_not_for_us() {
        let program = program(&addresses(&["10.9.0.2"]));
        let enters = |aside| run(&program, &frame(ETHERTYPE_ARP, [0; 4].into(), 0), aside) == WHOLE;
        assert!((0..=2).all(|packet_type| enters(Aside { packet_type, vlan: None })));
        assert!((3..=4).all(|packet_type| !enters(Aside { packet_type, vlan: None })));
        assert!(enters(Aside { packet_type: 0, vlan: Some(0xe000) }));
        assert!(!enters(Aside { packet_type: 0, vlan: Some(0xe005) }));
        assert_eq!(run(&program, &[0; 13], Aside::default()), 0);
    }
}
