//! Every frame of a stack, in a pcapng file that Wireshark reads, with a comment for each state change and each drop.
//!
//! ```text
//!   PATH     | section header | interfaces: the link, loopback, notes | packet, comments | packet | ...      <= size bytes
//!   PATH.1   the file before, once PATH was full
//! ```
//!
//! Comments that belong to no frame, such as the end of TIME-WAIT, are on a packet of the interface `notes`: an Ethernet frame of a local
//! experimental type (IEEE 802) whose payload repeats them. An empty packet would say the same, but Wireshark calls it malformed.
//!
//! What lies in the file is whole after every call of [`Capture::write`], so that a killed program leaves one that can be read. The format is
//! draft-ietf-opsawg-pcapng, little-endian, times in nanoseconds. It must not know: sockets, devices, locks of the shard.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::clock::{Clock, wall_offset};
use crate::proto::Medium;
use crate::proto::trace::{Record, Side};

/// What to capture into.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    /// Bytes after which a file is full.
    pub(crate) size: u64,
}

/// A file that records are written to, and the records that are next.
#[derive(Debug)]
pub(crate) struct Capture {
    /// To be filled by the caller, and written by [`write`](Self::write).
    pub(crate) records: VecDeque<Record>,
    target: Target,
    /// None after an error: what comes is lost, and counted.
    file: Option<File>,
    /// What every file begins with.
    preamble: Vec<u8>,
    /// Bytes in the file.
    written: u64,
    /// Blocks on their way into the file.
    buffer: Vec<u8>,
    loopback: u32,
    /// Nanoseconds from the shard's clock to the Unix epoch's.
    offset: u64,
}

impl Capture {
    /// Creates the file, or empties it. `link` is the link's name and medium, if there is one.
    pub(crate) fn create(target: Target, link: Option<(&str, Medium)>, clock: &Clock) -> io::Result<Self> {
        let file = open(&target.path)?;
        let mut preamble = section_header();
        if let Some((name, medium)) = link {
            preamble.extend(interface(name, if matches!(medium, Medium::Ethernet(_)) { LINKTYPE_ETHERNET } else { LINKTYPE_RAW }));
        }
        preamble.extend(interface("loopback", LINKTYPE_RAW));
        preamble.extend(interface("notes", LINKTYPE_ETHERNET));
        let mut capture = Self {
            records: VecDeque::new(),
            target,
            file: Some(file),
            written: 0,
            buffer: preamble.clone(),
            preamble,
            loopback: u32::from(link.is_some()),
            offset: wall_offset(clock),
        };
        capture.flush()?;
        Ok(capture)
    }

    /// Writes the records, and answers how many could not be written. After an error nothing more is.
    pub(crate) fn write(&mut self) -> u64 {
        let mut unwritten = 0;
        while let Some(record) = self.records.pop_front() {
            unwritten += 1;
            if let Err(error) = self.append(&record) {
                self.give_up(&error);
            }
        }
        match self.flush() {
            Ok(()) if self.file.is_some() => unwritten = 0,
            Ok(()) => {}
            Err(error) => self.give_up(&error),
        }
        unwritten
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let interface = match record.side {
            Side::In | Side::Out => 0,
            Side::Loopback => self.loopback,
            Side::Nowhere => self.loopback + 1,
        };
        let block = packet(record, interface, self.offset + record.at.as_nanos());
        let filled = self.written + length(&self.buffer);
        if filled + length(&block) > self.target.size && filled > length(&self.preamble) {
            self.rotate()?;
        }
        self.buffer.extend(block);
        if self.buffer.len() >= BUFFER_LEN {
            self.flush()?;
        }
        Ok(())
    }

