//! Just enough gzip to answer in it: stored blocks for right answers, one run of spaces for a bomb (RFC 1951, 1952).

/// The largest stored block.
const BLOCK_BYTES_MAX: usize = 65_535;

const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Wraps bytes without making them smaller.
#[must_use]
pub fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    let mut blocks = bytes.chunks(BLOCK_BYTES_MAX).peekable();
    if blocks.peek().is_none() {
        out.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(bytes).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out
}

/// About `bytes` spaces in a hundred-and-fiftieth of the room. It has no end: whoever reads that far has lost.
#[must_use]
pub fn bomb(bytes: usize) -> Vec<u8> {
    let mut bits = Bits { out: HEADER.to_vec(), held: 0, count: 0 };
    // Last block, fixed codes; then the space, and "258 more of the last byte" over and over.
    bits.push(0b011, 3);
    bits.push_code(0x30 + u32::from(b' '), 8);
    for _ in 0..bytes / 258 {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.out
}

struct Bits {
    out: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    /// Low bit first, as numbers go.
    fn push(&mut self, value: u32, count: u32) {
        self.held |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.extend(self.held.to_le_bytes().first());
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// High bit first, as codes go.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::{bomb, crc32, stored};

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_bomb_is_small() {
        assert!(bomb(1 << 30).len() < 8 << 20);
        assert_eq!(stored(b"").len(), 10 + 5 + 8);
    }
}
