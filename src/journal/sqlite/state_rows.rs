//! How lanes, shelf rows and receipts lie in `state.db`.

use crate::{
    domain::{
        DestinationName, EventId, Incarnation, Offset, OrderKey, Partition, Position, ReplayJob, RouteName, Timestamp,
    },
    journal::{
        Ending, LaneName, LaneRecord, ParkedKey, Progress, Receipt, ShelfRow, ShelfState,
        sqlite::{
            decision::{cause, cause_code},
            pack::{Packer, Unpacker},
        },
    },
};
use rusqlite::{Row, Statement, params};

/// Lays a row on the shelf, or replaces it.
pub const PUT_SHELF: &str = "INSERT INTO shelf(lane, row, route, event, received_at, incarnation, order_key, state, \
     job, cause, attempts, first_at, last_at, holds, detail) \
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT(lane, row, route) DO UPDATE \
     SET event = ?4, received_at = ?5, incarnation = ?6, order_key = ?7, state = ?8, job = ?9, cause = ?10, \
     attempts = ?11, first_at = ?12, last_at = ?13, holds = ?14, detail = ?15";
/// Takes a row off the shelf.
pub const REMOVE_SHELF: &str = "DELETE FROM shelf WHERE lane = ?1 AND row = ?2 AND route = ?3";
/// The first parked rows of a key, in order; columns as [`read_shelf`] takes them.
pub const SELECT_PARKED: &str = "SELECT row, route, event, received_at, incarnation, order_key, state, job, cause, \
     attempts, first_at, last_at, holds, detail FROM shelf \
     WHERE lane = ?1 AND order_key = ?2 AND state = 0 ORDER BY row, route LIMIT ?3";

/// A lane's name as stored: `router`, `morgue`, `destination:<name>`, `replay:<number>`.
#[must_use]
pub fn lane_text(lane: &LaneName) -> String {
    match lane {
        LaneName::Router => "router".to_owned(),
        LaneName::Morgue => "morgue".to_owned(),
        LaneName::Destination(name) => format!("destination:{name}"),
        LaneName::Replay(job) => format!("replay:{}", job.0),
    }
}

/// Reads what [`lane_text`] wrote.
#[must_use]
pub fn lane_name(text: &str) -> Option<LaneName> {
    match text {
        "router" => return Some(LaneName::Router),
        "morgue" => return Some(LaneName::Morgue),
        _ => {}
    }
    match text.split_once(':')? {
        ("destination", name) => DestinationName::parse(name).ok().map(LaneName::Destination),
        ("replay", job) => job.parse().ok().map(|job| LaneName::Replay(ReplayJob(job))),
        _ => None,
    }
}

/// A route as stored: empty for none, which no route can be called.
#[must_use]
pub fn route_text(route: Option<&RouteName>) -> &str {
    route.map(RouteName::as_str).unwrap_or_default()
}

/// A row of `lanes`.
#[derive(Debug, Default)]
pub struct LaneColumns {
    /// Its row.
    pub id: i64,
    /// By [`lane_text`].
    pub lane: String,
    /// Its partition.
    pub partition: u16,
    /// The destination's type.
    pub kind: String,
    /// Paused by an operator.
    pub paused: bool,
    /// The first row that is not settled.
    pub watermark: i64,
    /// The router's last ROUTED row.
    pub reflects: i64,
    /// The bitmap, little-endian words.
    pub beyond: Vec<u8>,
    /// Packed (row, route) pairs.
    pub partial: Vec<u8>,
}

impl LaneColumns {
    /// The columns of a progress.
    #[must_use]
    pub fn new(progress: &Progress) -> Self {
        let mut partial = Packer::default();
        for (offset, route) in &progress.partial {
            partial.put_number(*offset);
            partial.put_bytes(route.as_str().as_bytes());
        }
        Self {
            watermark: progress.watermark.cast_signed(),
            reflects: progress.reflects.cast_signed(),
            beyond: progress.beyond.iter().flat_map(|word| word.to_le_bytes()).collect(),
            partial: partial.0,
            ..Self::default()
        }
    }

