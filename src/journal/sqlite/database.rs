//! How a database file is opened, and what SQLite's errors mean for the store.
//!
//! WAL with `synchronous=FULL`: a commit is durable when it returns. Never less: NORMAL lost 960 of 7,935
//! acknowledged commits when the power was cut in a test. No memory map: a bad sector would end the process with
//! SIGBUS, where a read reports it for its row alone.

use crate::journal::WriteError;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::{path::Path, time::Duration};

/// Bytes of a page.
///
/// Measured with `benches/journal.rs`, 1 KB bodies, a decision for each: pages of 8 KiB save a tenth of the CPU in
/// batches of 64 and more, but write a third more bytes an event in batches of 16; 16 KiB write nearly twice as many.
pub const PAGE_BYTES: u32 = 4_096;

/// How long a statement waits for a lock. Nobody but us has a file open, and we hold locks for milliseconds; only a disk
/// that stalls makes it longer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What stays of the WAL of `state.db` when it starts over: more than it grows to between two checkpoints, mostly.
const STATE_WAL_BYTES_KEPT: u32 = 2 << 20;

/// Statements that a connection keeps prepared.
const STATEMENTS_KEPT: usize = 32;

/// Opens a database to write to it; it is made if it is not there.
///
/// # Errors
/// SQLite's.
pub fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    write_ahead(&connection)?;
    Ok(connection)
}

/// Opens `state.db` to write to it, as [`open_writer`] does. Rows leave it again, and what they took is given back: the
/// pages by `incremental_vacuum`, which a database must be made for, and the WAL beyond [`STATE_WAL_BYTES_KEPT`].
///
/// # Errors
/// SQLite's.
pub fn open_state(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path)?;
    // Before the first page is written. A database that is there keeps what it was made with; to say so again would write,
    // and a start on a full disk must not.
    if connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    write_ahead(&connection)?;
    connection.pragma_update(None, "journal_size_limit", STATE_WAL_BYTES_KEPT)?;
    Ok(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    Ok(connection)
}

fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints are made on purpose, see `checkpoint`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Opens a database to read from it.
///
/// # Errors
/// SQLite's.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    // Pages are read once, in order: half a MiB is plenty.
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(())
}

/// Writes the WAL back into the database and syncs it, as far as readers and writers allow.
///
/// # Errors
/// SQLite's.
pub fn checkpoint_passive(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Writes all of the WAL back, syncs, and empties it. `false` when a reader or writer stood in the way.
///
/// # Errors
/// SQLite's.
pub fn checkpoint_all(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Runs a transaction: all of it, or none of it.
///
/// # Errors
/// [`WriteError`], with everything rolled back.
pub fn transaction<R>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<R>,
) -> Result<R, WriteError> {
    let run = |connection: &Connection| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let result = work(connection)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(result)
    };
    run(connection).map_err(|error| {
        let mut meaning = write_error(&error);
        if !connection.is_autocommit()
            && let Err(rollback) = connection.execute_batch("ROLLBACK")
        {
            meaning = WriteError::Sync(format!("{error}, and the rollback failed: {rollback}"));
        }
        meaning
    })
}

/// What a failed write means: a lack of room or of files, or another's lock, is waited out; everything else stops the
/// process.
#[must_use]
pub fn write_error(error: &rusqlite::Error) -> WriteError {
    match error {
        // The shared-memory file of the WAL could not grow: nothing of the transaction was written.
        rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
            WriteError::Full(error.to_string())
        }
        // A file that cannot be opened was not written to either: the process may have too many open.
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(failure.code, ErrorCode::DiskFull | ErrorCode::CannotOpen) =>
        {
            WriteError::Full(error.to_string())
        }
        // The lock was not to be had in `BUSY_TIMEOUT`: nothing of the transaction was written.
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(failure.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) =>
        {
            WriteError::Full(format!("another write goes on: {error}"))
        }
        _ => WriteError::Sync(error.to_string()),
    }
}

/// Whether a read failed because of what is on the disk there, so that its neighbours may still be read.
#[must_use]
pub fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure | ErrorCode::TooBig
        ),
        _ => false,
    }
}
