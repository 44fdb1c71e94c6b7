//! Duplicate-address detection (RFC 5227 §2.1, RFC 4862 §5.4), announcements, and claims to an address that is in use (RFC 5227 §2.4).

use std::net::SocketAddr;
use std::time::Duration;

use synfin::proto::wire::arp::Operation;
use synfin::proto::{AddressConflict, CloseReason, Config, ConnectedError, Detection};

use crate::hub::{Hub, arp, link, mac};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const STRANGER: usize = 0x99;

fn words(said: &[(u64, String)]) -> Vec<(u64, &str)> {
    said.iter().map(|(at, what)| (*at, what.as_str())).collect()
}

/// A host that has its address, and has said so.
fn settled(addresses: &str) -> Hub {
    let mut hub = Hub::new(&Config::default(), &[addresses]);
    hub.run(3 * SECOND);
    hub.said(0);
    hub
}

fn conflict(hub: &Hub, host: usize) -> Option<AddressConflict> {
    hub.hosts[host].duplicate_address()
}

/// R4861-4, R5227-1, R5227-4.
#[test]
fn an_address_is_probed_then_announced() {
    for (cidr, address) in [("10.9.0.2/24", "10.9.0.2"), ("fd09::2/64", "fd09::2"), ("fe80::2/64", "fe80::2")] {
        let mut hub = Hub::new(&Config::default(), &[cidr]);
        hub.run(10 * SECOND);
        let (probe, announce) = (format!("probe {address} to all"), format!("announce {address} to all"));
        let said = hub.said(0);
        assert_eq!(words(&said), [(0, probe.as_str()), (100, &probe), (200, &announce), (2200, &announce)]);
        assert_eq!(hub.hosts[0].detection(address.parse().expect("a literal")), Detection::Done);
    }
}

/// R4862-2, R4862-3, R5227-3.
#[test]
fn two_hosts_cannot_have_one_address() {
    for cidr in ["10.9.0.2/24", "fd09::2/64"] {
        let address = cidr.split('/').next().and_then(|text| text.parse().ok()).expect("a literal");
        let mut hub = settled(cidr);
        hub.add(&Config::default(), cidr);
        hub.run(3 * SECOND);
        let found = conflict(&hub, 1).expect("the second is told");
        assert_eq!((found.address, found.mac), (address, mac(0)));
        assert_eq!(hub.hosts[1].detection(address), Detection::Failed(found));
        assert!(found.to_string().contains(&format!("02:00:00:00:00:00, uses {address} already")), "{found}");
        let said = hub.said(1);
        assert_eq!(words(&said).len(), 1, "one probe and not a word from that address: {said:?}");
        assert_eq!((conflict(&hub, 0), hub.hosts[0].addresses().len()), (None, 1), "the first keeps it");
    }
}

/// R4862-2, R5227-3.
#[test]
fn hosts_that_begin_at_once_both_give_way() {
    for cidr in ["10.9.0.2/24", "fd09::2/64"] {
        let mut hub = Hub::new(&Config::default(), &[cidr, cidr]);
        hub.run(3 * SECOND);
        let macs = [0, 1].map(|host| conflict(&hub, host).map(|found| found.mac));
        assert_eq!(macs, [Some(mac(1)), Some(mac(0))]);
    }
}

/// R4862-1, R5227-7.
#[test]
fn nothing_leaves_before_the_probes_and_everything_after() {
    let mut hub = settled("10.9.0.1/24");
    hub.hosts[0].listen(hub.now, "10.9.0.1:7".parse().expect("a literal"), 1).expect("a free port");
    hub.add(&Config::default(), "10.9.0.2/24");
    let now = hub.now;
    let remote: SocketAddr = "10.9.0.1:7".parse().expect("a literal");
    let id = hub.hosts[1].connect(now, remote, None, None).expect("a port");
    hub.run(199 * MILLISECOND);
    // Who asks for a tentative address gets no answer.
    hub.hear(1, &arp(Operation::Request, mac(0), [10, 9, 0, 1], [10, 9, 0, 2]));
    hub.run(Duration::ZERO);
    assert_eq!(hub.hosts[1].connected(id), Err(ConnectedError::WouldBlock));
    let said = hub.said(1);
    assert!(said.iter().all(|(_, what)| what.starts_with("probe")) && said.len() == 2, "{said:?}");
    hub.run(2 * MILLISECOND);
    assert_eq!(hub.hosts[1].connected(id), Ok(()));
}

