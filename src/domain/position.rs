//! Where an event stands in the log, and the id that says so.

use crate::domain::Timestamp;
use std::{fmt, str::FromStr};

/// A row's number within one log of one partition: dense, from 1.
pub type Offset = u64;

/// One of the P logs that a store is split into; 0 in an embedded store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition(pub u16);

/// Random at every start: tells this process's offsets from those of a run that a restored backup forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u32);

/// Where an event stands: its log and its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The log.
    pub partition: Partition,
    /// The row in it.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.partition.0, self.offset)
    }
}

/// Our id of an event, the `ce_id` of every copy: `evt_` and 36 hex digits.
///
/// Twelve digits of milliseconds since the epoch, eight of the incarnation, four of the partition, twelve of the
/// offset. So ids sort by time, name their row without an index, and are never reused after a restored backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// When the event was received.
    pub received_at: Timestamp,
    /// The run that wrote it.
    pub incarnation: Incarnation,
    /// Its row.
    pub position: Position,
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "evt_{:012x}{:08x}{:04x}{:012x}",
            self.received_at.as_millis(),
            self.incarnation.0,
            self.position.partition.0,
            self.position.offset
        )
    }
}

/// The text is not an event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event id: expected `evt_` and 36 hex digits")]
pub struct EventIdError(String);

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let error = || EventIdError(text.chars().take(80).collect());
        let digits = text.strip_prefix("evt_").ok_or_else(error)?;
        if digits.len() != 36 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        let part = |from: usize, to: usize| {
            digits.get(from..to).and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or_else(error)
        };
        Ok(Self {
            received_at: Timestamp::from_millis(i64::try_from(part(0, 12)?).map_err(|_| error())?),
            incarnation: Incarnation(u32::try_from(part(12, 20)?).map_err(|_| error())?),
            position: Position {
                partition: Partition(u16::try_from(part(20, 24)?).map_err(|_| error())?),
                offset: part(24, 36)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{EventId, Incarnation, Partition, Position};
    use crate::domain::Timestamp;

    #[test]
    fn an_event_id_renders_and_parses_back() {
        let id = EventId {
            received_at: Timestamp::from_millis(1_726_824_222_989),
            incarnation: Incarnation(0xdead_beef),
            position: Position { partition: Partition(3), offset: 42 },
        };
        assert_eq!(id.to_string(), "evt_01920ebe910ddeadbeef000300000000002a");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "evt_", "evt_01920ebcd50ddeadbeef00030000000000a", "01920ebcd50ddeadbeef000300000000002a"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
