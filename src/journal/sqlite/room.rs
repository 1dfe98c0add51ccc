//! How much room the operator's `max_size` leaves.
//!
//! New events are refused at 95 % of it: the rest is for decisions, progress and the shelf, so that what is there can
//! still be delivered and make room. What is written is counted as it goes, and measured now and then.

use crate::journal::{WriteError, sqlite::folder::Folder};
use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

/// Shared by the appender, which asks, and by retention, which measures.
#[derive(Debug)]
pub struct Room {
    size_max: u64,
    used: AtomicU64,
}

impl Room {
    /// Starts counting from what is there.
    #[must_use]
    pub fn new(size_max: u64, used: u64) -> Self {
        Self { size_max, used: AtomicU64::new(used) }
    }

    /// Bytes under the store's folder, about.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The operator's bound.
    #[must_use]
    pub fn size_max(&self) -> u64 {
        self.size_max
    }

    /// Counts what was written.
    pub fn wrote(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Measures the folder. `state` is how many bytes something lies in in `state.db`: the rest of that file is used again
    /// before it grows.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn measure(&self, folder: &Folder, state: u64) -> std::io::Result<()> {
        let free = fs::metadata(folder.state())?.len().saturating_sub(state);
        self.used.store(folder.bytes()?.saturating_sub(free), Ordering::Relaxed);
        Ok(())
    }

    /// Refuses new events at 95 %.
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn check(&self) -> Result<(), WriteError> {
        let used = self.used();
        if used >= self.size_max / 100 * 95 {
            return Err(WriteError::Full(format!("{used} bytes of `storage.max_size` {} are used", self.size_max)));
        }
        Ok(())
    }
}