    /// Reads a row: lane, partition, kind, paused, watermark, reflects, beyond, partial, id.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            lane: row.get(0)?,
            partition: row.get(1)?,
            kind: row.get(2)?,
            paused: row.get(3)?,
            watermark: row.get(4)?,
            reflects: row.get(5)?,
            beyond: row.get(6)?,
            partial: row.get(7)?,
            id: row.get(8)?,
        })
    }
}

/// The lane of a row. `None` for damage.
#[must_use]
pub fn read_lane(row: &LaneColumns, parked: Vec<ParkedKey>) -> Option<LaneRecord> {
    let mut unpacker = Unpacker(&row.partial);
    let mut partial = Vec::new();
    while !unpacker.0.is_empty() {
        let offset = unpacker.take_number()?;
        partial.push((offset, RouteName::parse(unpacker.take_text()?).ok()?));
    }
    let (words, rest) = row.beyond.as_chunks::<8>();
    let beyond = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    rest.is_empty().then_some(())?;
    Some(LaneRecord {
        lane: lane_name(&row.lane)?,
        partition: Partition(row.partition),
        kind: row.kind.as_str().into(),
        progress: Progress {
            watermark: row.watermark.cast_unsigned(),
            beyond,
            partial,
            reflects: row.reflects.cast_unsigned(),
        },
        parked,
        paused: row.paused,
    })
}

/// Writes a shelf row with a prepared [`PUT_SHELF`].
///
/// # Errors
/// SQLite's.
pub fn put_shelf(statement: &mut Statement<'_>, lane: i64, row: &ShelfRow) -> rusqlite::Result<()> {
    let (state, job) = match row.state {
        ShelfState::Parked => (0, 0),
        ShelfState::Dead => (1, 0),
        ShelfState::Replaying(job) => (2, job.0),
    };
    statement.execute(params![
        lane,
        row.offset.cast_signed(),
        route_text(row.route.as_ref()),
        row.event.position.offset.cast_signed(),
        row.event.received_at.as_millis(),
        row.event.incarnation.0,
        row.order.map(|order| order.0.cast_signed()),
        state,
        u64::cast_signed(job),
        row.cause.map_or(0, cause_code),
        row.attempts,
        row.first_at.as_millis(),
        row.last_at.as_millis(),
        row.holds,
        row.detail
    ])?;
    Ok(())
}

/// A shelf row, from columns in the order of [`SELECT_PARKED`]. `None` for damage.
#[must_use]
pub fn read_shelf(row: &Row<'_>, partition: Partition) -> Option<ShelfRow> {
    let integer = |column: usize| row.get::<_, i64>(column).ok();
    let time = |column: usize| integer(column).map(Timestamp::from_millis);
    let route: String = row.get(1).ok()?;
    let code = u8::try_from(integer(8)?).ok()?;
    Some(ShelfRow {
        offset: integer(0)?.cast_unsigned(),
        route: if route.is_empty() { None } else { Some(RouteName::parse(&route).ok()?) },
        event: EventId {
            received_at: time(3)?,
            incarnation: Incarnation(u32::try_from(integer(4)?).ok()?),
            position: Position { partition, offset: integer(2)?.cast_unsigned() },
        },
        order: row.get::<_, Option<i64>>(5).ok()?.map(|order| OrderKey(order.cast_unsigned())),
        state: match integer(6)? {
            0 => ShelfState::Parked,
            1 => ShelfState::Dead,
            2 => ShelfState::Replaying(ReplayJob(integer(7)?.cast_unsigned())),
            _ => return None,
        },
        cause: if code == 0 { None } else { Some(cause(code)?) },
        detail: row.get::<_, Box<str>>(13).ok()?,
        attempts: u32::try_from(integer(9)?).ok()?,
        first_at: time(10)?,
        last_at: time(11)?,
        holds: integer(12)? != 0,
    })
}

