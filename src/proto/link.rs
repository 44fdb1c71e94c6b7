//! What the core asks of a link: facts about it, frames in, frames out.
//!
//! ```text
//!                      one header (<= 128 B)         payload views (<= 16), shared with the send buffer
//!  TxFrame   | Ethernet | IP | TCP with options |  [ Bytes ][ Bytes ][ Bytes ]
//!                       ^ network_offset  ^ checksum field: pseudo-header sum only
//!                            ^ transport_offset
//! ```
//!
//! A frame may be a super-packet: one header before up to 64 KiB of payload, to be cut into segments of `segment_size` bytes by the link, the
//! device, or [`cut`](super::cut::cut). The checksum of an outgoing TCP frame is always partial; the device's edge completes it where the
//! link can't. The layer that owns the descriptor is the device; nothing here does I/O.

use bytes::Bytes;

/// How much header a frame can carry, in bytes: Ethernet 14, IPv6 40, TCP 60.
pub const FRAME_HEADER_LEN_MAX: usize = 128;

/// How many views of payload a frame can carry.
pub const FRAME_VIEWS_MAX: usize = 16;

/// The longest frame that a link takes at once, Ethernet header included: one byte more, and Linux cuts it in software at an eighth of the speed.
pub const FRAME_LEN_MAX: usize = 65_535;

/// Room for the longest frame that a link hands over, in bytes.
pub const RECEIVE_ROOM: usize = 69_632;

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for group addresses, broadcast included.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An Ethernet header; neighbours are found by ARP and NDP.
    Ethernet(MacAddress),
    /// An IP header (TUN, raw IP).
    Ip,
}

/// Facts about a link. They may change while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// What a frame begins with.
    pub medium: Medium,
    /// The largest IP packet in bytes, headers included, after cutting.
    pub mtu: u16,
    /// The link cuts IPv4 super-packets.
    pub segments_v4: bool,
    /// The link cuts IPv6 super-packets.
    pub segments_v6: bool,
    /// Inbound [`Checksum::Partial`] may be believed: the frame never left this machine.
    pub trusts_partial: bool,
    /// Other hosts may be on the link: addresses are probed before they are used, and announced (RFC 5227, RFC 4862 §5.4).
    pub shared: bool,
    /// The link carries frames at present.
    pub up: bool,
    /// The link is down and will never be up again: its interface was removed, or the other end of its wire dropped. Everything that goes over
    /// it ends.
    pub gone: bool,
}

impl Link {
    /// A link that is up, cuts nothing, trusts nothing, and has no hosts that are not known of.
    #[must_use]
    pub const fn new(medium: Medium, mtu: u16) -> Self {
        Self { medium, mtu, segments_v4: false, segments_v6: false, trusts_partial: false, shared: false, up: true, gone: false }
    }

    /// The same link, cutting super-packets of both families or of none.
    #[must_use]
    pub const fn with_segmentation(mut self, on: bool) -> Self {
        self.segments_v4 = on;
        self.segments_v6 = on;
        self
    }

    /// The same link, gone for good.
    #[must_use]
    pub const fn lost(mut self) -> Self {
        self.up = false;
        self.gone = true;
        self
    }

    /// The same link, believing partial checksums or not.
    #[must_use]
    pub const fn with_trusted_partial(mut self, on: bool) -> Self {
        self.trusts_partial = on;
        self
    }

    /// The same link, on which other hosts may be or not.
    #[must_use]
    pub const fn with_sharing(mut self, on: bool) -> Self {
        self.shared = on;
        self
    }
}

/// What is known about the TCP checksum of an incoming frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It holds only the pseudo-header sum; the payload never left this machine.
    Partial,
    /// Nothing: it is verified.
    Unknown,
    /// The hardware has verified it.
    Verified,
}

/// The bytes of an incoming frame.
#[derive(Debug)]
pub enum FrameBytes<'a> {
    /// Borrowed: what is kept of the payload is copied.
    Borrowed(&'a [u8]),
    /// Owned, in a buffer of [`RECEIVE_ROOM`] bytes: a payload of at least half of it is kept without a copy.
    Owned(Bytes),
}

impl FrameBytes<'_> {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// An incoming frame: Ethernet or bare IP, by the link's medium.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The whole frame.
    pub bytes: FrameBytes<'a>,
    /// What is known of its TCP checksum.
    pub checksum: Checksum,
    /// Payload bytes of each segment in a super-packet; zero for a single segment.
    pub segment_size: u16,
}

