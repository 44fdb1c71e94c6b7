//! synfin against the Linux kernel's TCP: a stack on one end of a veth pair, or behind a TAP or TUN, the kernel on the other, in a network namespace that each test
//! makes for itself without root.
//!
//! | module | what it asks |
//! |---|---|
//! | `transfer` | do bytes arrive whole, in both families, roles and directions, as super-packets or not |
//! | `closing` | who is in which state when either side, or both at once, close |
//! | `errors` | does a program see the numbers that it would see from the kernel |
//! | `changes` | does a transfer outlive what may happen to an interface: flaps, another MTU, offloads switched; what becomes of it when the interface is removed |
//! | `crowd` | a thousand connections at once |
//! | `trouble` | a link that goes away, handles dropped at any point |
//! | `neighbors` | an address that the kernel has already, many addresses, a host that is not there |
//! | `passthrough` | does what is not for the stack arrive in the program's sink |
//! | `ping` | does the stack answer an echo request, and refuse a datagram |
//! | `tshark` | does Wireshark's dissector find fault with a capture |
//!
//! Where the system forbids such namespaces the tests are ignored and say so; with `SYNFIN_REQUIRE_NETNS=1` they fail.

#![expect(clippy::disallowed_methods, reason = "the kernel is the peer, and its time is real")]

mod changes;
mod closing;
mod crowd;
mod errors;
mod gate;
mod lab;
mod neighbors;
mod passthrough;
mod ping;
mod transfer;
mod trouble;
mod tshark;
