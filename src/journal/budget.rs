//! Counts what a read brings against its [`ReadLimit`], the same way in every engine.

use crate::journal::ReadLimit;

/// What is left of a read's limit.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    rows: usize,
    bytes: usize,
}

impl Budget {
    /// Everything a limit allows; one row at least.
    #[must_use]
    pub fn new(limit: ReadLimit) -> Self {
        Self { rows: limit.rows.max(1), bytes: limit.bytes }
    }

    /// Counts a row and the bytes of its body.
    pub fn spend(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether the page is full. Never before its first row.
    #[must_use]
    pub fn is_spent(&self, rows_so_far: usize) -> bool {
        rows_so_far > 0 && (self.rows == 0 || self.bytes == 0)
    }
}
