//! Sealing: the ids of a closed segment go into a sorted file of their own, so that memory need not hold them.
//!
//! A crash between any two [`SealStep`]s loses nothing: until the renamed file is loaded, a start reads the ids from
//! the segment again. A temporary file that is left is overwritten or removed.

use crate::{
    domain::{HashKeys, Offset},
    journal::{
        WriteError,
        ids::{IdPair, Known, SealedIds, UnsealedIds},
        sqlite::{
            OpenError,
            catalog::{Catalog, Stretch},
            database::{is_damage, write_error},
            folder::{Folder, create_private, io_error, sync_folder},
            ids_file::{self, IdsFile, IdsHeader},
        },
    },
};
use rusqlite::Connection;
use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

/// One step of sealing a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealStep {
    /// Read the ids of the oldest closed segment that is not sealed.
    Collect,
    /// Sort them and write them under a temporary name.
    Write,
    /// Sync the temporary file.
    Sync,
    /// Give it its name.
    Rename,
    /// Sync the folder.
    SyncFolder,
    /// Load its filter; from then on lookups find its ids.
    Load,
}

impl SealStep {
    /// All steps of one segment, in order.
    pub const ALL: [Self; 6] = [Self::Collect, Self::Write, Self::Sync, Self::Rename, Self::SyncFolder, Self::Load];
}

/// Seals segments. Its steps are run in order; [`Sealer::pending`] says whether there is a segment to begin with.
#[derive(Debug)]
pub struct Sealer {
    catalog: Arc<Catalog>,
    ids: Arc<IdsFiles>,
    work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    number: u32,
    header: IdsHeader,
    pairs: Vec<IdPair>,
}

impl Sealer {
    /// Seals what a catalog closes, for lookups in `ids`.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, ids: Arc<IdsFiles>) -> Self {
        Self { catalog, ids, work: None }
    }

    /// The segment that would be sealed next.
    #[must_use]
    pub fn pending(&self) -> Option<u32> {
        self.next().map(|stretch| stretch.segment.number)
    }

    /// Runs one step. The last one answers the first event whose id is not sealed: ids before it may be forgotten.
    ///
    /// # Errors
    /// [`WriteError::Full`] can be tried again from [`SealStep::Collect`] when there is room; [`WriteError::Sync`] stops
    /// the process.
    pub fn run(&mut self, step: SealStep) -> Result<Option<Offset>, WriteError> {
        let folder = &self.catalog.folder;
        match step {
            SealStep::Collect => self.work = self.collect()?,
            SealStep::Write => {
                let keys = self.catalog.keys;
                if let Some(work) = &mut self.work {
                    let path = temporary(folder, work.number);
                    create_private(&path).map_err(|error| io_error(&error))?;
                    let file = OpenOptions::new().write(true).truncate(true).open(&path);
                    let written =
                        file.and_then(|mut file| ids_file::write(&mut file, &keys, work.header, &mut work.pairs));
                    written.map_err(|error| io_error(&error))?;
                }
            }
            SealStep::Sync => {
                if let Some(work) = &self.work {
                    let file = OpenOptions::new().write(true).open(temporary(folder, work.number));
                    file.and_then(|file| file.sync_all()).map_err(|error| io_error(&error))?;
                }
            }
            SealStep::Rename => {
                if let Some(work) = &self.work {
                    fs::rename(temporary(folder, work.number), folder.ids_file(work.number))
                        .map_err(|error| io_error(&error))?;
                }
            }
            SealStep::SyncFolder => sync_folder(&folder.ids()).map_err(|error| io_error(&error))?,
            SealStep::Load => return self.load(),
        }
        Ok(None)
    }

    /// Seals one segment, if there is one to seal.
    ///
    /// # Errors
    /// As [`Sealer::run`].
    pub fn seal_next(&mut self) -> Result<Option<Offset>, WriteError> {
        if self.pending().is_none() {
            return Ok(None);
        }
        let mut sealed = None;
        for step in SealStep::ALL {
            sealed = self.run(step)?;
        }
        Ok(sealed)
    }

    fn next(&self) -> Option<Stretch> {
        let below = self.catalog.sealed_below();
        self.catalog
            .stretches()
            .into_iter()
            .find(|stretch| stretch.segment.number >= below && stretch.closed_at.is_some())
    }

    fn collect(&self) -> Result<Option<Work>, WriteError> {
        let Some(Stretch { segment, end, closed_at: Some(closed_at) }) = self.next() else { return Ok(None) };
        let pairs = self.catalog.with_reader(segment.number, read_pairs).map_err(|error| write_error(&error))?;
        let header = IdsHeader { first_event: segment.first.events, end_event: end.events, closed_at };
        Ok(Some(Work { number: segment.number, header, pairs }))
    }

    fn load(&mut self) -> Result<Option<Offset>, WriteError> {
        let Some(work) = self.work.take() else { return Ok(None) };
        let path = self.catalog.folder.ids_file(work.number);
        let file = IdsFile::open(&path, &self.catalog.keys).map_err(|error| io_error(&error))?;
        let file = file.ok_or_else(|| WriteError::Sync(format!("`{}` is not what was written", path.display())))?;
        self.ids.add(work.number, file);
        self.catalog.note_sealed_below(work.number + 1);
        Ok(Some(work.header.end_event))
    }
}

