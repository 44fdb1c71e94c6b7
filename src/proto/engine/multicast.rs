//! The groups in which neighbours ask for our IPv6 addresses: reported when we join them, and when a router asks (RFC 3810 §6, RFC 2710 §4).
//!
//! Groups follow from the addresses, so that none are kept here, only when to report next: twice within a second of joining, and once after
//! each query, which is answered at a random time and in the version that it came in. Leaving is not reported: routers forget who is silent.

use std::time::Duration;

use super::Engine;
use super::icmp::{Ends, report_frame};
use super::reply::Reply;
use crate::proto::Instant;
use crate::proto::link::Medium;
use crate::proto::random::KeyedHash;
use crate::proto::wire::Address;
use crate::proto::wire::ip::is_link_local;
use crate::proto::wire::mld::{Listening, Query, RECORDS_MAX, Report, Version};
use crate::proto::wire::ndp::{multicast_mac, solicited_node};

/// When to report.
#[derive(Debug)]
pub(super) struct Reports {
    chance: KeyedHash,
    /// Reports of the last change that are to be sent, and when the next is.
    changes: Option<(u32, Instant)>,
    answer: Option<(Version, Instant)>,
    answered_at: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Change,
    Answer(Version),
}

impl Reports {
    /// Nothing to report. `chance` decides when within the allowed time.
    pub(super) const fn new(chance: KeyedHash) -> Self {
        Self { chance, changes: None, answer: None, answered_at: None }
    }

    /// When something is to be reported.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let changes = self.changes.map(|(_, at)| at);
        changes.into_iter().chain(self.answer.map(|(_, at)| at)).min()
    }

    /// Groups were joined.
    const fn on_change(&mut self, now: Instant) {
        self.changes = Some((ROBUSTNESS, now));
    }

    /// A router asks. One answer is enough for all who have asked before it is due.
    fn on_query(&mut self, now: Instant, query: &Query) {
        let at = now + self.within(now, query.max_response.min(RESPONSE_MAX));
        let at = self.answered_at.map_or(at, |last| at.max(last + ANSWER_INTERVAL));
        self.answer = Some((query.version, self.answer.map_or(at, |(_, earlier)| earlier.min(at))));
    }

    fn take_due(&mut self, now: Instant) -> Option<Due> {
        if let Some((left, at)) = self.changes
            && at <= now
        {
            let next = now + self.within(now, CHANGE_INTERVAL);
            self.changes = (left > 1).then_some((left - 1, next));
            return Some(Due::Change);
        }
        let (version, _) = self.answer.take_if(|(_, at)| *at <= now)?;
        self.answered_at = Some(now);
        Some(Due::Answer(version))
    }

    /// A random time up to `max`, whole milliseconds.
    fn within(&self, now: Instant, max: Duration) -> Duration {
        let millis = u64::try_from(max.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_millis(self.chance.hash(&[&(now - Instant::START).as_nanos().to_be_bytes()]) % millis)
    }
}

impl Engine {
    /// Reports the groups of our addresses, on a link that others share.
    pub(super) fn join_groups(&mut self) {
        if !self.groups().is_empty() {
            self.reports.on_change(self.now);
            self.advance_reports();
        }
    }

    /// A router asks for listeners.
    pub(super) fn on_listener_query(&mut self, query: &Query) {
        let is_ours = query.group.is_none_or(|group| self.groups().contains(&group));
        if is_ours && self.is_probing_link() && !self.groups().is_empty() {
            self.reports.on_query(self.now, query);
        }
    }

    /// Sends the reports that are due.
    pub(super) fn advance_reports(&mut self) {
        while let Some(due) = self.reports.take_due(self.now) {
            let groups = self.groups();
            let source = self.reporting_address();
            let reports: Vec<Report> = match due {
                Due::Answer(Version::One) => groups.iter().map(|group| Report::of_group(source, *group)).collect(),
                Due::Answer(Version::Two) => {
                    groups.chunks(RECORDS_MAX).map(|part| Report::of_groups(source, part, Listening::Still)).collect()
                }
                Due::Change => groups.chunks(RECORDS_MAX).map(|part| Report::of_groups(source, part, Listening::Now)).collect(),
            };
            let Some(Medium::Ethernet(own)) = self.link.map(|link| link.medium) else { return };
            for report in reports {
                let ends = Ends { source: own, destination: multicast_mac(report.header.destination) };
                self.stats.listener_reports += 1;
                self.replies.push(Reply::Frame(Box::new(report_frame(report, ends))), &mut self.stats);
            }
        }
    }

    /// The solicited-node groups of our addresses, each once.
    fn groups(&self) -> Vec<Address> {
        let own = self.routes.addresses().iter().map(|cidr| Address::new(cidr.address()));
        let mut groups: Vec<Address> = own.filter(|address| !address.is_v4()).map(solicited_node).collect();
        groups.sort_unstable_by_key(|group| group.octets());
        groups.dedup();
        groups
    }

    /// Reports come from a link-local address, or from none (RFC 3810 §5.2.13).
    fn reporting_address(&self) -> Address {
        let mut own = self.routes.addresses().iter().map(|cidr| Address::new(cidr.address()));
        own.find(|address| !address.is_v4() && is_link_local(*address) && self.is_assigned(*address)).unwrap_or(Address::ANY)
    }
}

/// How often a change is reported: RFC 3810 §9.1's Robustness Variable.
const ROBUSTNESS: u32 = 2;

/// Within which time after the first the next report of a change comes: RFC 3810 §9.11's Unsolicited Report Interval.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two answers, whatever the queries allow: no querier asks more often, by RFC 3810 §9.8's Last Listener Query Interval.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);

/// An answer comes no later, whatever the query allows: RFC 3810 §9.2's Query Interval.
const RESPONSE_MAX: Duration = Duration::from_secs(125);
