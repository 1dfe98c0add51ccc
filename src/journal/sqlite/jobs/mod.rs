//! Replay jobs in `state.db`: what was asked for, how far it is, and the list of what is still to be delivered.
//!
//! A job chooses (dead letters, or events) chunk by chunk. Each chosen delivery becomes an *item*: a row on the shelf of
//! the job's own lane for that destination (its *part*), in the transaction that moves the job's cursor. From then on
//! the list itself says what is left: an item leaves it in the transaction that records how it ended. So a crash repeats
//! what was out, and nothing is chosen twice or forgotten.
//!
//! A dead letter that was chosen is the *origin* of its items: it stays on its shelf, marked as the job's, until all of
//! them have ended. Then it goes; or, if one of them died, is a dead letter again. Items without an origin, and those
//! that today's routes decided anew, leave dead letters of their own when they die.
//!
//! The lane of a part stays when the job is over: its receipts are lines of timelines.

pub mod discard;
pub mod feed;
pub mod read;
pub mod settle;
#[cfg(test)]
mod tests;

use crate::{
    domain::{Offset, ReplayJob, Timestamp},
    journal::{ReadError, WriteError, sqlite::state::SqliteState},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// What jobs need in `state.db`; made where it is missing.
pub const TABLES: &str = "
CREATE TABLE IF NOT EXISTS jobs(
  job INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, definition TEXT NOT NULL, state TEXT NOT NULL,
  since INTEGER NOT NULL, cursor TEXT, complete INTEGER NOT NULL, pin INTEGER, matched INTEGER NOT NULL,
  delivered INTEGER NOT NULL, failed INTEGER NOT NULL, kept INTEGER NOT NULL, gone INTEGER NOT NULL, last_error TEXT);
CREATE TABLE IF NOT EXISTS job_items(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, row INTEGER NOT NULL, route TEXT NOT NULL,
  again INTEGER NOT NULL, moved INTEGER NOT NULL, dead INTEGER NOT NULL,
  origin_lane INTEGER, origin_row INTEGER, origin_route TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS job_item ON job_items(lane, row, route);
CREATE INDEX IF NOT EXISTS job_lane ON job_items(lane);
CREATE INDEX IF NOT EXISTS job_origin ON job_items(origin_lane, origin_row, origin_route)
  WHERE origin_lane IS NOT NULL;
";

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It chooses and publishes, or waits for its turn to.
    Running,
    /// An operator holds it.
    Paused,
    /// An operator ends it: what is out is waited for, then the rest is given back.
    Cancelling,
    /// All it chose has ended.
    Done,
    /// An operator ended it.
    Cancelled,
    /// It cannot be carried out.
    Failed,
}

impl JobState {
    const ALL: [Self; 6] = [Self::Running, Self::Paused, Self::Cancelling, Self::Done, Self::Cancelled, Self::Failed];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a job has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Deliveries chosen.
    pub matched: u64,
    /// Of them, those made.
    pub delivered: u64,
    /// Of them, those that died: dead letters again.
    pub failed: u64,
    /// Chosen dead letters that stay as they are: today's routes send them nowhere, or they die again on decision.
    pub kept: u64,
    /// Rows that retention had taken before they were looked at.
    pub gone: u64,
}

impl Counts {
    /// Deliveries chosen that have not ended.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.matched.saturating_sub(self.delivered + self.failed)
    }
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// The job.
    pub job: ReplayJob,
    /// When it was asked for.
    pub at: Timestamp,
    /// By whom.
    pub who: String,
    /// What was asked for; JSON, whoever asks knows its shape.
    pub definition: String,
    /// Where it stands.
    pub state: JobState,
    /// Since when.
    pub since: Timestamp,
    /// How far it has chosen; `None`: from the beginning.
    pub cursor: Option<String>,
    /// Whether it has chosen all.
    pub complete: bool,
    /// What it has counted.
    pub counts: Counts,
    /// What last went wrong for good.
    pub last_error: Option<String>,
}

/// A line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number: lists go down by it.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of a token.
    pub who: String,
    /// What, in words.
    pub what: String,
}

const SELECT_JOB: &str = "SELECT job, at, who, definition, state, since, cursor, complete, matched, delivered, failed, \
     kept, gone, last_error FROM jobs";

