//! TCP options (RFC 9293 §3.2): a total parser and the layouts that real stacks send.
//!
//! ```text
//!  kind  length  option                      RFC
//!     0       -  end of list                 9293
//!     1       -  no operation                9293
//!     2       4  maximum segment size        9293
//!     3       3  window scale                7323
//!     4       2  SACK permitted              2018
//!     5   8n+2   SACK                        2018
//!     8      10  timestamps                  7323
//! ```
//!
//! A malformed option ends the parsing; what stood before it counts (MUST-7). Unknown options are skipped (MUST-6).

use super::SeqNum;

/// The most bytes that options can take in a TCP header.
pub const OPTIONS_LEN_MAX: usize = 40;

/// The largest window scale (RFC 7323 §2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;

/// The timestamps option (RFC 7323 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the echo of what the other side sent.
    pub echo: u32,
}

/// One SACK block: `[left, right)` (RFC 2018 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// The first byte held.
    pub left: SeqNum,
    /// The byte after the last one held.
    pub right: SeqNum,
}

/// Up to four SACK blocks, most recent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [SackBlock; Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// The most blocks that fit into the options.
    pub const MAX: usize = 4;

    /// Appends a block; false when there is no room.
    pub fn push(&mut self, block: SackBlock) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = block;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// Keeps the first `len` blocks.
    pub fn truncate(&mut self, len: usize) {
        if let Ok(len) = u8::try_from(len) {
            self.len = self.len.min(len);
        }
    }

    /// The blocks.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.len)]
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The options of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size in bytes, without headers.
    pub mss: Option<u16>,
    /// Shift count of the window field, as sent: it may be above 14.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// True if parsing ended at a malformed option.
    pub malformed: bool,
}

/// In which order options are laid out on the wire; a peer can tell stacks apart by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionLayout {
    /// FreeBSD's: `mss,nop,wscale,sackOK,TS` in a SYN.
    FreeBsd,
    /// Linux's: `mss,sackOK,TS,nop,wscale` in a SYN, without timestamps `mss,nop,nop,sackOK,nop,wscale`.
    #[default]
    Linux,
}

impl Options {
    /// Parses the option bytes of a header, whatever they are.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        if let [1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3] = *bytes {
            // RFC 7323 appendix A's layout: nearly every segment of an established connection.
            let timestamps = Timestamps { value: u32::from_be_bytes([v0, v1, v2, v3]), echo: u32::from_be_bytes([e0, e1, e2, e3]) };
            return Self { timestamps: Some(timestamps), ..Self::default() };
        }
        let mut options = Self::default();
        let mut rest = bytes;
        loop {
            rest = match *rest {
                [] | [0, ..] => return options,
                [1, ref rest @ ..] => rest,
                [kind, length, ..] => {
                    let Some((option, rest)) = rest.split_at_checked(usize::from(length)).filter(|_| length >= 2) else {
                        options.malformed = true;
                        return options;
                    };
                    if !options.take(kind, &option[2..]) {
                        options.malformed = true;
                        return options;
                    }
                    rest
                }
                [_] => {
                    options.malformed = true;
                    return options;
                }
            };
        }
    }

    /// Takes one option; false if its length does not fit its kind.
    fn take(&mut self, kind: u8, body: &[u8]) -> bool {
        match (kind, body) {
            (2, &[high, low]) => self.mss = Some(u16::from_be_bytes([high, low])),
            (3, &[shift]) => self.window_scale = Some(shift),
            (4, &[]) => self.sack_permitted = true,
            (5, blocks) if !blocks.is_empty() && blocks.len() % 8 == 0 => {
                for block in blocks.chunks_exact(8) {
                    let left = SeqNum(u32::from_be_bytes([block[0], block[1], block[2], block[3]]));
                    let right = SeqNum(u32::from_be_bytes([block[4], block[5], block[6], block[7]]));
                    self.sack.push(SackBlock { left, right });
                }
            }
            (8, &[v0, v1, v2, v3, e0, e1, e2, e3]) => {
                self.timestamps =
                    Some(Timestamps { value: u32::from_be_bytes([v0, v1, v2, v3]), echo: u32::from_be_bytes([e0, e1, e2, e3]) });
            }
            (2..=5 | 8, _) => return false,
            _ => {}
        }
        true
    }

    /// Writes the options, padded to a multiple of four bytes, and returns their length. SACK blocks that do not fit are left out.
    pub fn emit(&self, layout: OptionLayout, out: &mut [u8; OPTIONS_LEN_MAX]) -> usize {
        let mut writer = Writer { out, len: 0 };
        let timestamps = self.timestamps.map(|timestamps| {
            let mut option = [0; 10];
            option[..2].copy_from_slice(&[8, 10]);
            option[2..6].copy_from_slice(&timestamps.value.to_be_bytes());
            option[6..].copy_from_slice(&timestamps.echo.to_be_bytes());
            option
        });
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            writer.put(&[2, 4, high, low]);
        }
        if layout == OptionLayout::FreeBsd
            && let Some(shift) = self.window_scale
        {
            writer.put(&[1, 3, 3, shift]);
        }
        match (self.sack_permitted, timestamps) {
            (true, Some(timestamps)) => {
                writer.put(&[4, 2]);
                writer.put(&timestamps);
            }
            (true, None) => writer.put(&[1, 1, 4, 2]),
            (false, Some(timestamps)) => {
                writer.put(&[1, 1]);
                writer.put(&timestamps);
            }
            (false, None) => {}
        }
        if layout == OptionLayout::Linux
            && let Some(shift) = self.window_scale
        {
            writer.put(&[1, 3, 3, shift]);
        }
        self.emit_sack(&mut writer);
        writer.len
    }

    fn emit_sack(&self, writer: &mut Writer<'_>) {
        let room = (OPTIONS_LEN_MAX - writer.len).saturating_sub(4) / 8;
        let blocks = &self.sack.as_slice()[..self.sack.as_slice().len().min(room)];
        let Some(length) = u8::try_from(blocks.len() * 8 + 2).ok().filter(|_| !blocks.is_empty()) else { return };
        writer.put(&[1, 1, 5, length]);
        for block in blocks {
            writer.put(&block.left.0.to_be_bytes());
            writer.put(&block.right.0.to_be_bytes());
        }
    }
}

