//! What reading the vendors' lists leaves in `state.db`: how far each feed has come, and the jobs that read history.

use crate::{
    domain::Timestamp,
    journal::{ReadError, WriteError, sqlite::state::SqliteState},
};
use rusqlite::{Connection, OptionalExtension, params};

/// The tables; a store that was made before them gets them when it is opened.
///
/// A job's text is its owner's.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS marks(feed TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reconciles(id INTEGER PRIMARY KEY, text TEXT NOT NULL);
";

/// How far a feed has come.
pub(super) fn mark(connection: &Connection, feed: &str) -> rusqlite::Result<Option<Timestamp>> {
    let mut statement = connection.prepare_cached("SELECT at FROM marks WHERE feed = ?1")?;
    let at: Option<i64> = statement.query_row([feed], |row| row.get(0)).optional()?;
    Ok(at.map(Timestamp::from_millis))
}

/// Notes how far a feed has come.
pub(super) fn set_mark(connection: &Connection, feed: &str, mark: Timestamp) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO marks VALUES(?1, ?2)")?;
    statement.execute(params![feed, mark.as_millis()]).map(|_| ())
}

impl SqliteState {
    /// The texts of all jobs that read history, by number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn reconciles(&self) -> Result<Vec<(u32, String)>, ReadError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, text FROM reconciles ORDER BY id")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Stores the text of a job.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn put_reconcile(&mut self, id: u32, text: &str) -> Result<(), WriteError> {
        self.write(1, |connection, _| {
            let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO reconciles VALUES(?1, ?2)")?;
            statement.execute(params![id, text]).map(|_| ())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::Timestamp,
        journal::{
            State,
            sqlite::{open, store_tests::options},
        },
    };

    #[test]
    fn marks_and_jobs_outlive_a_restart_and_an_older_store_gets_their_tables() {
        let place = tempfile::tempdir().unwrap();
        let mut store = open(&options(place.path())).unwrap();
        store
            .state
            .write(0, |connection, _| connection.execute_batch("DROP TABLE marks; DROP TABLE reconciles"))
            .unwrap();
        drop(store);
        let mut store = open(&options(place.path())).unwrap();
        assert_eq!(store.state.mark("clients:laigu/acme").unwrap(), None);
        for at in [5, 7] {
            store.state.set_mark("clients:laigu/acme", Timestamp::from_millis(at)).unwrap();
            store.state.put_reconcile(3, &at.to_string()).unwrap();
        }
        drop(store);
        let store = open(&options(place.path())).unwrap();
        assert_eq!(store.state.mark("clients:laigu/acme").unwrap(), Some(Timestamp::from_millis(7)));
        assert_eq!(store.state.mark("conversations:laigu/acme").unwrap(), None);
        assert_eq!(store.state.reconciles().unwrap(), [(3, "7".to_owned())]);
    }
}