/// The files of sealed ids, open for lookups.
#[derive(Debug, Default)]
pub struct IdsFiles {
    files: RwLock<Vec<(u32, Arc<IdsFile>)>>,
}

impl IdsFiles {
    /// Opens what a start finds: files of segments below the tail. What is left of a broken sealing, of a restored
    /// backup's future, or damaged, is removed; a segment that is still there is then sealed again.
    ///
    /// # Errors
    /// [`OpenError`] when a file cannot be read or removed.
    pub fn open(folder: &Folder, keys: &HashKeys, stretches: &[Stretch]) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { path: folder.ids(), source };
        let tail = stretches.last().map_or(0, |stretch| stretch.segment.number);
        let mut files = Vec::new();
        for entry in fs::read_dir(folder.ids()).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path).map_err(failed)?;
            }
        }
        for number in folder.ids_files().map_err(failed)? {
            let path = folder.ids_file(number);
            let file = IdsFile::open(&path, keys).map_err(failed)?;
            let stretch = stretches.iter().find(|stretch| stretch.segment.number == number);
            let fits = |file: &IdsFile| {
                let same = |stretch: &Stretch| {
                    stretch.segment.first.events == file.header.first_event
                        && stretch.end.events == file.header.end_event
                };
                number < tail && stretch.is_none_or(same)
            };
            match file.filter(fits) {
                Some(file) => files.push((number, Arc::new(file))),
                None => fs::remove_file(path).map_err(failed)?,
            }
        }
        Ok(Self { files: RwLock::new(files) })
    }

    /// Whether a segment's ids are here.
    #[must_use]
    pub fn has(&self, number: u32) -> bool {
        self.read().iter().any(|(known, _)| *known == number)
    }

    /// Each file's number and what it says about its segment, oldest first.
    #[must_use]
    pub fn headers(&self) -> Vec<(u32, IdsHeader)> {
        self.read().iter().map(|(number, file)| (*number, file.header)).collect()
    }

    /// Bytes that the filters take in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.read().iter().map(|(_, file)| file.memory_bytes()).sum()
    }

    /// Forgets a file that retention is about to remove.
    pub fn remove(&self, number: u32) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != number);
    }

    fn add(&self, number: u32, file: IdsFile) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(known, _)| *known != number);
        files.push((number, Arc::new(file)));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<(u32, Arc<IdsFile>)>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SealedIds for IdsFiles {
    fn find(&self, id_hash: u64, body_hash: u64) -> Known {
        // Re-sends come soon: the newest file first.
        let mut known = Known::New;
        for (_, file) in self.read().iter().rev() {
            known = known.or(file.find(id_hash, body_hash).unwrap_or(Known::New));
            if known == Known::Duplicate {
                break;
            }
        }
        known
    }
}

/// The ids of a segment that is not sealed.
///
/// # Errors
/// SQLite's, when it is not about a damaged row.
pub fn unsealed(catalog: &Catalog, stretch: &Stretch) -> rusqlite::Result<UnsealedIds> {
    let pairs = catalog.with_reader(stretch.segment.number, read_pairs)?;
    Ok(UnsealedIds { start: stretch.segment.first.events, pairs })
}

/// The ids of a segment, in the order of its events. What cannot be read is left out: a re-send of it is stored again.
fn read_pairs(connection: &Connection) -> rusqlite::Result<Vec<IdPair>> {
    let mut pairs = Vec::new();
    let mut statement = connection.prepare_cached("SELECT packed FROM ids ORDER BY first_event")?;
    let mut rows = statement.query([])?;
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let packed = row.get_ref(0)?.as_blob().unwrap_or_default();
                let (words, _) = packed.as_chunks::<8>();
                let (both, _) = words.as_chunks::<2>();
                pairs.extend(both.iter().map(|[id_hash, body_hash]| IdPair {
                    id_hash: u64::from_le_bytes(*id_hash),
                    body_hash: u64::from_le_bytes(*body_hash),
                }));
            }
            Ok(None) => break,
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "some ids of a segment cannot be read: re-sends of them are taken as new");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(pairs)
}

fn temporary(folder: &Folder, number: u32) -> PathBuf {
    folder.ids_file(number).with_extension("tmp")
}