/// Packs a settlement's receipts: the lowest row, the highest, and all of them. `None` when there are none.
#[must_use]
pub fn pack_receipts(receipts: &[Receipt]) -> Option<(i64, i64, Vec<u8>)> {
    let first = receipts.iter().map(|receipt| receipt.offset).min()?;
    let last = receipts.iter().map(|receipt| receipt.offset).max()?;
    let start = receipts.first()?.at;
    let mut packer = Packer(Vec::with_capacity(receipts.len() * 16));
    packer.put_signed(start.as_millis());
    let mut before: Option<&Receipt> = None;
    for receipt in receipts {
        packer.put_number(receipt.offset - first);
        packer.put_signed(receipt.at.as_millis() - start.as_millis());
        packer.0.push(match receipt.ending {
            Ending::Delivered => 0,
            Ending::Parked => 255,
            Ending::Dead(cause) => cause_code(cause),
        });
        packer.put_number(u64::from(receipt.attempts));
        // Routes and answers mostly repeat from one receipt to the next.
        put_unless_same(&mut packer, receipt.route.as_str(), before.map(|before| before.route.as_str()));
        put_unless_same(&mut packer, &receipt.answer, before.map(|before| &*before.answer));
        before = Some(receipt);
    }
    Some((first.cast_signed(), last.cast_signed(), packer.0))
}

/// Reads what [`pack_receipts`] wrote. `None` for damage.
#[must_use]
pub fn unpack_receipts(first: Offset, packed: &[u8]) -> Option<Vec<Receipt>> {
    let mut unpacker = Unpacker(packed);
    let start = unpacker.take_signed()?;
    let mut receipts: Vec<Receipt> = Vec::new();
    while !unpacker.0.is_empty() {
        let offset = first.checked_add(unpacker.take_number()?)?;
        let at = Timestamp::from_millis(start.checked_add(unpacker.take_signed()?)?);
        let ending = match unpacker.take_byte()? {
            0 => Ending::Delivered,
            255 => Ending::Parked,
            code => Ending::Dead(cause(code)?),
        };
        let attempts = u32::try_from(unpacker.take_number()?).ok()?;
        let before = receipts.last();
        let route = match unpacker.take_text_or_none()? {
            Some(text) => RouteName::parse(text).ok()?,
            None => before?.route.clone(),
        };
        let answer = match unpacker.take_text_or_none()? {
            Some(text) => text.into(),
            None => before?.answer.clone(),
        };
        receipts.push(Receipt { offset, route, ending, at, attempts, answer });
    }
    Some(receipts)
}

fn put_unless_same(packer: &mut Packer, text: &str, before: Option<&str>) {
    packer.put_text_or_none(Some(text).filter(|text| before != Some(text)));
}

#[cfg(test)]
mod tests {
    use super::{lane_name, lane_text, pack_receipts, unpack_receipts};
    use crate::{
        domain::{DeadCause, DestinationName, ReplayJob, RouteName, Timestamp},
        journal::{Ending, LaneName, Receipt},
    };

    #[test]
    fn lanes_are_found_by_the_name_they_were_stored_under() {
        let destination = LaneName::Destination(DestinationName::parse("router").unwrap());
        for lane in [LaneName::Router, LaneName::Morgue, destination, LaneName::Replay(ReplayJob(u64::MAX))] {
            assert_eq!(lane_name(&lane_text(&lane)), Some(lane));
        }
        assert_eq!(lane_name("elsewhere"), None);
    }

    #[test]
    fn receipts_are_packed_small_and_read_back() {
        let receipt = |offset, ending, answer: &str| Receipt {
            offset,
            route: RouteName::parse("everything").unwrap(),
            ending,
            at: Timestamp::from_millis(1_726_824_222_989 + i64::try_from(offset % 7).unwrap()),
            attempts: 1,
            answer: answer.into(),
        };
        let mut receipts: Vec<_> = (1_000_000..1_000_100).map(|n| receipt(n, Ending::Delivered, "ack")).collect();
        receipts.push(receipt(7, Ending::Dead(DeadCause::TooLarge), ""));
        receipts.push(receipt(9, Ending::Parked, "returned"));
        let (first, last, packed) = pack_receipts(&receipts).unwrap();
        assert_eq!((first, last), (7, 1_000_099));
        assert!(packed.len() < 1_000, "{}", packed.len());
        assert_eq!(unpack_receipts(7, &packed), Some(receipts));
        assert_eq!(unpack_receipts(7, &packed[..packed.len() - 1]), None);
        assert_eq!(pack_receipts(&[]), None);
    }
}
