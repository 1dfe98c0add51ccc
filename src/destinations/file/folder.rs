//! The folder of a file destination: which file is written, and how its end stays whole.
//!
//! Files are `events-YYYYMMDD-NNN.ndjson`, by the day in UTC. Only the newest is ever written, by one process at
//! a time (the folder is locked). What is on disk after a crash is a run of whole lines and at most one torn one,
//! which is cut before anything is written behind it. A file whose sync failed is never written again: what its
//! unsynced part looks like on disk is not known.

use crate::domain::Timestamp;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A file is not written beyond this, unless a single piece is larger.
pub const FILE_BYTES_MAX: u64 = 100 << 20;
/// What the probe after a failure writes: more than a file system keeps back for metadata.
const PROBE_BYTES: usize = 64 << 10;
/// How much of a file's end is read at a time to find its last line.
const TAIL_BYTES: u64 = 64 << 10;
/// The action after which the end of a file is not known.
const SYNC: &str = "sync";

/// Why the folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something about the folder or a file in it failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another destination or process writes there.
    #[error("`{}` is written by another destination or process: give each a folder of its own", .0.display())]
    Locked(PathBuf),
    /// The file was removed, cut or written by someone else.
    #[error("`{}` was changed by someone else", .0.display())]
    Changed(PathBuf),
}

impl FolderError {
    /// Whether it leaves open what is on disk.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Io { action: SYNC, .. })
    }
}

/// A file's place among the others: day as `YYYYMMDD`, and number within it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Place {
    day: u32,
    number: u32,
}

impl Place {
    fn name(self) -> String {
        format!("events-{:08}-{:03}.ndjson", self.day, self.number)
    }

    fn parse(name: &str) -> Option<Self> {
        let (day, number) = name.strip_prefix("events-")?.strip_suffix(".ndjson")?.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if day.len() != 8 || number.len() < 3 || !digits(day) || !digits(number) {
            return None;
        }
        Some(Self { day: day.parse().ok()?, number: number.parse().ok()? })
    }
}

/// The file being written.
#[derive(Debug)]
struct Current {
    file: File,
    name: Box<str>,
    /// Where it ends.
    len: u64,
    /// How much of it is known to be on disk.
    synced: u64,
}

/// A folder, open for writing.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked for as long as it is open; synced when a file is made.
    dir: File,
    place: Place,
    /// `None` until something is written behind the newest file.
    current: Option<Current>,
    bytes_max: u64,
}

