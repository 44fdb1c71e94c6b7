//! The Internet checksum (RFC 1071) and TCP's pseudo-header sum in both families (RFC 9293 §3.1, RFC 8200 §8.1).
//!
//! A sum is kept in 64 bits, folded at the end. Sums of pieces can be added as long as every piece but the last has an even length.

use super::tuple::Address;

/// An unfolded one's complement sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`; an odd last byte is padded with zero.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        // Four lanes let the compiler use vector registers; native order gives the same sum up to a byte swap (RFC 1071 §2 B).
        let mut lanes = [0u64; 4];
        let mut blocks = bytes.chunks_exact(16);
        for block in &mut blocks {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let mut sum: u64 = lanes.iter().sum();
        let mut pairs = blocks.remainder().chunks_exact(2);
        for pair in &mut pairs {
            sum += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
        }
        if let [last] = pairs.remainder() {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(u64::from(fold(sum)))
    }

    /// The sum of TCP's pseudo header: addresses, protocol 6 and the length of header and payload in bytes.
    #[must_use]
    pub fn pseudo_header(source: Address, destination: Address, protocol: u8, length: u32) -> Self {
        let addresses = match (source.as_v4(), destination.as_v4()) {
            (Some(source), Some(destination)) => Self::of(&source.octets()) + Self::of(&destination.octets()),
            _ => Self::of(&source.octets()) + Self::of(&destination.octets()),
        };
        addresses + Self::of(&length.to_be_bytes()) + Self::of(&[0, protocol])
    }

    /// The folded sum as it stands on the wire, not complemented: what a partial checksum carries.
    #[must_use]
    pub fn partial(self) -> [u8; 2] {
        fold(self.0).to_ne_bytes()
    }

    /// The complement of the folded sum, as it stands on the wire.
    #[must_use]
    pub fn complete(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }

    /// True if the summed bytes, checksum field included, are intact.
    #[must_use]
    pub fn is_intact(self) -> bool {
        fold(self.0) == 0xffff
    }

    /// This sum as if its bytes stood one place further: for a piece that follows an odd number of bytes.
    #[must_use]
    pub fn shifted(self) -> Self {
        Self(u64::from(fold(self.0).swap_bytes()))
    }

    /// The sum of consecutive pieces, of any lengths.
    #[must_use]
    pub fn of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sum = Self::default();
        let mut odd = false;
        for piece in pieces {
            let part = Self::of(piece);
            sum = sum + if odd { part.shifted() } else { part };
            odd ^= piece.len() % 2 == 1;
        }
        sum
    }
}

impl std::ops::Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "two folds bring any 64-bit sum below 2^16")]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).expect("folded")
    }

    proptest::proptest! {
        #[test]
        fn equals_the_sum_word_by_word(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4000)) {
            proptest::prop_assert_eq!(u16::from_be_bytes(Sum::of(&bytes).partial()), reference(&bytes));
        }

        #[test]
        fn pieces_add_up(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), cuts in proptest::collection::vec(0usize..400, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            proptest::prop_assert_eq!(Sum::of_pieces(pieces).partial(), Sum::of(&bytes).partial());
        }
    }
}