/// R4862-3.
#[test]
fn an_open_from_an_address_that_is_lost_says_so() {
    let mut hub = settled("10.9.0.2/24");
    hub.add(&Config::default(), "10.9.0.2/24");
    let now = hub.now;
    let id = hub.hosts[1].connect(now, "10.9.0.1:7".parse().expect("a literal"), None, None).expect("a port");
    hub.run(SECOND);
    assert_eq!(hub.hosts[1].connected(id), Err(ConnectedError::Closed(CloseReason::AddressInUse)));
}

/// R5227-5, R5227-6.
#[test]
fn claims_to_an_address_in_use_are_counted_and_answered_once_in_ten_seconds() {
    let mut hub = settled("10.9.0.2/24");
    let claims = [Operation::Request, Operation::Reply].map(|operation| arp(operation, mac(STRANGER), [10, 9, 0, 2], [10, 9, 0, 2]));
    for second in 0..25 {
        hub.hear(0, &claims[second % 2]);
        hub.run(SECOND);
    }
    let said = hub.said(0);
    assert_eq!(words(&said), [3000, 13_000, 23_000].map(|at| (at, "announce 10.9.0.2 to all")));
    let stats = hub.hosts[0].stats();
    assert_eq!((stats.address_conflicts, stats.address_defences), (25, 3));
    assert_eq!(hub.hosts[0].take_address_conflict().map(|news| news.mac), Some(mac(STRANGER)));
    assert_eq!((conflict(&hub, 0), hub.hosts[0].addresses().len()), (None, 1), "it is kept");
    // Our own frame, thrown back by a switch, is no claim.
    hub.hear(0, &arp(Operation::Request, mac(0), [10, 9, 0, 2], [10, 9, 0, 2]));
    assert_eq!(hub.hosts[0].stats().address_conflicts, 25);
}

/// R5227-1.
#[test]
fn a_link_that_comes_up_again_is_asked_again() {
    let mut hub = settled("10.9.0.2/24");
    hub.add(&Config::default(), "10.9.0.2/24");
    hub.run(SECOND);
    assert!(conflict(&hub, 1).is_some());
    hub.unplugged.push(0);
    let mut down = link(mac(1));
    down.up = false;
    let now = hub.now;
    hub.hosts[1].set_link(now, Some(down));
    hub.run(SECOND);
    hub.said(1);
    let now = hub.now;
    hub.hosts[1].set_link(now, Some(link(mac(1))));
    hub.run(3 * SECOND);
    let said = hub.said(1);
    assert_eq!(
        said.iter().map(|(_, what)| what.split(' ').next().expect("a word")).collect::<Vec<_>>(),
        ["probe", "probe", "announce", "announce"]
    );
    assert_eq!((conflict(&hub, 1), hub.hosts[1].addresses().len()), (None, 1));
}

#[test]
fn a_wire_that_nobody_shares_is_not_probed() {
    let mut hub = Hub::new(&Config::default(), &[]);
    hub.add(&Config::default(), "10.9.0.2/24");
    let now = hub.now;
    let private = link(mac(0)).with_sharing(false);
    hub.hosts[0].set_link(now, Some(private));
    hub.hosts[0].add_address(now, "10.9.0.3/24".parse().expect("a literal"));
    assert_eq!(hub.hosts[0].detection("10.9.0.3".parse().expect("a literal")), Detection::Done);
}

#[test]
fn zero_probes_use_the_address_at_once() {
    let mut config = Config::default();
    config.address_probes = 0;
    let mut hub = Hub::new(&config, &["10.9.0.2/24"]);
    hub.run(5 * SECOND);
    let said = hub.said(0);
    assert_eq!(words(&said), [(0, "announce 10.9.0.2 to all"), (2000, "announce 10.9.0.2 to all")]);
}
