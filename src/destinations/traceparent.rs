//! W3C trace context: the trace goes on, each try is a span of its own.
//!
//! Derived, never drawn: the same try has the same `traceparent`, whoever renders it. Only what the header's
//! grammar allows (W3C Trace Context, level 1, §3.2.2) is taken over from a push; anything else starts a trace.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The parts of a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header of any version that we can: zero ids and version `ff` are invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        let extra = parts.next().is_some();
        let good = version != 0xff && trace != 0 && span != 0 && !(version == 0 && extra);
        good.then_some(Self { trace, span, flags })
    }

    /// Appends it in version 00.
    pub fn push_to(self, text: &mut String) {
        text.push_str("00-");
        push_hex(text, (self.trace >> 64) as u64, 16);
        push_hex(text, self.trace as u64, 16);
        text.push('-');
        push_hex(text, self.span, 16);
        text.push('-');
        push_hex(text, u64::from(self.flags), 2);
    }
}

/// The context of one try: the push's own trace, or one that belongs to the event.
#[must_use]
pub fn next(inbound: Option<&str>, event: &str, delivery: &str, attempt: u32) -> TraceParent {
    let span = hash(1, delivery, attempt).max(1);
    match inbound.and_then(TraceParent::parse) {
        // Of the flags only `sampled` and `random` have a meaning that we know.
        Some(parent) => TraceParent { trace: parent.trace, span, flags: parent.flags & 0b11 },
        None => {
            let trace = (u128::from(hash(2, event, 0)) << 64) | u128::from(hash(3, event, 0).max(1));
            TraceParent { trace, span, flags: 0 }
        }
    }
}

/// Not keyed with a secret: nothing depends on these ids being hard to guess.
fn hash(role: u64, text: &str, number: u32) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(role, 0);
    hasher.write(text.as_bytes());
    hasher.write_u32(number);
    hasher.finish()
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok())?
}

/// Appends the last `digits` hexadecimal digits of a number. Without the formatting machinery: every message has
/// nearly a hundred of them.
pub(super) fn push_hex(text: &mut String, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        let nibble = (value >> (place * 4)) as u8 & 0xf;
        text.push(char::from(if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }));
    }
}

#[cfg(test)]
mod tests {
    use super::{TraceParent, next};

    const INBOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn text(parent: TraceParent) -> String {
        let mut text = String::new();
        parent.push_to(&mut text);
        text
    }

    #[test]
    fn the_trace_goes_on_with_a_span_of_its_own() {
        let first = text(next(Some(INBOUND), "evt_1", "evt_1/leads", 1));
        assert!(first.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && first.ends_with("-01"), "{first}");
        assert!(!first.contains("00f067aa0ba902b7"), "{first}");
        assert_ne!(first, text(next(Some(INBOUND), "evt_1", "evt_1/leads", 2)));
        assert_eq!(first, text(next(Some(INBOUND), "evt_1", "evt_1/leads", 1)));
    }

    #[test]
    fn without_one_all_tries_of_an_event_share_a_new_trace() {
        let first = text(next(None, "evt_1", "evt_1/leads", 1));
        let second = text(next(None, "evt_1", "evt_1/other", 3));
        assert_eq!(first.get(..36), second.get(..36));
        assert_ne!(first, second);
        assert!(TraceParent::parse(&first).is_some(), "{first}");
    }

    #[test]
    fn what_is_not_a_context_starts_a_new_one() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        assert!(TraceParent::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
