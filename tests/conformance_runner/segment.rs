//! A segment as a line of a transcript. Numbers count from each side's SYN. A sequence number left out is the sender's next one; a window left
//! out is the peer's last one, or the one that leaves our right edge where it stands.
//!
//! ```text
//!   data 1:101 fin ack 1 push win 500 mss 1460 wscale 7 sackok ts 1:100 sack 201:301
//! ```

use std::fmt::Write as _;

use synfin::proto::wire::Flags;

/// A segment in a script's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) flags: Flags,
    /// Counted from the sender's SYN; none stands for the next number that it has not used.
    pub(crate) seq: Option<i64>,
    pub(crate) len: u32,
    /// Counted from the receiver's SYN; none without the ACK flag.
    pub(crate) ack: Option<i64>,
    /// As on the wire, not scaled.
    pub(crate) window: Option<u16>,
    pub(crate) urgent: u16,
    pub(crate) options: OptionWords,
    pub(crate) route: Route,
    pub(crate) payload: Payload,
}

/// The options of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OptionWords {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    /// Our values count from one at our first; the peer's are as on the wire.
    pub(crate) timestamps: Option<(i64, i64)>,
    pub(crate) sack: Vec<(i64, i64)>,
    /// Option bytes in place of all of the above.
    pub(crate) raw: Option<Vec<u8>>,
}

/// Between which ports a segment travels, where they are not the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) our_port: Option<u16>,
    pub(crate) peer_port: Option<u16>,
    /// A new connection on the same ports: numbers count from this SYN on.
    pub(crate) fresh: bool,
}

/// What the text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Each byte tells its place in the stream.
    #[default]
    Stream,
    /// The same byte over and over.
    Fill(u8),
}

impl Payload {
    /// `len` bytes that stand at `offset` of the stream.
    pub(crate) fn bytes(self, offset: i64, len: usize) -> Vec<u8> {
        match self {
            Self::Stream => (offset..).take(len).map(|at| (at.rem_euclid(251)) as u8).collect(),
            Self::Fill(byte) => vec![byte; len],
        }
    }
}

/// Reads the words of a segment.
pub(crate) fn parse(words: &[&str]) -> Result<Words, String> {
    let mut segment = Words::default();
    let mut rest = words;
    while let [word, tail @ ..] = rest {
        rest = parse_word(&mut segment, word, tail)?;
    }
    if segment.route.fresh && !segment.flags.has(Flags::SYN) {
        return Err("only a SYN is fresh".to_owned());
    }
    Ok(segment)
}

fn parse_word<'a>(segment: &mut Words, word: &str, rest: &'a [&'a str]) -> Result<&'a [&'a str], String> {
    let flag = |name| FLAGS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag);
    if let Some(flag) = flag(word) {
        segment.flags |= flag;
        if flag == Flags::PSH || flag == Flags::ECE || flag == Flags::CWR {
            return Ok(rest);
        }
        let Some(number) = rest.first().and_then(|next| next.parse::<i64>().ok()) else { return Ok(rest) };
        match flag {
            Flags::ACK => segment.ack = Some(number),
            Flags::URG => segment.urgent = number_of(rest[0])?,
            _ => segment.seq = Some(number),
        }
        return Ok(&rest[1..]);
    }
    match word {
        "flags" if rest.first() == Some(&"none") => return Ok(&rest[1..]),
        "fresh" => segment.route.fresh = true,
        "sackok" => segment.options.sack_permitted = true,
        _ => {
            let value = rest.first().ok_or_else(|| format!("`{word}` needs a value"))?;
            parse_value(segment, word, value)?;
            return Ok(&rest[1..]);
        }
    }
    Ok(rest)
}

fn parse_value(segment: &mut Words, word: &str, value: &str) -> Result<(), String> {
    let options = &mut segment.options;
    match word {
        "data" => {
            let (start, end) = pair(value)?;
            segment.seq = Some(start);
            segment.len = u32::try_from(end - start).map_err(|_| format!("`{value}` runs backwards"))?;
        }
        "seq" => segment.seq = Some(number_of(value)?),
        "win" => segment.window = Some(number_of(value)?),
        "mss" => options.mss = Some(number_of(value)?),
        "wscale" => options.window_scale = Some(number_of(value)?),
        "ts" => options.timestamps = Some(pair(value)?),
        "sack" => options.sack.push(pair(value)?),
        "raw" => options.raw = Some(hex(value)?),
        "fill" => segment.payload = Payload::Fill(number_of(value)?),
        "from" => segment.route.peer_port = Some(number_of(value)?),
        "to" => segment.route.our_port = Some(number_of(value)?),
        _ => return Err(format!("`{word}` is no word of a segment")),
    }
    Ok(())
}

