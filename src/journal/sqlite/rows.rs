//! The tables of a segment, and how rows go in and come out.
//!
//! The hot tables have no index beside the row number, and rows are only ever added at the end. Each row carries a
//! checksum of everything in it but the body, whose own hash is one of the columns: what was flipped on disk is
//! never taken for what was stored.

use crate::{
    domain::{
        Event, Fingerprint, HashKeys, Headers, Incarnation, NewEvent, Offset, OrderKey, Origin, Partition, Position,
        SourceName, TenantName, Timestamp,
    },
    journal::sqlite::pack::Packer,
};
use bytes::Bytes;
use rusqlite::{Row, Statement, types::ValueRef};

/// Tables that hold rows of the logs: in every segment, and in `state.db` for what the shelf keeps.
///
/// `runs` tells which run of the process wrote the events from a row on. A record in `enrichment` is stored once.
pub const TABLES: &str = "
CREATE TABLE events(
  offset INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, source TEXT NOT NULL, tenant TEXT NOT NULL,
  type TEXT NOT NULL, key TEXT, vendor_id TEXT, origin TEXT NOT NULL, sent_at INTEGER, conflict INTEGER NOT NULL,
  order_key INTEGER, payload INTEGER, id_hash INTEGER NOT NULL, body_hash INTEGER NOT NULL, checksum INTEGER NOT NULL,
  headers TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE routed(
  offset INTEGER PRIMARY KEY, targets BLOB NOT NULL, event INTEGER NOT NULL, job INTEGER NOT NULL,
  generation INTEGER NOT NULL, checksum INTEGER NOT NULL, enrichment BLOB NOT NULL);
CREATE TABLE enrichment(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE runs(first_event INTEGER PRIMARY KEY, incarnation INTEGER NOT NULL);
";

/// Adds an event after the last one; the row number is the next by itself, which spares SQLite a search.
pub const APPEND_EVENT: &str = "INSERT INTO events(received_at, source, tenant, type, key, vendor_id, origin, sent_at, \
     conflict, order_key, payload, id_hash, body_hash, checksum, headers, body) \
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
/// Adds an event at a given row.
pub const INSERT_EVENT: &str = "INSERT OR REPLACE INTO events(received_at, source, tenant, type, key, vendor_id, \
     origin, sent_at, conflict, order_key, payload, id_hash, body_hash, checksum, headers, body, offset) \
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
/// Reads events from a row on, below another.
pub const SELECT_EVENTS: &str = "SELECT offset, received_at, source, tenant, type, key, vendor_id, origin, sent_at, \
     conflict, order_key, payload, id_hash, body_hash, checksum, headers, body \
     FROM events WHERE offset >= ?1 AND offset < ?2 ORDER BY offset";
/// Adds a decision after the last one.
pub const APPEND_ROUTED: &str =
    "INSERT INTO routed(targets, event, job, generation, checksum, enrichment) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
/// Adds a decision at a given row.
pub const INSERT_ROUTED: &str = "INSERT OR REPLACE INTO routed(targets, event, job, generation, checksum, \
     enrichment, offset) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
/// Reads decisions from a row on, below another.
pub const SELECT_ROUTED: &str = "SELECT offset, targets, event, job, generation, checksum, enrichment FROM routed \
     WHERE offset >= ?1 AND offset < ?2 ORDER BY offset";
/// Adds a fetched record.
pub const INSERT_RECORD: &str = "INSERT INTO enrichment(hash, record) VALUES(?1, ?2)";
/// Reads a fetched record.
pub const SELECT_RECORD: &str = "SELECT hash, record FROM enrichment WHERE id = ?1";

/// A row number as SQLite holds it.
///
/// # Panics
/// Never: row numbers are given from 1 on and printed with 48 bits.
#[must_use]
pub fn rowid(offset: Offset) -> i64 {
    i64::try_from(offset).expect("row numbers stay below 2^48")
}

/// Writes one event with a prepared [`APPEND_EVENT`] or, with a row number, [`INSERT_EVENT`].
///
/// # Errors
/// SQLite's.
pub fn insert_event(
    statement: &mut Statement<'_>,
    row: Option<Offset>,
    event: &NewEvent,
    conflict: bool,
    checksum: u64,
) -> rusqlite::Result<()> {
    let payload =
        event.payload.as_ref().map(|range| ((u64::from(range.start) << 32) | u64::from(range.end)).cast_signed());
    statement.raw_bind_parameter(1, event.received_at.as_millis())?;
    statement.raw_bind_parameter(2, event.source.as_str())?;
    statement.raw_bind_parameter(3, event.tenant.as_str())?;
    statement.raw_bind_parameter(4, &*event.kind)?;
    statement.raw_bind_parameter(5, event.key.as_deref())?;
    statement.raw_bind_parameter(6, event.vendor_id.as_deref())?;
    statement.raw_bind_parameter(7, event.origin.as_str())?;
    statement.raw_bind_parameter(8, event.sent_at.map(Timestamp::as_millis))?;
    statement.raw_bind_parameter(9, flags(event, conflict))?;
    statement.raw_bind_parameter(10, event.order.map(|order| order.0.cast_signed()))?;
    statement.raw_bind_parameter(11, payload)?;
    statement.raw_bind_parameter(12, event.id_hash.cast_signed())?;
    statement.raw_bind_parameter(13, event.body_hash.cast_signed())?;
    statement.raw_bind_parameter(14, checksum.cast_signed())?;
    statement.raw_bind_parameter(15, &*event.headers.0)?;
    statement.raw_bind_parameter(16, &event.body[..])?;
    if let Some(offset) = row {
        statement.raw_bind_parameter(17, rowid(offset))?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// The column `conflict`: bit 0 says that the id had come with another body, bit 1 that the event is superseded.
fn flags(event: &NewEvent, conflict: bool) -> u8 {
    u8::from(conflict) | u8::from(event.superseded) << 1
}

/// The checksum of an event at its row: all of it but the body's bytes.
pub fn event_checksum(keys: &HashKeys, scratch: &mut Packer, offset: Offset, event: &NewEvent, conflict: bool) -> u64 {
    scratch.0.clear();
    let order = event.order.map_or(0, |order| order.0);
    let sent_at = event.sent_at.map_or(i64::MIN, Timestamp::as_millis);
    let payload = event.payload.as_ref().map_or((u32::MAX, 0), |range| (range.start, range.end));
    for number in [offset, order, event.id_hash, event.body_hash] {
        scratch.0.extend_from_slice(&number.to_le_bytes());
    }
    scratch.0.extend_from_slice(&event.received_at.as_millis().to_le_bytes());
    scratch.0.extend_from_slice(&sent_at.to_le_bytes());
    scratch.0.extend_from_slice(&payload.0.to_le_bytes());
    scratch.0.extend_from_slice(&payload.1.to_le_bytes());
    scratch.0.extend_from_slice(&[flags(event, conflict), u8::from(event.order.is_some())]);
    for text in [event.source.as_str(), event.tenant.as_str(), &event.kind, event.origin.as_str(), &event.headers.0] {
        scratch.put_bytes(text.as_bytes());
    }
    scratch.put_text_or_none(event.key.as_deref());
    scratch.put_text_or_none(event.vendor_id.as_deref());
    keys.body(&scratch.0)
}

/// The checksum of a decision at its row.
pub fn routed_checksum(keys: &HashKeys, scratch: &mut Packer, offset: Offset, routed: &RoutedColumns<'_>) -> u64 {
    scratch.0.clear();
    for number in [offset, routed.event, routed.job, u64::from(routed.generation)] {
        scratch.0.extend_from_slice(&number.to_le_bytes());
    }
    scratch.put_bytes(routed.targets);
    scratch.put_bytes(routed.enrichment);
    keys.body(&scratch.0)
}

/// A decision as it lies in its row.
#[derive(Debug, Clone, Copy)]
pub struct RoutedColumns<'a> {
    /// Packed by [`crate::journal::sqlite::decision::pack`].
    pub targets: &'a [u8],
    /// The event's row.
    pub event: Offset,
    /// The replay, or 0.
    pub job: u64,
    /// The generation of the routes.
    pub generation: u32,
    /// Packed by [`crate::journal::sqlite::decision::pack_enrichment`]; empty when nothing was asked for.
    pub enrichment: &'a [u8],
}

/// Writes one decision with a prepared [`APPEND_ROUTED`] or, with a row number, [`INSERT_ROUTED`].
///
/// # Errors
/// SQLite's.
pub fn insert_routed(
    statement: &mut Statement<'_>,
    row: Option<Offset>,
    routed: &RoutedColumns<'_>,
    checksum: u64,
) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, routed.targets)?;
    statement.raw_bind_parameter(2, rowid(routed.event))?;
    statement.raw_bind_parameter(3, routed.job.cast_signed())?;
    statement.raw_bind_parameter(4, routed.generation)?;
    statement.raw_bind_parameter(5, checksum.cast_signed())?;
    statement.raw_bind_parameter(6, routed.enrichment)?;
    if let Some(offset) = row {
        statement.raw_bind_parameter(7, rowid(offset))?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// Turns rows of [`SELECT_EVENTS`] into events; remembers names, which repeat from row to row.
#[derive(Debug)]
pub struct EventReader<'a> {
    keys: &'a HashKeys,
    scratch: Packer,
    source: Option<SourceName>,
    tenant: Option<TenantName>,
}

impl<'a> EventReader<'a> {
    /// Checks rows with a store's keys.
    #[must_use]
    pub fn new(keys: &'a HashKeys) -> Self {
        Self { keys, scratch: Packer::default(), source: None, tenant: None }
    }

    /// Builds the event of a row and checks it against its hashes.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(&mut self, row: &Row<'_>, partition: Partition, incarnation: Incarnation) -> Result<Event, String> {
        let (offset, checksum, conflict, content) =
            self.columns(row).ok_or("a column holds what was never written there")?;
        if self.keys.body(&content.body) != content.body_hash {
            return Err("the body does not match its hash".to_owned());
        }
        if event_checksum(self.keys, &mut self.scratch, offset, &content, conflict) != checksum {
            return Err("the row does not match its checksum".to_owned());
        }
        Ok(content.at(partition, offset, incarnation, conflict))
    }

    fn columns(&mut self, row: &Row<'_>) -> Option<(Offset, u64, bool, NewEvent)> {
        let payload = integer_or_none(row, 11)?.map(|packed| {
            let packed = packed.cast_unsigned();
            low_half(packed >> 32)..low_half(packed)
        });
        let flags = integer(row, 9)?;
        let content = NewEvent {
            source: self.source(text(row, 2)?)?,
            tenant: self.tenant(text(row, 3)?)?,
            kind: text(row, 4)?.into(),
            key: text_or_none(row, 5)?.map(Into::into),
            vendor_id: text_or_none(row, 6)?.map(Into::into),
            origin: Origin::parse(text(row, 7)?)?,
            sent_at: integer_or_none(row, 8)?.map(Timestamp::from_millis),
            received_at: Timestamp::from_millis(integer(row, 1)?),
            headers: Headers(text(row, 15)?.into()),
            body: Bytes::copy_from_slice(blob(row, 16)?),
            payload,
            order: integer_or_none(row, 10)?.map(|order| OrderKey(order.cast_unsigned())),
            id_hash: integer(row, 12)?.cast_unsigned(),
            body_hash: integer(row, 13)?.cast_unsigned(),
            fingerprint: Fingerprint::default(),
            superseded: flags & 2 != 0,
        };
        let offset = Offset::try_from(integer(row, 0)?).ok()?;
        Some((offset, integer(row, 14)?.cast_unsigned(), flags & 1 != 0, content))
    }

    fn source(&mut self, text: &str) -> Option<SourceName> {
        if self.source.as_ref().is_none_or(|name| name.as_str() != text) {
            self.source = Some(SourceName::parse(text).ok()?);
        }
        self.source.clone()
    }

    fn tenant(&mut self, text: &str) -> Option<TenantName> {
        if self.tenant.as_ref().is_none_or(|name| name.as_str() != text) {
            self.tenant = Some(TenantName::parse(text).ok()?);
        }
        self.tenant.clone()
    }
}

/// Where a decision's event stands.
#[must_use]
pub fn event_position(partition: Partition, routed: &RoutedColumns<'_>) -> Position {
    Position { partition, offset: routed.event }
}

/// The columns of a row of [`SELECT_ROUTED`], with its number and its checksum. `None` for damage.
pub fn routed_columns<'a>(row: &'a Row<'_>) -> Option<(Offset, u64, RoutedColumns<'a>)> {
    let columns = RoutedColumns {
        targets: blob(row, 1)?,
        event: Offset::try_from(integer(row, 2)?).ok()?,
        job: integer(row, 3)?.cast_unsigned(),
        generation: u32::try_from(integer(row, 4)?).ok()?,
        enrichment: blob(row, 6)?,
    };
    Some((Offset::try_from(integer(row, 0)?).ok()?, integer(row, 5)?.cast_unsigned(), columns))
}

/// A column's bytes.
pub fn blob<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a [u8]> {
    row.get_ref(column).ok()?.as_blob().ok()
}

/// A column's whole number.
pub fn integer(row: &Row<'_>, column: usize) -> Option<i64> {
    row.get_ref(column).ok()?.as_i64().ok()
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a str> {
    row.get_ref(column).ok()?.as_str().ok()
}

fn text_or_none<'a>(row: &'a Row<'_>, column: usize) -> Option<Option<&'a str>> {
    match row.get_ref(column).ok()? {
        ValueRef::Null => Some(None),
        value => value.as_str().ok().map(Some),
    }
}

fn integer_or_none(row: &Row<'_>, column: usize) -> Option<Option<i64>> {
    match row.get_ref(column).ok()? {
        ValueRef::Null => Some(None),
        value => value.as_i64().ok().map(Some),
    }
}

fn low_half(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
