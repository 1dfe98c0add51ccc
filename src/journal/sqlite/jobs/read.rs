//! What is to be read of jobs: their list, their items, the audit.

use super::{AuditLine, JobRecord, SELECT_JOB, damaged, find_job, read_job};
use crate::{
    domain::{DestinationName, ReplayJob, Timestamp},
    journal::{
        LaneName, LaneRecord, ReadError, ShelfRow,
        sqlite::{
            queries::{Queries, lanes},
            state_rows::read_shelf,
            writer::PARTITION,
        },
    },
};
use rusqlite::params;

/// A delivery on a job's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its place on the list; grows, is never given twice.
    pub seq: i64,
    /// The delivery.
    pub row: ShelfRow,
    /// Whether it had been delivered before.
    pub again: bool,
}

/// A part of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// The part.
    pub part: ReplayJob,
    /// Where it publishes.
    pub destination: DestinationName,
    /// Its lane.
    pub record: LaneRecord,
    /// Items on its list.
    pub left: u64,
}

impl Queries {
    /// All jobs, the newest first.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged one is passed over.
    pub fn jobs(&self) -> Result<Vec<JobRecord>, ReadError> {
        self.state(|connection| {
            let mut statement = connection.prepare(&format!("{SELECT_JOB} ORDER BY job DESC"))?;
            let found = statement.query_map([], read_job)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().flatten().collect())
        })
    }

    /// One job.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn job(&self, job: ReplayJob) -> Result<Option<JobRecord>, ReadError> {
        self.state(|connection| find_job(connection, job))
    }

    /// The parts of a job.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn job_parts(&self, job: ReplayJob) -> Result<Vec<PartRecord>, ReadError> {
        let found = self.state(|connection| {
            let mut parts = Vec::new();
            for (id, record) in lanes(connection)? {
                let LaneName::Replay(part) = record.lane else { continue };
                if part.whole() != job {
                    continue;
                }
                let sql = "SELECT COUNT(*) FROM shelf WHERE lane = ?1";
                let left: i64 = connection.query_row(sql, [id], |row| row.get(0))?;
                let Ok(destination) = DestinationName::parse(&record.kind) else { return Ok(None) };
                parts.push(PartRecord { part, destination, record, left: left.cast_unsigned() });
            }
            Ok(Some(parts))
        })?;
        found.ok_or_else(|| damaged(job))
    }

    /// Items of a part behind a place on its list, in order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn job_items(&self, part: ReplayJob, after: i64, rows: usize) -> Result<Vec<Item>, ReadError> {
        let items = self.state(|connection| {
            let Some(lane) = super::feed::lane_id(connection, &LaneName::Replay(part))? else { return Ok(Vec::new()) };
            let sql = "SELECT shelf.row, shelf.route, event, received_at, incarnation, order_key, state, job, cause, \
                 attempts, first_at, last_at, holds, detail, seq, again FROM job_items \
                 JOIN shelf ON shelf.lane = job_items.lane AND shelf.row = job_items.row \
                 AND shelf.route = job_items.route \
                 WHERE job_items.lane = ?1 AND seq > ?2 AND dead = 0 ORDER BY seq LIMIT ?3";
            let mut statement = connection.prepare(sql)?;
            let limit = i64::try_from(rows).unwrap_or(i64::MAX);
            let item = |row: &rusqlite::Row<'_>| {
                let (seq, again) = (row.get(14)?, row.get(15)?);
                Ok(read_shelf(row, PARTITION).map(|row| Item { seq, row, again }))
            };
            statement.query_map(params![lane, after, limit], item)?.collect::<Result<Vec<_>, _>>()
        })?;
        items.into_iter().map(|item| item.ok_or_else(|| damaged(part.whole()))).collect()
    }

    /// Lines of the audit below a number, the newest first.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn audit(&self, below: Option<i64>, rows: usize) -> Result<Vec<AuditLine>, ReadError> {
        self.state(|connection| {
            let sql = "SELECT id, at, who, what FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
            let mut statement = connection.prepare(sql)?;
            let line = |row: &rusqlite::Row<'_>| {
                let at = Timestamp::from_millis(row.get(1)?);
                Ok(AuditLine { id: row.get(0)?, at, who: row.get(2)?, what: row.get(3)? })
            };
            let limit = i64::try_from(rows).unwrap_or(i64::MAX);
            statement.query_map(params![below.unwrap_or(i64::MAX), limit], line)?.collect()
        })
    }
}
