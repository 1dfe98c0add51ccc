//! Retention in steps: each is one short transaction on `state.db`, and between two of them whoever settles has a turn.
//!
//! SQLite's locks are not fair: who waits for one looks again only now and then, and two steps back to back would keep a
//! settlement waiting until it gives up.

use crate::journal::{
    WriteError,
    sqlite::database::{checkpoint_passive, transaction, write_error},
};
use rusqlite::Connection;
use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Rows that one step copies or deletes.
pub const ROWS_AT_ONCE: usize = 256;
/// The shortest time that is left to others after a step: a settlement that waits looks for the lock as often at first.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Steps between two checkpoints: the one who settles does not count what is written here, a MiB a step at most, mostly.
const STEPS_BETWEEN: u32 = 4;

/// What the caller says between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// On with the next step.
    On,
    /// End here: the rest is for the next run.
    Over,
}

/// Why a run ends before its end.
#[derive(Debug)]
pub enum Ended {
    /// The caller said so.
    Asked,
    /// A step failed.
    Failed(WriteError),
}

impl From<WriteError> for Ended {
    fn from(error: WriteError) -> Self {
        Self::Failed(error)
    }
}

/// What could not be read now is no reason to stop: nothing was written, and the next run tries again.
pub fn later(error: impl Display) -> WriteError {
    WriteError::Full(format!("retention cannot go on: {error}"))
}

/// The steps of one run.
pub struct Steps<'a> {
    connection: &'a Connection,
    /// Gets how long to leave the lock to others.
    between: &'a mut dyn FnMut(Duration) -> Turn,
    written: u32,
    /// How long the last step held the lock, until others have had their turn.
    held: Option<Duration>,
    /// Whether the caller was asked. The first step of a run is not asked for: however much else there is to do all the
    /// time, each run does something.
    begun: bool,
}

impl<'a> Steps<'a> {
    /// Begins a run.
    pub fn new(connection: &'a Connection, between: &'a mut dyn FnMut(Duration) -> Turn) -> Self {
        Self { connection, between, written: 0, held: None, begun: false }
    }

    /// Reads, outside any step.
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn read<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, Ended> {
        work(self.connection).map_err(|error| later(error).into())
    }

    /// Runs a step, after the others' turn.
    ///
    /// # Errors
    /// [`Ended`]; nothing of the step is there then.
    pub fn write<R>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, Ended> {
        self.look()?;
        let began = Instant::now();
        let result = transaction(self.connection, work)?;
        self.written += 1;
        if self.written.is_multiple_of(STEPS_BETWEEN) {
            self.checkpoint()?;
        }
        self.held = Some(began.elapsed());
        Ok(result)
    }

    /// Lets the others have their turn if there was a step, and asks whether to go on.
    ///
    /// # Errors
    /// [`Ended::Asked`].
    pub fn look(&mut self) -> Result<(), Ended> {
        // Half of the time the lock is free.
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let pause = self.held.take().map_or(Duration::ZERO, |held| held.max(PAUSE_MIN));
        match (self.between)(pause) {
            Turn::On => Ok(()),
            Turn::Over => Err(Ended::Asked),
        }
    }

    /// Writes the WAL back, if anything was written.
    ///
    /// # Errors
    /// [`WriteError::Sync`], mostly: a checkpoint syncs.
    pub fn checkpoint(&self) -> Result<(), Ended> {
        if self.written == 0 {
            return Ok(());
        }
        checkpoint_passive(self.connection).map_err(|error| write_error(&error).into())
    }
}