/// A number of any kind.
pub(crate) fn number_of<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number that fits"))
}

fn pair(text: &str) -> Result<(i64, i64), String> {
    let (left, right) = text.split_once(':').ok_or_else(|| format!("`{text}` is not of the form 1:101"))?;
    Ok((number_of(left)?, number_of(right)?))
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8).ok_or_else(|| format!("`{digit}` is no digit")))
        .collect::<Result<_, _>>()?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit)).collect())
}

/// The same words again, in the order in which scripts write them.
impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        let seq = self.seq.map_or_else(String::new, |seq| format!(" {seq}"));
        let leading = FLAGS[..3].iter().filter(|(_, flag)| self.flags.has(*flag));
        if self.len > 0 {
            let start = self.seq.unwrap_or(0);
            let _ = write!(text, " data {start}:{}", start + i64::from(self.len));
            leading.for_each(|(name, _)| text.push_str(&format!(" {name}")));
        } else {
            let names: Vec<&str> = leading.map(|(name, _)| *name).collect();
            match names.split_last() {
                Some((last, first)) => {
                    first.iter().for_each(|name| text.push_str(&format!(" {name}")));
                    text.push_str(&format!(" {last}{seq}"));
                }
                None if self.seq.is_some() => text.push_str(&format!(" seq{seq}")),
                None => {}
            }
        }
        if self.flags.has(Flags::ACK) {
            let _ = write!(text, " ack {}", self.ack.unwrap_or(0));
        }
        for (flag, name) in [(Flags::PSH, "push"), (Flags::ECE, "ece"), (Flags::CWR, "cwr")] {
            if self.flags.has(flag) {
                let _ = write!(text, " {name}");
            }
        }
        if self.flags.has(Flags::URG) {
            let _ = write!(text, " urg {}", self.urgent);
        }
        if let Some(window) = self.window {
            let _ = write!(text, " win {window}");
        }
        write!(f, "{}{}", text.trim_start(), self.options)?;
        if let Some(port) = self.route.peer_port {
            write!(f, " from {port}")?;
        }
        if let Some(port) = self.route.our_port {
            write!(f, " to {port}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for OptionWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(mss) = self.mss {
            write!(f, " mss {mss}")?;
        }
        if let Some(shift) = self.window_scale {
            write!(f, " wscale {shift}")?;
        }
        if self.sack_permitted {
            write!(f, " sackok")?;
        }
        if let Some((value, echo)) = self.timestamps {
            write!(f, " ts {value}:{echo}")?;
        }
        for (left, right) in &self.sack {
            write!(f, " sack {left}:{right}")?;
        }
        Ok(())
    }
}

/// What the words for flags are.
const FLAGS: [(&str, Flags); 8] = [
    ("syn", Flags::SYN),
    ("fin", Flags::FIN),
    ("rst", Flags::RST),
    ("push", Flags::PSH),
    ("ack", Flags::ACK),
    ("urg", Flags::URG),
    ("ece", Flags::ECE),
    ("cwr", Flags::CWR),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn same(text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(parse(&words).expect("words of a segment").to_string(), text);
    }

    #[test]
    fn what_is_read_is_written() {
        same("data 1:101 fin ack 1 push win 500");
        same("syn 0 ack 1 win 65535 mss 1460 wscale 7 sackok ts 1:100");
        same("syn fin rst -5 ack 7 push ece cwr urg 3");
        same("seq 1 ack 101 sack 201:301 sack 401:501 from 7 to 8");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["data 1", "data 9:1", "win 65536", "mss", "blah 1", "ack 1 fresh", "raw 0g"] {
            assert!(parse(&text.split_whitespace().collect::<Vec<_>>()).is_err(), "{text}");
        }
    }
}
