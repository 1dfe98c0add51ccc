//! Follows the framing of a connection byte by byte and stops it where two readers could disagree about it.
//!
//! hyper takes a line that ends in a bare LF, and prefers `Transfer-Encoding` where `Content-Length` stands beside
//! it. A proxy before us may read the same bytes differently, and what it takes for the body of one request we would
//! take for the next: request smuggling. The guard sees each byte before hyper does and refuses the connection. It
//! also holds the exact limits of a request's head. What it lets pass hyper still parses, and may refuse.

use memchr::memchr;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// A line without CR, a folded line, or framing that can be read in two ways: 400.
    Malformed,
    /// A head beyond its limits: 431.
    HeadTooLarge,
}

/// The limits of a request's head, both inclusive.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// From the request line's first byte to the empty line's last.
    pub bytes: usize,
    /// Header lines.
    pub lines: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// A body of so many more bytes.
    Body(u64),
    /// A chunked body: not followed, so nothing may come after it on this connection.
    Chunked,
}

/// The framing so far.
#[derive(Debug)]
pub struct Guard {
    limits: HeadLimits,
    state: State,
    head_bytes: usize,
    /// Lines of the head so far, the request line among them.
    lines: usize,
    length: Option<u64>,
    chunked: bool,
    /// The beginning of a line that has not ended yet.
    partial: Vec<u8>,
}

impl Guard {
    /// Starts before a connection's first byte.
    #[must_use]
    pub const fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head, head_bytes: 0, lines: 0, length: None, chunked: false, partial: Vec::new() }
    }

    /// Whether a head has begun and not ended.
    #[must_use]
    pub const fn in_head(&self) -> bool {
        matches!(self.state, State::Head) && self.head_bytes > 0
    }

    /// Whether more bytes of the current request may be on their way.
    #[must_use]
    pub const fn in_request(&self) -> bool {
        self.in_head() || !matches!(self.state, State::Head)
    }

    /// Whether the current request's end is not followed, so that no other may come after it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self.state, State::Chunked)
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// [`Offence`]: nothing of what was given may be used.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Offence> {
        while !bytes.is_empty() {
            match self.state {
                State::Chunked => return Ok(()),
                State::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(here..).unwrap_or_default();
                    let left = left - here as u64;
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                }
                State::Head => bytes = self.head(bytes)?,
            }
        }
        Ok(())
    }

    /// Takes one line of a head, or the beginning of one; gives what follows it.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Offence> {
        let newline = memchr(b'\n', bytes);
        let taken = newline.map_or(bytes.len(), |at| at + 1);
        self.head_bytes += taken;
        if self.head_bytes > self.limits.bytes {
            return Err(Offence::HeadTooLarge);
        }
        let (here, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
        if newline.is_none() {
            self.partial.extend_from_slice(here);
        } else if self.partial.is_empty() {
            self.line(here)?;
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(here);
            self.line(&line)?;
        }
        Ok(rest)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Offence> {
        let line = line.strip_suffix(b"\r\n").ok_or(Offence::Malformed)?;
        if line.is_empty() {
            // An empty line before the request line is passed over (RFC 9112 section 2.2).
            if self.lines > 0 {
                self.end_head();
            }
            return Ok(());
        }
        self.lines += 1;
        if self.lines == 1 {
            return Ok(());
        }
        if self.lines - 1 > self.limits.lines {
            return Err(Offence::HeadTooLarge);
        }
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(Offence::Malformed);
        }
        if let Some(value) = value_of(line, b"content-length:") {
            let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok()).ok_or(Offence::Malformed)?;
            if self.chunked || self.length.replace(length).is_some() {
                return Err(Offence::Malformed);
            }
        } else if let Some(value) = value_of(line, b"transfer-encoding:") {
            if self.length.is_some() || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Offence::Malformed);
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn end_head(&mut self) {
        self.state = match self.length {
            _ if self.chunked => State::Chunked,
            None | Some(0) => State::Head,
            Some(length) => State::Body(length),
        };
        self.head_bytes = 0;
        self.lines = 0;
        self.length = None;
        self.chunked = false;
    }
}