impl<'a> Frame<'a> {
    /// A single segment of which nothing is known.
    #[must_use]
    pub const fn borrowed(bytes: &'a [u8]) -> Self {
        Self { bytes: FrameBytes::Borrowed(bytes), checksum: Checksum::Unknown, segment_size: 0 }
    }

    /// A single segment of which nothing is known, in a buffer of its own.
    #[must_use]
    pub const fn owned(bytes: Bytes) -> Self {
        Self { bytes: FrameBytes::Owned(bytes), checksum: Checksum::Unknown, segment_size: 0 }
    }
}

/// An outgoing frame: a header, views of payload, and what is still to be done to it.
#[derive(Clone)]
pub struct TxFrame {
    header: [u8; FRAME_HEADER_LEN_MAX],
    header_len: u8,
    views: [Bytes; FRAME_VIEWS_MAX],
    views_len: u8,
    payload_len: u32,
    /// Where the IP header begins, in bytes from the start; for ARP, where the ARP packet begins.
    pub network_offset: u8,
    /// Where the TCP header begins, in bytes from the start: its checksum is partial. Zero when nothing is to be completed.
    pub transport_offset: u8,
    /// Payload bytes of each segment that the frame is to be cut into; zero for a single segment.
    pub segment_size: u16,
}

impl TxFrame {
    /// An empty frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            header: [0; FRAME_HEADER_LEN_MAX],
            header_len: 0,
            views: [const { Bytes::new() }; FRAME_VIEWS_MAX],
            views_len: 0,
            payload_len: 0,
            network_offset: 0,
            transport_offset: 0,
            segment_size: 0,
        }
    }

    /// The header bytes.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_len)]
    }

    /// The header bytes, to be changed in place.
    pub fn header_mut(&mut self) -> &mut [u8] {
        &mut self.header[..usize::from(self.header_len)]
    }

    /// Appends header bytes.
    ///
    /// # Panics
    /// When the header outgrows [`FRAME_HEADER_LEN_MAX`]: every header that the engine writes has a fixed upper length below it.
    pub fn put_header(&mut self, bytes: &[u8]) {
        let start = usize::from(self.header_len);
        self.header[start..start + bytes.len()].copy_from_slice(bytes);
        self.header_len += u8::try_from(bytes.len()).expect("copied into 128 bytes above");
    }

    /// Appends a view of payload; gives it back when [`FRAME_VIEWS_MAX`] are there already.
    ///
    /// # Errors
    /// The view itself.
    pub fn put_view(&mut self, view: Bytes) -> Result<(), Bytes> {
        let Some(slot) = self.views.get_mut(usize::from(self.views_len)) else { return Err(view) };
        let Some(payload_len) = u32::try_from(view.len()).ok().and_then(|len| self.payload_len.checked_add(len)) else { return Err(view) };
        self.payload_len = payload_len;
        *slot = view;
        self.views_len += 1;
        Ok(())
    }

    /// The views of payload, in order.
    #[must_use]
    pub fn views(&self) -> &[Bytes] {
        &self.views[..usize::from(self.views_len)]
    }

    /// Takes the views out.
    pub fn take_views(&mut self) -> impl Iterator<Item = Bytes> {
        let len = usize::from(std::mem::take(&mut self.views_len));
        self.payload_len = 0;
        self.views[..len].iter_mut().map(std::mem::take)
    }

    /// Payload bytes.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.payload_len as usize
    }

    /// The whole frame's length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.header_len) + self.payload_len()
    }

    /// True for a frame without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame as contiguous bytes: for tests, captures and devices that can't gather.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(self.header());
        for view in self.views() {
            bytes.extend_from_slice(view);
        }
        bytes
    }
}

impl Default for TxFrame {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TxFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxFrame")
            .field("header_len", &self.header_len)
            .field("payload_len", &self.payload_len)
            .field("segment_size", &self.segment_size)
            .finish_non_exhaustive()
    }
}

/// Where outgoing frames go: an egress queue, or a test's vector.
pub trait Sink {
    /// True if one more frame can be taken. [`Engine::transmit`](super::Engine::transmit) asks before it builds a frame.
    fn has_room(&self) -> bool;

    /// Takes a frame. Called only after [`has_room`](Self::has_room) answered true.
    fn push(&mut self, frame: TxFrame);
}

/// An unbounded sink.
impl Sink for Vec<TxFrame> {
    fn has_room(&self) -> bool {
        true
    }

    fn push(&mut self, frame: TxFrame) {
        Self::push(self, frame);
    }
}
