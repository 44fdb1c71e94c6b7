//! Resets: the answer to a segment that belongs to no connection (RFC 9293 §3.5.2, §3.10.7.1).

use super::timestamps::Clock;
use crate::proto::Instant;
use crate::proto::wire::{Flags, Options, Segment, SeqNum};

/// The reset that answers `segment`, or nothing: a reset is never answered with a reset.
///
/// Without timestamps, which were agreed with nobody here: a TIME-WAIT of Linux's ignores a reset whose timestamp is behind its own (PAWS), and
/// a new connection on the same ports would be answered by the old one for a minute.
pub(crate) fn reply_to(segment: &Segment) -> Option<Segment> {
    if segment.flags.has(Flags::RST) {
        return None;
    }
    let (seq, ack, flags) = if segment.flags.has(Flags::ACK) {
        (segment.ack, SeqNum(0), Flags::RST)
    } else {
        (SeqNum(0), segment.end(), Flags::RST | Flags::ACK)
    };
    Some(Segment { source_port: segment.destination_port, destination_port: segment.source_port, seq, ack, flags, ..Segment::default() })
}

/// The reset of a connection that we give up: `<SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>`, as Linux sends it.
pub(crate) fn active(seq: SeqNum, ack: SeqNum, clock: Option<&Clock>, now: Instant) -> Segment {
    let options = Options { timestamps: clock.map(|clock| clock.option(now)), ..Options::default() };
    Segment { seq, ack, flags: Flags::RST | Flags::ACK, options, ..Segment::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_never_answered() {
        assert_eq!(reply_to(&Segment { flags: Flags::RST | Flags::ACK, ..Segment::default() }), None);
    }

    #[test]
    fn with_ack_the_reset_stands_where_the_sender_is() {
        let stray = Segment { seq: SeqNum(7), ack: SeqNum(90), flags: Flags::ACK, ..Segment::default() };
        let reset = reply_to(&stray).expect("answered");
        assert_eq!((reset.seq, reset.flags), (SeqNum(90), Flags::RST));
    }

    #[test]
    fn without_ack_the_reset_acknowledges_everything() {
        let stray = Segment { seq: SeqNum(7), payload_len: 10, flags: Flags::SYN | Flags::FIN, ..Segment::default() };
        let reset = reply_to(&stray).expect("answered");
        assert_eq!((reset.seq, reset.ack, reset.flags), (SeqNum(0), SeqNum(19), Flags::RST | Flags::ACK));
    }
}