    /// What waits goes to the operating system in one call.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && !self.buffer.is_empty()
        {
            file.write_all(&self.buffer)?;
            self.written += length(&self.buffer);
        }
        self.buffer.clear();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        let mut previous = self.target.path.clone().into_os_string();
        previous.push(".1");
        std::fs::rename(&self.target.path, previous)?;
        self.file = Some(open(&self.target.path)?);
        self.written = 0;
        self.buffer.extend_from_slice(&self.preamble);
        Ok(())
    }

    fn give_up(&mut self, error: &io::Error) {
        if self.file.take().is_some() {
            tracing::warn!(path = %self.target.path.display(), %error, "the capture ends here");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::create(path).map_err(|error| {
        let message =
            format!("the capture file {} can't be created: {error}; name a file in a directory that may be written", path.display());
        io::Error::new(error.kind(), message)
    })
}

/// Section Header Block (§4.1), of unknown length.
fn section_header() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, SHB_USERAPPL, concat!("synfin ", env!("CARGO_PKG_VERSION")).as_bytes());
    block(SECTION_HEADER, body)
}

/// Interface Description Block (§4.2), without a limit on the length of packets.
fn interface(name: &str, link_type: u16) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(link_type.to_le_bytes());
    body.extend([0; 6]);
    option(&mut body, IF_NAME, name.as_bytes());
    option(&mut body, IF_TSRESOL, &[NANOSECONDS]);
    block(INTERFACE_DESCRIPTION, body)
}

/// Enhanced Packet Block (§4.3), a comment for each note.
fn packet(record: &Record, interface: u32, nanos: u64) -> Vec<u8> {
    let comments: Vec<String> = record.notes.iter().map(ToString::to_string).collect();
    let bytes = if record.side == Side::Nowhere { [&NOTES_HEADER, comments.join("\n").as_bytes()].concat() } else { record.to_vec() };
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut body = Vec::with_capacity(bytes.len() + 64);
    body.extend(interface.to_le_bytes());
    body.extend(&nanos.to_le_bytes()[4..]);
    body.extend(&nanos.to_le_bytes()[..4]);
    body.extend(len);
    body.extend(len);
    body.extend(bytes);
    pad(&mut body);
    comments.iter().for_each(|comment| option(&mut body, COMMENT, comment.as_bytes()));
    match record.side {
        Side::In => option(&mut body, EPB_FLAGS, &INBOUND.to_le_bytes()),
        Side::Out => option(&mut body, EPB_FLAGS, &OUTBOUND.to_le_bytes()),
        Side::Loopback | Side::Nowhere => {}
    }
    block(ENHANCED_PACKET, body)
}

/// A block around `body` (§3.1), whose options end here.
fn block(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.extend(END_OF_OPTIONS);
    let len = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    let mut block = Vec::with_capacity(body.len() + 12);
    block.extend(kind.to_le_bytes());
    block.extend(len);
    block.append(&mut body);
    block.extend(len);
    block
}

/// An option (§3.5); a value that is longer than one may be is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend(code.to_le_bytes());
    body.extend(len.to_le_bytes());
    body.extend(&value[..usize::from(len)]);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

/// Bytes of a full file if nobody says otherwise.
pub(crate) const SIZE_DEFAULT: u64 = 64 << 20;

/// Bytes after which a long batch is written in several calls.
const BUFFER_LEN: usize = 256 << 10;

/// Types of blocks (§11.1).
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Codes of options (§3.5.1, §4.1, §4.2, §4.3).
const COMMENT: u16 = 1;
const EPB_FLAGS: u16 = 2;
const IF_NAME: u16 = 2;
const SHB_USERAPPL: u16 = 4;
const IF_TSRESOL: u16 = 9;
const END_OF_OPTIONS: [u8; 4] = [0; 4];

/// if_tsresol: a power of ten, negated.
const NANOSECONDS: u8 = 9;

/// epb_flags, bits 0 and 1.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// From nobody to nobody, of the first local experimental EtherType (IEEE 802).
const NOTES_HEADER: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// Link types (tcpdump.org): a frame begins with an Ethernet header, or with an IP header of either version.
const LINKTYPE_ETHERNET: u16 = 1;
const LINKTYPE_RAW: u16 = 101;
