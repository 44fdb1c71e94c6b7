//! Multicast listener discovery for the groups of neighbour discovery (RFC 3810, RFC 2710).

use std::time::Duration;

use synfin::proto::stats::DropReason;
use synfin::proto::wire::{Address, Sum};
use synfin::proto::{Config, MacAddress};

use crate::hub::{Hub, mac};

const SECOND: Duration = Duration::from_secs(1);

/// A query of a router for `group`, to all nodes: `tail` bytes follow the 24 of version one.
fn query_within(millis: u16, source: &str, group: &str, hop_limit: u8, tail: usize) -> Vec<u8> {
    let [source, group, all] = [source, group, "ff02::1"].map(|text| Address::new(text.parse().expect("a literal")));
    let [high, low] = millis.to_be_bytes();
    let mut message = [&[130, 0, 0, 0, high, low, 0, 0], &group.octets()[..], &vec![0; tail]].concat();
    let len = u32::try_from(message.len()).expect("short");
    let sum = (Sum::pseudo_header(source, all, 58, len) + Sum::of(&message)).complete();
    message[2..4].copy_from_slice(&sum);
    let length = u8::try_from(message.len() + 8).expect("short");
    let ends = [MacAddress([0x33, 0x33, 0, 0, 0, 1]).0, mac(9).0].concat();
    let header = [&[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 0, hop_limit], &source.octets()[..], &all.octets()].concat();
    [ends, header, vec![58, 0, 5, 2, 0, 0, 1, 0], message].concat()
}

fn query(source: &str, group: &str, hop_limit: u8, tail: usize) -> Vec<u8> {
    query_within(1000, source, group, hop_limit, tail)
}

fn settled(addresses: &str) -> Hub {
    let mut hub = Hub::new(&Config::default(), &[addresses]);
    hub.run(5 * SECOND);
    hub.reported(0);
    hub
}

/// R3810-2.
#[test]
fn groups_are_joined_before_the_first_probe_and_reported_twice() {
    let mut hub = Hub::new(&Config::default(), &["10.9.0.2/24 fe80::2/64 fd09::2/64 fd09::3/64"]);
    hub.run(5 * SECOND);
    let reports = hub.reported(0);
    let texts: Vec<_> = reports.iter().map(|(_, text)| text.as_str()).collect();
    let groups = "join ff02::1:ff00:2 ff02::1:ff00:3";
    assert_eq!((texts[0], reports[0].0), (format!("report :: {groups}").as_str(), 0), "nothing is assigned yet");
    assert!(texts[1].ends_with(groups) && texts.len() == 2 && reports[1].0 <= 1000, "{reports:?}");
    assert_eq!(hub.hosts[0].stats().listener_reports, 2);
    let mut quiet = Hub::new(&Config::default(), &["10.9.0.2/24"]);
    quiet.run(5 * SECOND);
    assert_eq!(quiet.reported(0), [], "IPv4 alone has no such groups");
}

/// R3810-3, R3810-5.
#[test]
fn a_query_is_answered_once_within_its_time_and_in_its_version() {
    for (tail, expected) in [(4, "report fe80::2 in ff02::1:ff00:2"), (0, "report fe80::2 in one ff02::1:ff00:2")] {
        for group in ["::", "ff02::1:ff00:2"] {
            let mut hub = settled("fe80::2/64");
            (0..100).for_each(|_| hub.hear(0, &query("fe80::1", group, 1, tail)));
            hub.run(SECOND);
            let reports: Vec<_> = hub.reported(0).into_iter().map(|(_, text)| text).collect();
            assert_eq!(reports, [expected]);
        }
    }
}

#[test]
fn a_flood_of_queries_draws_one_report_a_second() {
    for tail in [0, 4] {
        let mut hub = settled("fe80::2/64");
        for _ in 0..5000 {
            hub.hear(0, &query_within(0, "fe80::1", "::", 1, tail));
            hub.run(Duration::from_millis(1));
        }
        assert_eq!(hub.reported(0).len(), 5);
    }
}

/// R3810-4.
#[test]
fn a_query_for_others_or_from_beyond_the_link_is_not_answered() {
    for (frame, drops) in [
        (query("fe80::1", "ff02::1:ff00:9", 1, 4), 0),
        (query("fe80::1", "::", 2, 4), 1),
        (query("fd09::1", "::", 1, 4), 1),
        (query("fe80::1", "::", 1, 1), 1),
    ] {
        let mut hub = settled("fe80::2/64");
        hub.hear(0, &frame);
        hub.run(5 * SECOND);
        assert_eq!((hub.reported(0).len(), hub.hosts[0].stats().drops.of(DropReason::BadNdp)), (0, drops));
    }
}