struct Writer<'a> {
    out: &'a mut [u8; OPTIONS_LEN_MAX],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(options: Options, layout: OptionLayout) -> Vec<u8> {
        let mut out = [0; OPTIONS_LEN_MAX];
        let len = options.emit(layout, &mut out);
        out[..len].to_vec()
    }

    fn syn() -> Options {
        Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 1, echo: 0 }),
            ..Options::default()
        }
    }

    #[test]
    fn a_syn_looks_like_linux() {
        assert_eq!(emitted(syn(), OptionLayout::Linux), [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
        let plain = Options { timestamps: None, ..syn() };
        assert_eq!(emitted(plain, OptionLayout::Linux), [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
    }

    #[test]
    fn a_syn_looks_like_freebsd() {
        assert_eq!(emitted(syn(), OptionLayout::FreeBsd), [2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn malformed_options_end_the_list_and_keep_what_came_before() {
        for tail in [&[2, 0][..], &[2, 1], &[2, 3, 1], &[2, 4, 5], &[254, 0], &[5, 9, 0, 0, 0, 0, 0, 0, 0], &[8], &[3, 4, 1, 1]] {
            let bytes = [&[2, 4, 2, 24, 1][..], tail].concat();
            let options = Options::parse(&bytes);
            assert_eq!(options.mss, Some(536), "{tail:?}");
            assert!(options.malformed, "{tail:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_parse(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..=40)) {
            let _ = Options::parse(&bytes);
        }

        #[test]
        fn parse_inverts_emit(
            mss in proptest::option::of(proptest::num::u16::ANY),
            window_scale in proptest::option::of(0u8..=14),
            sack_permitted in proptest::bool::ANY,
            timestamps in proptest::option::of((proptest::num::u32::ANY, proptest::num::u32::ANY)),
            blocks in proptest::collection::vec((proptest::num::u32::ANY, proptest::num::u32::ANY), 0..=1),
            freebsd in proptest::bool::ANY,
        ) {
            let mut options = Options { mss, window_scale, sack_permitted, ..Options::default() };
            options.timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
            for (left, right) in blocks {
                options.sack.push(SackBlock { left: SeqNum(left), right: SeqNum(right) });
            }
            let layout = if freebsd { OptionLayout::FreeBsd } else { OptionLayout::Linux };
            proptest::prop_assert_eq!(Options::parse(&emitted(options, layout)), options);
        }
    }
}