/// Adds a line to the audit.
///
/// # Errors
/// SQLite's.
pub fn audit(connection: &Connection, at: Timestamp, who: &str, what: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit(at, who, what) VALUES(?1, ?2, ?3)";
    connection.execute(sql, params![at.as_millis(), who, what]).map(|_| ())
}

impl SqliteState {
    /// Takes a job on; nothing is chosen yet. `words` are its definition as the audit tells it; `pin` is the first event it will read, if it reads events.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn create_job(
        &mut self,
        at: Timestamp,
        who: &str,
        (definition, words): (&str, &str),
        pin: Option<Offset>,
    ) -> Result<ReplayJob, WriteError> {
        self.write(2, |connection, _| {
            let last: Option<i64> = connection.query_row("SELECT MAX(job) FROM jobs", [], |row| row.get(0))?;
            let job = ReplayJob(last.map_or(0, i64::cast_unsigned) + ReplayJob::STEP);
            let sql = "INSERT INTO jobs(job, at, who, definition, state, since, complete, pin, matched, delivered, \
                 failed, kept, gone) VALUES(?1, ?2, ?3, ?4, 'running', ?2, 0, ?5, 0, 0, 0, 0, 0)";
            let pin = pin.map(u64::cast_signed);
            connection.execute(sql, params![job.0.cast_signed(), at.as_millis(), who, definition, pin])?;
            audit(connection, at, who, &format!("replay {job} begins: {words}"))?;
            Ok(job)
        })
    }

    /// Moves a job to another state if it is in one of `from`, with a line of the audit. The job as it is afterwards;
    /// `None` if there is none.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn move_job(
        &mut self,
        job: ReplayJob,
        from: &[JobState],
        to: JobState,
        (at, who): (Timestamp, &str),
    ) -> Result<Option<JobRecord>, WriteError> {
        self.write(2, |connection, _| {
            let Some(record) = find_job(connection, job)? else { return Ok(None) };
            if !from.contains(&record.state) {
                return Ok(Some(record));
            }
            note_state(connection, &record, to, (at, who))?;
            Ok(Some(JobRecord { state: to, since: at, ..record }))
        })
    }

    /// Notes why a job cannot go on.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn note_job_error(&mut self, job: ReplayJob, why: &str) -> Result<(), WriteError> {
        self.write(1, |connection, _| {
            let sql = "UPDATE jobs SET last_error = ?2 WHERE job = ?1";
            connection.execute(sql, params![job.0.cast_signed(), why]).map(|_| ())
        })
    }
}

/// Writes a job's new state, and tells the audit.
fn note_state(
    connection: &Connection,
    record: &JobRecord,
    to: JobState,
    (at, who): (Timestamp, &str),
) -> rusqlite::Result<()> {
    let sql = "UPDATE jobs SET state = ?2, since = ?3 WHERE job = ?1";
    connection.execute(sql, params![record.job.0.cast_signed(), to.as_str(), at.as_millis()])?;
    let Counts { matched, delivered, failed, kept, gone } = record.counts;
    let what = format!(
        "replay {} is {}: {matched} matched, {delivered} delivered, {failed} failed, {kept} kept, {gone} gone",
        record.job,
        to.as_str()
    );
    audit(connection, at, who, &what)
}

fn find_job(connection: &Connection, job: ReplayJob) -> rusqlite::Result<Option<JobRecord>> {
    let found = connection.query_row(&format!("{SELECT_JOB} WHERE job = ?1"), [job.0.cast_signed()], read_job);
    Ok(found.optional()?.flatten())
}

/// A row of [`SELECT_JOB`]. `None` for damage.
fn read_job(row: &Row<'_>) -> rusqlite::Result<Option<JobRecord>> {
    let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let Some(state) = JobState::parse(&row.get::<_, String>(4)?) else { return Ok(None) };
    Ok(Some(JobRecord {
        job: ReplayJob(count(0)?),
        at: Timestamp::from_millis(row.get(1)?),
        who: row.get(2)?,
        definition: row.get(3)?,
        state,
        since: Timestamp::from_millis(row.get(5)?),
        cursor: row.get(6)?,
        complete: row.get(7)?,
        counts: Counts {
            matched: count(8)?,
            delivered: count(9)?,
            failed: count(10)?,
            kept: count(11)?,
            gone: count(12)?,
        },
        last_error: row.get(13)?,
    }))
}

/// A job that could not be read.
fn damaged(job: ReplayJob) -> ReadError {
    ReadError(format!("{job} of state.db is damaged"))
}