impl Folder {
    /// Opens the folder, makes it if it is missing, and cuts a torn last line.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, FolderError> {
        create(path)?;
        let dir = File::open(path).map_err(io_error("open", path))?;
        dir.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FolderError::Locked(path.to_owned()),
            TryLockError::Error(source) => io_error("lock", path)(source),
        })?;
        // The newest file may be the work of a process that was killed before it synced the file's name.
        dir.sync_all().map_err(io_error(SYNC, path))?;
        let mut folder = Self { path: path.to_owned(), dir, place: newest(path)?, current: None, bytes_max };
        if folder.place != Place::default() {
            let name = folder.place.name();
            let file_path = path.join(&name);
            let open = OpenOptions::new().read(true).append(true).open(&file_path);
            let file = open.map_err(io_error("open", &file_path))?;
            let len = cut_torn_line(&file).map_err(io_error("cut the torn last line of", &file_path))?;
            folder.current = Some(Current { file, name: name.into(), len, synced: len });
        }
        Ok(folder)
    }

    /// Writes whole lines behind what is there; in a new file when the day or the size asks for it. Returns the
    /// file's name. On disk for sure only after [`Folder::sync`].
    ///
    /// # Errors
    /// [`FolderError`]; the folder must then be [given up](Folder::give_up) and opened again.
    pub fn write(&mut self, lines: &[u8], now: Timestamp) -> Result<Box<str>, FolderError> {
        // A clock that was set back must not bring an older file back.
        let day = day_of(now).max(self.place.day);
        let fits = |current: &Current| current.len == 0 || current.len + lines.len() as u64 <= self.bytes_max;
        let stays = day == self.place.day && self.current.as_ref().is_some_and(fits);
        if !stays {
            self.sync()?;
            self.next_file(day)?;
        }
        let current = self.current.as_mut().expect("a file was just made where there was none");
        let path = self.path.join(&*current.name);
        let metadata = current.file.metadata().map_err(io_error("look at", &path))?;
        if metadata.nlink() == 0 || metadata.len() != current.len {
            return Err(FolderError::Changed(path));
        }
        current.file.write_all(lines).map_err(io_error("write", &path))?;
        current.len += lines.len() as u64;
        Ok(current.name.clone())
    }

    /// Waits until everything written is on disk.
    ///
    /// # Errors
    /// [`FolderError`]; what was written since the last sync is then not known.
    pub fn sync(&mut self) -> Result<(), FolderError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.synced == current.len {
            return Ok(());
        }
        current.file.sync_data().map_err(|source| io_error(SYNC, &self.path.join(&*current.name))(source))?;
        current.synced = current.len;
        Ok(())
    }

    /// After an error: takes back what is not synced, as far as the disk lets us.
    pub fn give_up(self) {
        if let Some(current) = self.current {
            let _ = current.file.set_len(current.synced).and_then(|()| current.file.sync_data());
        }
    }

    /// Lets the next write begin a new file.
    pub fn leave_file(&mut self) {
        self.current = None;
    }

    /// Writes, syncs and removes a small file: whether there is room again, and the disk answers.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn probe(&self) -> Result<(), FolderError> {
        let path = self.path.join(".laigu-router-probe");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&vec![b'-'; PROBE_BYTES])?;
            file.sync_all()
        };
        let written = write();
        let removed = fs::remove_file(&path);
        written.and(removed).map_err(io_error("write", &path))
    }

    fn next_file(&mut self, day: u32) -> Result<(), FolderError> {
        let number = if day == self.place.day { self.place.number + 1 } else { 1 };
        let place = Place { day, number };
        let name = place.name();
        let path = self.path.join(&name);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o640);
        let file = options.open(&path).map_err(io_error("make", &path))?;
        // Before the first line in it counts: a file whose name is lost is lost.
        self.dir.sync_all().map_err(io_error(SYNC, &self.path))?;
        self.place = place;
        self.current = Some(Current { file, name: name.into(), len: 0, synced: 0 });
        Ok(())
    }
}

/// Makes a folder that is missing, and those above it, so that they are there after a power cut too.
fn create(path: &Path) -> Result<(), FolderError> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(io_error("make", path))?;
    for folder in missing {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error(SYNC, parent))?;
    }
    Ok(())
}

fn newest(path: &Path) -> Result<Place, FolderError> {
    let mut newest = Place::default();
    for entry in fs::read_dir(path).map_err(io_error("list", path))? {
        let entry = entry.map_err(io_error("list", path))?;
        let place = entry.file_name().to_str().and_then(Place::parse);
        newest = newest.max(place.unwrap_or_default());
    }
    Ok(newest)
}

/// Cuts what stands behind the last line feed, and syncs. Returns where the file ends.
fn cut_torn_line(file: &File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut end = len;
    let mut block = Vec::new();
    let whole = loop {
        if end == 0 {
            break 0;
        }
        let from = end.saturating_sub(TAIL_BYTES);
        block.resize(usize::try_from(end - from).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut block, from)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            break from + at as u64 + 1;
        }
        end = from;
    };
    if whole < len {
        file.set_len(whole)?;
    }
    // What a former process wrote may be in memory alone; nothing may be written behind it before it is on disk.
    file.sync_all()?;
    Ok(whole)
}

fn day_of(now: Timestamp) -> u32 {
    let time = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
    let parts = (u32::try_from(date.year()), u32::try_from(date.month()), u32::try_from(date.day()));
    match parts {
        (Ok(year), Ok(month), Ok(day)) => year * 10_000 + month * 100 + day,
        _ => 0,
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { action, path, source }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
