//! Checkpoints beside the writer.
//!
//! Made by the writer itself, they stalled it (p99 of 25 to 66 ms at saturation); made only beside it, they never
//! catch up with a busy writer and the WAL grows without bound. So: every [`EVENTS_BETWEEN`] events a passive one on a
//! connection of its own, and one more for what came in meanwhile; then a short one by the writer between two batches, which
//! lets the next batch start the WAL over.
//!
//! A checkpoint syncs what it wrote back, and the writer's own sync waits behind that in the disk's queue: little and often
//! keeps the slowest answers fast. With 20,000 events at once the slowest hundredth took 18 to 26 ms at half the pace, with
//! 2,000 it takes 5 to 6, at the same cost an event.
//!
//! A checkpoint syncs, so its error is a sync error: the writer learns of it before its next batch. A full disk is none: what
//! finds no room in the database stays in the WAL, where it is durable, and the next checkpoint tries again. The WAL
//! does not start over meanwhile; when it cannot grow either, the batch itself finds no room. Nor is it one when the database
//! cannot be opened for a checkpoint, as where no more files may be open: the next one tries again.

use crate::journal::{
    WriteError,
    sqlite::{
        OpenError,
        database::{checkpoint_all, checkpoint_passive, open_writer, write_error},
    },
};
use rusqlite::Connection;
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

/// Rows between two checkpoints.
const EVENTS_BETWEEN: u64 = 2_000;
/// Bytes between two checkpoints, for stores with large bodies.
const BYTES_BETWEEN: u64 = 4 << 20;

/// How much of a WAL is written again at a time.
const REWRITE_BYTES: usize = 256 << 10;

/// What the thread is asked to do.
enum Job {
    /// From now on this database is written to.
    Open(PathBuf),
    /// A passive checkpoint.
    Passive,
    /// The writer moved on: write everything back and close.
    Close(Connection),
}

#[derive(Debug, Default)]
struct Shared {
    /// A checkpoint is asked for and not made yet.
    underway: AtomicBool,
    /// One was made: the writer's turn.
    made: AtomicBool,
    errors: AtomicU64,
    error: Mutex<Option<String>>,
}

/// The thread that checkpoints one database after another, and the writer's account of when it is due.
#[derive(Debug)]
pub struct Checkpointer {
    jobs: Option<SyncSender<Job>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    rows: u64,
    bytes: u64,
}

impl Checkpointer {
    /// Starts the thread for a database.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(path: &Path) -> std::io::Result<Self> {
        // A roll asks for two things at once; more never wait, as a passive one is asked for one at a time.
        let (jobs, asked) = sync_channel(8);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || run(&asked, &theirs))?;
        let mut this = Self { jobs: Some(jobs), shared, thread: Some(thread), rows: 0, bytes: 0 };
        this.send(Job::Open(path.to_owned()));
        Ok(this)
    }

    /// How many checkpoints failed, not counting those that found no room.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// To be called between two batches: makes the writer's short checkpoint when it is its turn, and reports a
    /// failed one.
    ///
    /// # Errors
    /// [`WriteError::Sync`] once a checkpoint has failed.
    pub fn between_batches(&mut self, connection: &Connection) -> Result<(), WriteError> {
        if self.shared.made.swap(false, Ordering::AcqRel) {
            if let Err(error) = checkpoint_passive(connection) {
                self.shared.fail(&error);
            }
            self.shared.underway.store(false, Ordering::Release);
        }
        if self.shared.errors.load(Ordering::Acquire) > 0 {
            let error = self.shared.error.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(WriteError::Sync(format!("a checkpoint failed: {}", error.as_deref().unwrap_or("unknown"))));
        }
        Ok(())
    }

    /// Counts what a batch wrote; asks for a checkpoint when one is due.
    pub fn wrote(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
        let due = self.rows >= EVENTS_BETWEEN || self.bytes >= BYTES_BETWEEN;
        if due && !self.shared.underway.swap(true, Ordering::AcqRel) {
            (self.rows, self.bytes) = (0, 0);
            self.send(Job::Passive);
        }
    }

    /// The writer goes on in another database; the old one is written back whole and closed.
    pub fn move_on(&mut self, old: Connection, path: &Path) {
        self.send(Job::Close(old));
        self.send(Job::Open(path.to_owned()));
    }

    fn send(&mut self, job: Job) {
        // The thread ends only when this end is dropped.
        if let Some(jobs) = &self.jobs {
            jobs.send(job).ok();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn fail(&self, error: &rusqlite::Error) {
        match write_error(error) {
            WriteError::Full(why) => {
                tracing::warn!(%why, "no room for a checkpoint: the WAL keeps what it has, the next one tries again");
            }
            WriteError::Sync(why) => {
                *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                self.errors.fetch_add(1, Ordering::AcqRel);
            }
            WriteError::Fenced => {}
        }
    }
}

/// Makes what a start finds in a WAL durable before anything is served: written back into the database and synced; on a
/// full disk, written again where it lies and synced, which needs no room.
///
/// A sync alone would not do for the latter: where one failed before, the pages may be in memory alone and count as written.
///
/// # Errors
/// [`OpenError`]: nothing may be served then.
pub fn make_durable(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let Err(source) = checkpoint_all(connection) else { return Ok(()) };
    let WriteError::Full(why) = write_error(&source) else {
        return Err(OpenError::Database { path: path.to_owned(), source });
    };
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let wal = PathBuf::from(wal);
    write_again(&wal).map_err(|source| OpenError::Folder { path: wal, source })?;
    tracing::warn!(path = %path.display(), %why, "no room to write the WAL back: it keeps what it has");
    Ok(())
}

/// Writes a file's bytes over themselves and syncs them. SQLite holds no lock on a WAL that closing the file would lose.
fn write_again(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut block = vec![0; REWRITE_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut block, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(block.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
}

fn run(asked: &Receiver<Job>, shared: &Shared) {
    let mut current: Option<PathBuf> = None;
    let mut open: Option<Connection> = None;
    for job in asked {
        match job {
            Job::Open(path) => {
                open = try_to_open(&path);
                current = Some(path);
            }
            Job::Passive => {
                open = open.or_else(|| try_to_open(current.as_ref()?));
                let Some(open) = &open else {
                    shared.underway.store(false, Ordering::Release);
                    continue;
                };
                match checkpoint_passive(open).and_then(|()| checkpoint_passive(open)) {
                    Ok(()) => shared.made.store(true, Ordering::Release),
                    Err(error) => {
                        shared.fail(&error);
                        // The writer has nothing to add; the next one that is due may be asked for.
                        shared.underway.store(false, Ordering::Release);
                    }
                }
            }
            Job::Close(old) => {
                (open, current) = (None, None);
                // Readers or a full disk may keep the WAL alive; the next start then writes the rest back.
                if let Err(error) = checkpoint_all(&old) {
                    shared.fail(&error);
                }
            }
        }
    }
}

/// Nothing is written by an attempt that fails.
fn try_to_open(path: &Path) -> Option<Connection> {
    open_writer(path)
        .inspect_err(|error| {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot open a database for checkpoints: the next one tries again");
        })
        .ok()
}
