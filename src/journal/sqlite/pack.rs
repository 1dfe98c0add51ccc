//! Packing of small values into one blob: numbers of 7 bits a byte, texts with their length before them.
//!
//! Every `take_…` answers `None` for bytes that no `put_…` wrote; the caller reports the row as damaged.

/// Puts values one after the other.
#[derive(Debug, Default)]
pub struct Packer(pub Vec<u8>);

impl Packer {
    /// A number.
    pub fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    /// A number that may be below zero; small ones of either sign are short.
    pub fn put_signed(&mut self, number: i64) {
        self.put_number((number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
    }

    /// Bytes.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A text, or none.
    pub fn put_text_or_none(&mut self, text: Option<&str>) {
        match text {
            None => self.0.push(0),
            Some(text) => {
                self.put_number(text.len() as u64 + 1);
                self.0.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// Takes values in the order they were put.
#[derive(Debug, Clone, Copy)]
pub struct Unpacker<'a>(pub &'a [u8]);

impl<'a> Unpacker<'a> {
    /// One byte.
    pub fn take_byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number.
    pub fn take_number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take_byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that must fit a length or a count.
    pub fn take_count(&mut self) -> Option<usize> {
        // Everything counted takes a byte at least, so that a damaged count cannot ask for more memory than there is.
        usize::try_from(self.take_number()?).ok().filter(|count| *count <= self.0.len())
    }

    /// A number that may be below zero.
    pub fn take_signed(&mut self) -> Option<i64> {
        let number = self.take_number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Bytes.
    pub fn take_bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.take_count()?;
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A text.
    pub fn take_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.take_bytes()?).ok()
    }

    /// A text, or none.
    pub fn take_text_or_none(&mut self) -> Option<Option<&'a str>> {
        let Some(count) = usize::try_from(self.take_number()?).ok()?.checked_sub(1) else {
            return Some(None);
        };
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(bytes).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::{Packer, Unpacker};

    #[test]
    fn values_come_back_in_the_order_they_were_put() {
        let mut packer = Packer::default();
        for number in [0, 1, 127, 128, 300, u64::MAX] {
            packer.put_number(number);
            packer.put_signed(number.cast_signed());
        }
        packer.put_bytes("线索".as_bytes());
        packer.put_text_or_none(None);
        packer.put_text_or_none(Some(""));
        let mut unpacker = Unpacker(&packer.0);
        for number in [0, 1, 127, 128, 300, u64::MAX] {
            assert_eq!(unpacker.take_number(), Some(number));
            assert_eq!(unpacker.take_signed(), Some(number.cast_signed()));
        }
        assert_eq!(unpacker.take_text(), Some("线索"));
        assert_eq!(unpacker.take_text_or_none(), Some(None));
        assert_eq!(unpacker.take_text_or_none(), Some(Some("")));
        assert_eq!(unpacker.take_byte(), None);
    }

    #[test]
    fn cut_bytes_are_told() {
        let mut packer = Packer::default();
        packer.put_bytes(b"abc");
        for end in 0..packer.0.len() {
            assert_eq!(Unpacker(&packer.0[..end]).take_bytes(), None, "{end}");
        }
        assert_eq!(Unpacker(&[0xff; 10]).take_number(), None);
        assert_eq!(Unpacker(&[0xff; 4]).take_count(), None);
    }
}
