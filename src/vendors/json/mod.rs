//! A strict JSON reader that builds nothing: it checks every byte and reports where members lie.
//!
//! A push is read by this once on its way in, before it is answered, so it must be cheap: one pass, eight bytes of a
//! string at a time, no tree, no recursion. It takes exactly RFC 8259 in UTF-8, at most [`DEPTH_MAX`] levels deep; a
//! `\u` surrogate must have its other half. What numbers mean is not its business.

use std::{borrow::Cow, ops::Range};

/// The deepest nesting that is read; the outermost object is level 1.
pub const DEPTH_MAX: u32 = 64;

/// Why bytes are not JSON that we read. The texts are shown to operators and never quote the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A byte stands where the grammar does not allow it.
    #[error("not JSON: unexpected byte at offset {0}")]
    Unexpected(usize),
    /// The bytes end too early.
    #[error("not JSON: it ends too early")]
    Truncated,
    /// A text is not UTF-8.
    #[error("not JSON: the text at offset {0} is not UTF-8")]
    Encoding(usize),
    /// Deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// Something follows the outermost value.
    #[error("not JSON: something follows the value at offset {0}")]
    Trailing(usize),
}

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`
    Null,
}

/// Where a value lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// A text as it stands between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The text without escapes; borrowed where there were none.
    #[must_use]
    pub fn unescape(self) -> Cow<'a, str> {
        if !self.escaped {
            return String::from_utf8_lossy(self.raw);
        }
        let mut quoted = Vec::with_capacity(self.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.raw);
        quoted.push(b'"');
        Cow::Owned(serde_json::from_slice(&quoted).expect("the reader has checked every escape"))
    }

    /// Whether it says `text`.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        if self.escaped { self.unescape() == text } else { self.raw == text.as_bytes() }
    }
}

/// Reads one JSON text from its first byte to its last.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts before the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Starts at a value that has been read before.
    #[must_use]
    pub const fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, at: offset }
    }

    /// Where the next byte lies.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// The kind of the value that comes next.
    ///
    /// # Errors
    /// [`Fault`] when none can begin here.
    pub fn peek(&mut self) -> Result<Kind, Fault> {
        self.space();
        match self.byte()? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::Text),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' | b'f' => Ok(Kind::Boolean),
            b'n' => Ok(Kind::Null),
            _ => Err(Fault::Unexpected(self.at)),
        }
    }

    /// Reads an object; `member` is called before each value and must read it, with [`Reader::skip`] or deeper.
    ///
    /// # Errors
    /// [`Fault`], the reader's or `member`'s own.
    pub fn object<E: From<Fault>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.space();
        self.expect(b'{')?;
        self.space();
        if self.byte()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = self.text()?;
            self.space();
            self.expect(b':')?;
            member(self, key)?;
            self.space();
            match self.byte()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Fault::Unexpected(self.at).into()),
            }
        }
    }

    /// Reads an array; `element` is called before each value with its index and must read it.
    ///
    /// # Errors
    /// [`Fault`], the reader's or `element`'s own.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self, usize) -> Result<(), Fault>) -> Result<(), Fault> {
        self.space();
        self.expect(b'[')?;
        self.space();
        if self.byte()? == b']' {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            element(self, index)?;
            self.space();
            match self.byte()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(Fault::Unexpected(self.at)),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Reads the next value, whatever it is, that stands `depth` levels deep: 1 for a member of the outermost object.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn skip(&mut self, depth: u32) -> Result<Value, Fault> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            Kind::Object | Kind::Array => self.nested(depth)?,
            _ => self.scalar(kind)?,
        }
        Ok(Value { range: start..self.at, kind })
    }

    /// Nothing but white space may follow.
    ///
    /// # Errors
    /// [`Fault::Trailing`].
    pub fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at < self.bytes.len() { Err(Fault::Trailing(self.at)) } else { Ok(()) }
    }

    /// Reads the text that begins here.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn text(&mut self) -> Result<Text<'a>, Fault> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        // The high bit of any byte of `wide` says that the text is not plain ASCII.
        let mut wide = 0_u64;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            if let Some(chunk) = rest.first_chunk::<8>() {
                let word = u64::from_le_bytes(*chunk);
                let stops = stops(word);
                if stops == 0 {
                    wide |= word;
                    self.at += 8;
                    continue;
                }
                let plain = stops.trailing_zeros() / 8;
                wide |= word & !(u64::MAX << (8 * plain));
                self.at += plain as usize;
            }
            match self.byte()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                0..0x20 => return Err(Fault::Unexpected(self.at)),
                byte => {
                    wide |= u64::from(byte);
                    self.at += 1;
                }
            }
        }
        let raw = self.bytes.get(start..self.at).unwrap_or_default();
        self.at += 1;
        if wide & HIGH_BITS != 0 && std::str::from_utf8(raw).is_err() {
            return Err(Fault::Encoding(start));
        }
        Ok(Text { raw, escaped })
    }

    /// Reads an array or object and all within. Which of the two each open level is, is a bit of `objects`.
    fn nested(&mut self, depth: u32) -> Result<(), Fault> {
        let room = DEPTH_MAX.saturating_sub(depth);
        let mut objects = 0_u64;
        let mut open = 0_u32;
        loop {
            // A value begins here.
            let kind = self.peek()?;
            if matches!(kind, Kind::Object | Kind::Array) {
                if open == room {
                    return Err(Fault::TooDeep);
                }
                self.at += 1;
                open += 1;
                objects = objects << 1 | u64::from(kind == Kind::Object);
                self.space();
                let closing = if kind == Kind::Object { b'}' } else { b']' };
                if self.byte()? != closing {
                    if kind == Kind::Object {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(kind)?;
            }
            // A value, or an empty container, ended here.
            loop {
                self.space();
                let object = objects & 1 == 1;
                match self.byte()? {
                    b',' => {
                        self.at += 1;
                        if object {
                            self.space();
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return Err(Fault::Unexpected(self.at)),
                }
                self.at += 1;
                open -= 1;
                objects >>= 1;
                if open == 0 {
                    return Ok(());
                }
            }
        }
    }

    fn key(&mut self) -> Result<(), Fault> {
        self.text()?;
        self.space();
        self.expect(b':')
    }

    fn scalar(&mut self, kind: Kind) -> Result<(), Fault> {
        match kind {
            Kind::Text => self.text().map(|_| ()),
            Kind::Number => self.number(),
            Kind::Null => self.word(b"null"),
            Kind::Boolean if self.byte()? == b't' => self.word(b"true"),
            Kind::Boolean => self.word(b"false"),
            Kind::Object | Kind::Array => Err(Fault::Unexpected(self.at)),
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.byte()? == b'-' {
            self.at += 1;
        }
        if self.byte()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !self.byte()?.is_ascii_digit() {
            return Err(Fault::Unexpected(self.at));
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        for byte in word {
            self.expect(*byte)?;
        }
        Ok(())
    }

    /// Reads one escape; the next byte is its backslash.
    fn escape(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        match self.byte()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                match self.unit()? {
                    0xD800..=0xDBFF => {
                        self.expect(b'\\')?;
                        self.expect(b'u')?;
                        if !(0xDC00..=0xDFFF).contains(&self.unit()?) {
                            return Err(Fault::Unexpected(start));
                        }
                    }
                    0xDC00..=0xDFFF => return Err(Fault::Unexpected(start)),
                    _ => {}
                }
            }
            _ => return Err(Fault::Unexpected(self.at)),
        }
        Ok(())
    }

    fn unit(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.byte()?).to_digit(16).ok_or(Fault::Unexpected(self.at))?;
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn byte(&self) -> Result<u8, Fault> {
        self.bytes.get(self.at).copied().ok_or(Fault::Truncated)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.byte()? != byte {
            return Err(Fault::Unexpected(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that ends a plain stretch of text: quote, backslash or control. Exact up to the first.
const fn stops(word: u64) -> u64 {
    let quotes = word ^ (LOW_BITS * b'"' as u64);
    let backslashes = word ^ (LOW_BITS * b'\\' as u64);
    let zero_quotes = quotes.wrapping_sub(LOW_BITS) & !quotes;
    let zero_backslashes = backslashes.wrapping_sub(LOW_BITS) & !backslashes;
    let controls = word.wrapping_sub(LOW_BITS * 0x20) & !word;
    (zero_quotes | zero_backslashes | controls) & HIGH_BITS
}

#[cfg(test)]
mod tests;
