//! Removes what retention lets go: segments, files of ids, dead letters, receipts.
//!
//! What lies on a shelf is copied into `state.db` and synced before its segment is unlinked. A crash in between leaves
//! rows twice, or a segment that goes the next time.

use crate::{
    core::{
        jump::{Jumps, Moment},
        retention::{Facts, IdsFacts, Plan, SegmentFacts, plan},
    },
    domain::{Offset, Timestamp},
    journal::{
        Heads, Retention, WriteError,
        sqlite::{
            OpenError,
            copies::copy_shelves,
            database::open_state,
            folder::remove_database,
            log::SqliteLog,
            room::Room,
            sealing::IdsFiles,
            steps::{Ended, Steps, Turn, later},
            sweep,
        },
    },
};
use rusqlite::Connection;
use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// One statement, so that all are of one moment: between two, an event could leave the router's shelf and be missed by both.
const SELECT_WATERMARKS: &str = "SELECT COALESCE(MIN(CASE WHEN lane = 'router' THEN watermark END), 0), \
     COALESCE(MIN(CASE WHEN lane != 'router' AND lane NOT LIKE 'replay:%' THEN watermark END), 9223372036854775807), \
     (SELECT COALESCE(MIN(pin), 9223372036854775807) FROM jobs \
     WHERE NOT complete AND state IN ('running', 'paused')), \
     (SELECT COALESCE(MIN(event), 9223372036854775807) FROM shelf \
     WHERE lane IN (SELECT id FROM lanes WHERE lane = 'router')) FROM lanes";

/// Carries retention out. One thread runs it now and then.
#[derive(Debug)]
pub struct Retainer {
    log: SqliteLog,
    ids: Arc<IdsFiles>,
    room: Arc<Room>,
    rules: Retention,
    /// On `state.db`, beside the one that settles.
    connection: Connection,
    /// Whether the clock is to be believed.
    jumps: Jumps,
    swept: Swept,
}

/// What earlier runs have looked through, so that the next ones need not.
#[derive(Debug, Clone, Copy, Default)]
struct Swept {
    /// Receipts of rows below this are gone.
    receipts_below: Offset,
    /// Every copied record belongs to a copied decision.
    records: bool,
}

/// What a run removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Segments.
    pub segments: usize,
    /// Files of ids.
    pub ids: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Rows of shelves that were copied first.
    pub copied: usize,
}

