//! What the store says right after a kill: which deliveries have no durable receipt. Read without changing a byte, so
//! that the next start finds what the crash left.

use laigu_router::{
    domain::DestinationName,
    journal::sqlite::{
        decision::unpack,
        state_rows::{LaneColumns, read_lane},
    },
};
use rusqlite::{Connection, OpenFlags};
use std::{fs, path::Path};

/// Deliveries to a destination that stand in ROUTED and that its lane's durable progress does not count as settled.
pub fn unreceipted(store: &Path, destination: &str) -> usize {
    let state = open(&store.join("state.db"));
    let select = "SELECT lane, partition, kind, paused, watermark, reflects, beyond, partial, id FROM lanes \
                  WHERE lane = ?1";
    let lane = state.query_row(select, [format!("destination:{destination}")], LaneColumns::read).unwrap();
    let progress = read_lane(&lane, Vec::new()).expect("a whole row").progress;
    let name = DestinationName::parse(destination).unwrap();
    let mut count = 0;
    for (offset, targets) in routed_from(store, progress.watermark) {
        let bit = usize::try_from(offset - progress.watermark).unwrap();
        if progress.beyond.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1) {
            continue;
        }
        let decision = unpack(&targets).expect("a whole row");
        let settled = |route: &_| progress.partial.iter().any(|(row, done)| *row == offset && done == route);
        count += decision.targets.iter().filter(|target| target.destination == name && !settled(&target.route)).count();
    }
    count
}

fn routed_from(store: &Path, from: u64) -> Vec<(u64, Vec<u8>)> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(store.join("events")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let segment = open(&path);
        // A segment that was being made has no tables yet.
        let Ok(mut select) = segment.prepare("SELECT offset, targets FROM routed WHERE offset >= ?1") else { continue };
        let found =
            select.query_map([from.cast_signed()], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)));
        rows.extend(found.unwrap().map(Result::unwrap));
    }
    rows
}

fn open(path: &Path) -> Connection {
    let uri = format!("file:{}?mode=ro&readonly_shm=1", path.display());
    Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).unwrap()
}
