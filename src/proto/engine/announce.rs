//! What the engine does about its own addresses: frames that ask, announce and defend, and what follows for routes and sockets.
//!
//! When and whether is decided by [`Addresses`](super::address::Addresses).

use std::net::IpAddr;

use super::Engine;
use super::address::{AddressConflict, Claimed, Detection, Due, Standing};
use super::icmp::{neighbor_advertisement_frame, solicitation_frame};
use super::reply::Reply;
use super::route::{Addition, Cidr};
use crate::proto::link::{Link, MacAddress, Medium};
use crate::proto::wire::Address;

impl Engine {
    /// How far duplicate-address detection has come with the addresses that `local` stands for: itself, every IPv4 address for `0.0.0.0`, or
    /// all for `::`.
    ///
    /// On a link that is [shared](Link::shared), an address is asked for before it is used: [`Config::address_probes`](super::Config) times,
    /// [`Config::address_probe_interval`](super::Config) apart (RFC 5227 §2.1, RFC 4862 §5.4). Sockets may be opened meanwhile; what they
    /// have to send waits.
    pub fn detection(&self, local: IpAddr) -> Detection {
        self.own.detection(local)
    }

    /// An address of ours that turned out to be another host's, if there is one. It is no longer used; a link that comes up again is asked
    /// again.
    #[must_use]
    pub fn duplicate_address(&self) -> Option<AddressConflict> {
        self.own.duplicate()
    }

    /// The last time another host used an address of ours, whether that was lost or is kept, since the last call.
    pub const fn take_address_conflict(&mut self) -> Option<AddressConflict> {
        self.own.take_news()
    }

    /// The link asks for it: every address is probed and announced, those that were lost included.
    pub(super) fn begin_detection(&mut self) {
        for cidr in self.own.probe_all(self.now) {
            let _ = self.routes.add(cidr);
        }
        self.join_groups();
        self.advance_addresses();
    }

    /// An address was added.
    pub(super) fn introduce(&mut self, cidr: Cidr, addition: Addition) {
        let address = Address::new(cidr.address());
        self.own.add(cidr);
        if addition == Addition::New && self.is_probing_link() {
            if !address.is_v4() {
                self.join_groups();
            }
            self.own.probe(self.now, address);
            self.advance_addresses();
        } else {
            self.announce(address);
        }
    }

    /// Runs the timers of detection and announcement.
    pub(super) fn advance_addresses(&mut self) {
        while let Some(due) = self.own.take_due(self.now) {
            match due {
                Due::Probe(address) => self.probe(address),
                Due::Announce(address) => self.announce(address),
                Due::Assign(address) => {
                    self.announce(address);
                    self.refresh_ways();
                }
            }
        }
    }

    /// Another host, at `mac`, says that it has our `address`, or asks for it as one does before taking it.
    pub(super) fn on_address_claim(&mut self, address: Address, mac: MacAddress) {
        match self.link.map(|link| (link, link.medium)) {
            Some((_, Medium::Ethernet(own))) if mac == own => return,
            Some((link, _)) if !link.shared => {
                self.stats.address_conflicts += 1;
                return;
            }
            _ => {}
        }
        self.stats.address_conflicts += 1;
        match self.own.on_claim(self.now, address, mac) {
            Claimed::Ignored | Claimed::Kept => {}
            Claimed::Lost => {
                self.routes.remove(address);
                self.refresh_ways();
            }
            Claimed::Defended => {
                self.stats.address_defences += 1;
                self.announce(address);
            }
        }
    }

    /// True if `link` asks for a detection when it replaces the present one: it came up, or is another one.
    pub(super) fn is_news(&self, link: Option<&Link>) -> bool {
        let was = self.link.filter(is_probed);
        link.is_some_and(is_probed) && was.map(|was| was.medium) != link.map(|link| link.medium)
    }

    /// True if the link is one on which addresses are probed.
    pub(super) fn is_probing_link(&self) -> bool {
        self.link.is_some_and(|link| is_probed(&link))
    }

    /// True if packets from and to `address` may pass.
    pub(super) fn is_assigned(&self, address: Address) -> bool {
        !self.own.restricts() || self.own.standing(address) == Standing::Assigned
    }

    /// The address to ask a neighbour from: one that is assigned, or none.
    pub(super) fn asking_address(&self, target: Address) -> Option<Address> {
        let best = self.routes.source_for(target).filter(|address| self.is_assigned(*address));
        let mut others = self.routes.addresses().iter().map(|cidr| Address::new(cidr.address()));
        best.or_else(|| others.find(|address| address.is_v4() == target.is_v4() && self.is_assigned(*address)))
    }

    fn probe(&mut self, address: Address) {
        let Some(Medium::Ethernet(own)) = self.link.map(|link| link.medium) else { return };
        let frame = solicitation_frame(own, Address::ANY, address, None);
        self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
    }

    /// Our address is new on the link: neighbours that knew another owner learn of it (RFC 5227 §3, RFC 4861 §7.2.6).
    fn announce(&mut self, address: Address) {
        let Some(Medium::Ethernet(own)) = self.link.map(|link| link.medium) else { return };
        let frame = if address.is_v4() {
            solicitation_frame(own, address, address, None)
        } else {
            neighbor_advertisement_frame(own, address, Address::ANY, MacAddress::BROADCAST)
        };
        self.replies.push(Reply::Frame(Box::new(frame)), &mut self.stats);
    }
}

/// True for a link on which another host could have our addresses, and be asked.
const fn is_probed(link: &Link) -> bool {
    link.shared && link.up && matches!(link.medium, Medium::Ethernet(_))
}