impl Retainer {
    /// Removes from the store that a log reads.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(log: SqliteLog, ids: Arc<IdsFiles>, room: Arc<Room>, rules: Retention) -> Result<Self, OpenError> {
        let path = log.catalog().folder.state();
        let connection = open_state(&path).map_err(|source| OpenError::Database { path, source })?;
        Ok(Self { log, ids, room, rules, connection, jumps: Jumps::default(), swept: Swept::default() })
    }

    /// Removes what may go now. `pins` are the lowest rows that replays and ranges of dead letters need, `u64::MAX`
    /// where nothing does; lanes and shelves are looked up. `between` is asked between two steps: it leaves the lock on
    /// `state.db` to others for so long, and says whether to go on.
    ///
    /// # Errors
    /// [`WriteError::Full`] when there was no room to copy a shelf, or something could not be opened or read: the next run
    /// tries again. [`WriteError::Sync`], of a write or sync that failed, stops the process.
    pub fn run(
        &mut self,
        moment: Moment,
        pins: Heads,
        between: &mut dyn FnMut(Duration) -> Turn,
    ) -> Result<Removed, WriteError> {
        let now = self.believed(moment);
        let (mut removed, mut swept) = (Removed::default(), self.swept);
        let mut steps = Steps::new(&self.connection, between);
        let ended = self.remove((now, pins), &mut steps, &mut removed, &mut swept);
        self.swept = swept;
        match ended {
            Ok(()) | Err(Ended::Asked) => Ok(removed),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    fn remove(
        &self,
        (now, pins): (Timestamp, Heads),
        steps: &mut Steps<'_>,
        removed: &mut Removed,
        swept: &mut Swept,
    ) -> Result<(), Ended> {
        self.measure()?;
        let plan = self.plan(now, pins)?;
        if !plan.segments.is_empty() {
            copy_shelves(&self.log, steps, plan.below, &mut removed.copied)?;
        }
        self.remove_segments(&plan.segments, &mut removed.segments)?;
        self.remove_ids(&plan.ids, &mut removed.ids)?;
        sweep::dead_letters(steps, plan.dead_letters_before, &mut removed.dead_letters)?;
        let first = self.log.catalog().first();
        if swept.receipts_below < first.routed {
            sweep::receipts(steps, first.routed)?;
            swept.receipts_below = first.routed;
        }
        sweep::copies(steps, first, &mut swept.records)?;
        sweep::shrink(steps)?;
        steps.checkpoint()?;
        self.measure()
    }

    /// The time by which things are old. While the clock is not believed nothing is; what must go for want of room goes.
    fn believed(&mut self, moment: Moment) -> Timestamp {
        if self.jumps.is_believed(moment) {
            return moment.now;
        }
        tracing::warn!(now = %moment.now, "the clock has jumped ahead: nothing goes by its age until it has said so for a while");
        Timestamp::EPOCH
    }

    fn measure(&self) -> Result<(), Ended> {
        let state = sweep::bytes_used(&self.connection).map_err(later)?;
        self.room.measure(&self.log.catalog().folder, state).map_err(|error| later(error).into())
    }

    fn plan(&self, now: Timestamp, pins: Heads) -> Result<Plan, WriteError> {
        // First: a decision that is appended and settled from now on is in the segments that are looked at next, and counts
        // as unread.
        let watermarks = self.watermarks()?;
        let catalog = self.log.catalog();
        let sealed_below = catalog.sealed_below();
        let bytes = |number| fs::metadata(catalog.folder.segment(number)).map_or(0, |metadata| metadata.len());
        let segments: Vec<_> = catalog
            .stretches()
            .iter()
            .map(|stretch| SegmentFacts {
                number: stretch.segment.number,
                end: stretch.end,
                closed_at: stretch.closed_at,
                sealed: stretch.segment.number < sealed_below,
                oldest_event: stretch.segment.oldest_event(),
                bytes: bytes(stretch.segment.number),
            })
            .collect();
        let ids = self.ids.headers();
        let ids: Vec<_> =
            ids.iter().map(|(number, header)| IdsFacts { number: *number, closed_at: header.closed_at }).collect();
        Ok(plan(&Facts {
            segments: &segments,
            ids: &ids,
            watermarks,
            pins,
            now,
            rules: self.rules,
            used: self.room.used(),
        }))
    }

    /// The lowest rows that lanes still have to read, all at one moment. Replays keep what they have chosen on shelves, and
    /// pin the events that they have still to look at. A store without a router keeps everything. An event on the router's
    /// shelf is not decided yet: whoever reads its decision some day needs it in the log.
    fn watermarks(&self) -> Result<Heads, WriteError> {
        let marks = self.connection.query_row(SELECT_WATERMARKS, [], |row| {
            let mark = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok((mark(0)?, mark(1)?, mark(2)?, mark(3)?))
        });
        let (router, lanes, replays, parked) = marks.map_err(later)?;
        Ok(Heads { events: router.min(replays).min(parked), routed: lanes })
    }

    fn remove_segments(&self, numbers: &[u32], removed: &mut usize) -> Result<(), Ended> {
        let catalog = self.log.catalog();
        // All at once: it is quick, and where segments fill faster than one is sealed there would never be a better time.
        for number in numbers {
            catalog.remove(*number);
            remove_database(&catalog.folder.segment(*number)).map_err(|error| io_error(&error))?;
            *removed += 1;
        }
        if *removed > 0 {
            sync(&catalog.folder.events())?;
        }
        Ok(())
    }

    fn remove_ids(&self, numbers: &[u32], removed: &mut usize) -> Result<(), Ended> {
        let folder = &self.log.catalog().folder;
        for number in numbers {
            self.ids.remove(*number);
            fs::remove_file(folder.ids_file(*number)).map_err(|error| io_error(&error))?;
            *removed += 1;
        }
        if *removed > 0 {
            sync(&folder.ids())?;
        }
        Ok(())
    }
}

/// Makes what was removed from a folder durable. Without a handle to sync it by, the next run removes what has come back.
fn sync(folder: &Path) -> Result<(), WriteError> {
    File::open(folder).map_err(later)?.sync_all().map_err(|error| io_error(&error))
}

fn io_error(error: &io::Error) -> WriteError {
    crate::journal::sqlite::folder::io_error(error)
}