/// The value of a header line, without the white space around it, if the line is that header.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::{Guard, HeadLimits, Offence};
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    fn guard() -> Guard {
        Guard::new(HeadLimits { bytes: 200, lines: 3 })
    }

    fn feed(text: &str) -> Result<(), Offence> {
        guard().feed(text.as_bytes())
    }

    #[test]
    fn plain_requests_pass_one_after_the_other() {
        let request = "POST /a HTTP/1.1\r\nHost: h\r\ncontent-length:  5 \r\n\r\nab\ncd";
        assert_eq!(feed(&["\r\n", request, request, "GET / HTTP/1.1\r\n\r\n"].concat()), Ok(()));
        assert_eq!(feed("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n1\nx\n0\n\n"), Ok(()));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for headers in [
            "A: b\n\r\n",
            "A: b\r\n\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\ncontent-length: 1\r\n\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "Content-Length: 1, 1\r\n\r\n",
            "Content-Length: +1\r\n\r\n",
            "Content-Length: 99999999999999999999\r\n\r\n",
            "Content-Length:\r\n\r\n",
            "Transfer-Encoding: chunked, identity\r\n\r\n",
            "Transfer-Encoding: gzip, chunked\r\n\r\n",
            "Transfer-Encoding: xchunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "A: b\r\n folded\r\n\r\n",
            "A: b\r\n\tContent-Length: 1\r\n\r\n",
        ] {
            assert_eq!(feed(&["POST / HTTP/1.1\r\n", headers].concat()), Err(Offence::Malformed), "{headers:?}");
        }
        assert_eq!(feed("POST / HTTP/1.1\nA: b\r\n\r\n"), Err(Offence::Malformed));
    }

    #[test]
    fn the_limits_of_a_head_are_inclusive() {
        let head = |padding: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(padding));
        let overhead = head(0).len();
        assert_eq!(feed(&head(200 - overhead)), Ok(()));
        assert_eq!(feed(&head(201 - overhead)), Err(Offence::HeadTooLarge));
        assert_eq!(feed(&"x".repeat(201)), Err(Offence::HeadTooLarge));
        assert_eq!(feed(&["GET / HTTP/1.1\r\n", &"A: b\r\n".repeat(3), "\r\n"].concat()), Ok(()));
        assert_eq!(feed(&["GET / HTTP/1.1\r\n", &"A: b\r\n".repeat(4)].concat()), Err(Offence::HeadTooLarge));
    }

    #[test]
    fn it_knows_whether_a_request_is_under_way() {
        let mut guard = guard();
        assert!(!guard.in_request());
        guard.feed(b"POST / HTTP/1.1\r\nContent-Le").unwrap();
        assert!(guard.in_head());
        guard.feed(b"ngth: 3\r\n\r\na").unwrap();
        assert!(!guard.in_head() && guard.in_request());
        guard.feed(b"bc").unwrap();
        assert!(!guard.in_request());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(cuts in prop::collection::vec(1_usize..40, 1..60)) {
            let good = "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n1234\n67GET /b HTTP/1.1\r\nA: b\r\n\r\n";
            for (text, expected) in [
                (good.to_owned(), Ok(())),
                ([good, "GET /\n\r\n"].concat(), Err(Offence::Malformed)),
                ([good, &"y".repeat(300)].concat(), Err(Offence::HeadTooLarge)),
            ] {
                let mut guard = guard();
                let mut rest = text.as_bytes();
                let mut result = Ok(());
                for cut in cuts.iter().cycle() {
                    let (here, after) = rest.split_at((*cut).min(rest.len()));
                    result = result.and(guard.feed(here));
                    rest = after;
                    if rest.is_empty() || result.is_err() {
                        break;
                    }
                }
                prop_assert_eq!(result, expected);
            }
        }
    }
}
