//! The store's folder: names, permissions, the lock, and syncs of directories.
//!
//! ```text
//! lock               held by the process that owns the store
//! state.db           lanes, shelf, receipts, …
//! events/0001.db     segments
//! ids/0001           the ids of sealed segments
//! ```

use crate::journal::{WriteError, sqlite::OpenError};
use rustix::io::Errno;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A store's folder, locked by this process for as long as it lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held, never read.
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process owns it, [`OpenError::Folder`] when it cannot be used.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { path: path.to_owned(), source };
        let missing = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()).count();
        for folder in [path.to_owned(), path.join("events"), path.join("ids")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        sync_folder(path).map_err(failed)?;
        sync_names(path, missing).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where `state.db` lies.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join("state.db")
    }

    /// Where segments lie.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// Where a segment lies.
    #[must_use]
    pub fn segment(&self, number: u32) -> PathBuf {
        self.events().join(format!("{number:04}.db"))
    }

    /// Where sealed ids lie.
    #[must_use]
    pub fn ids(&self) -> PathBuf {
        self.path.join("ids")
    }

    /// Where the ids of a sealed segment lie.
    #[must_use]
    pub fn ids_file(&self, number: u32) -> PathBuf {
        self.ids().join(format!("{number:04}"))
    }

    /// Numbers of the segments that are there, in order; what is not named like a segment is left alone.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn segments(&self) -> io::Result<Vec<u32>> {
        numbers(&self.events(), Some("db"))
    }

    /// Numbers of the files of sealed ids that are there, in order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn ids_files(&self) -> io::Result<Vec<u32>> {
        numbers(&self.ids(), None)
    }

    /// Bytes of everything in the folder.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn bytes(&self) -> io::Result<u64> {
        fn below(folder: &Path) -> io::Result<u64> {
            let mut bytes = 0;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                // Files come and go while they are counted.
                let Ok(metadata) = entry.metadata() else { continue };
                bytes += if metadata.is_dir() { below(&entry.path())? } else { metadata.len() };
            }
            Ok(bytes)
        }
        below(&self.path)
    }
}

/// Makes what was created, renamed or removed in a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the name of a folder durable, and those of the ones above it where so many were made just now. A folder that was
/// there may be the work of a process that was killed before it came to that.
fn sync_names(path: &Path, made: usize) -> io::Result<()> {
    for folder in path.ancestors().take(made.max(1)) {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match sync_folder(parent) {
            // Whose folder it is, and on what, is another's business: it was given to us as it is.
            Err(error)
                if made == 0 && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Creates an empty file that only the owner may read, so that SQLite does not choose the permissions.
///
/// # Errors
/// When it cannot be created.
pub fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    Ok(())
}

/// Removes a database and what SQLite keeps beside it; what is not there is no error.
///
/// # Errors
/// When a file is there and cannot be removed.
pub fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What a failure beside the databases means: a lack of room is waited out, everything else stops the process.
#[must_use]
pub fn io_error(error: &io::Error) -> WriteError {
    if is_no_room(error) { WriteError::Full(error.to_string()) } else { WriteError::Sync(error.to_string()) }
}

/// Whether a failure is a lack of room: on the disk, or among the files that may be open. Nothing was written then.
#[must_use]
pub fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn numbers(folder: &Path, extension: Option<&str>) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = PathBuf::from(entry?.file_name());
        if path.extension().and_then(|found| found.to_str()) != extension {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if stem.bytes().all(|byte| byte.is_ascii_digit()) {
            numbers.extend(stem.parse::<u32>());
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::{Folder, io_error};
    use crate::journal::{WriteError, sqlite::OpenError};
    use rustix::io::Errno;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_lack_of_room_or_of_files_is_waited_out_and_nothing_else() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE] {
            assert!(matches!(io_error(&errno.into()), WriteError::Full(_)), "{errno:?}");
        }
        for errno in [Errno::IO, Errno::ROFS, Errno::NOENT, Errno::ACCESS] {
            assert!(matches!(io_error(&errno.into()), WriteError::Sync(_)), "{errno:?}");
        }
    }

    #[test]
    fn a_second_owner_is_refused_until_the_first_lets_go() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let folder = Folder::open(&path).unwrap();
        assert!(matches!(Folder::open(&path), Err(OpenError::Locked { .. })));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn only_what_is_named_like_a_segment_is_one() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        for name in ["0002.db", "0001.db", "0001.db-wal", "10000.db", "x.db", "-1.db", "0003.tmp", ".db"] {
            fs::write(folder.events().join(name), "").unwrap();
        }
        assert_eq!(folder.segments().unwrap(), [1, 2, 10_000]);
        for name in ["0001", "0002.tmp", "x"] {
            fs::write(folder.ids().join(name), "").unwrap();
        }
        assert_eq!(folder.ids_files().unwrap(), [1]);
    }
}
