//! What a condition may cost for one event, so that no push, however made, holds the router for long.

use cel::{
    ExecutionError,
    common::{
        types::{DYN_TYPE, Type},
        value::{StaticVal, Val},
    },
};
use std::{
    any::Any,
    sync::atomic::{AtomicI64, Ordering},
};

/// Bytes decoded and loop steps paid for, per condition and event: about 10 ms of work. A payload of 1 MiB is scanned in a tenth.
const BUDGET_BYTES: i64 = 8 << 20;

/// What one step of a loop costs, in bytes.
const STEP_BYTES: i64 = 256;

/// What the condition in hand may still cost.
#[derive(Debug)]
pub struct Budget {
    left: AtomicI64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: AtomicI64::new(BUDGET_BYTES) }
    }
}

impl Budget {
    /// Starts over, for the next condition: no route pays for another's work.
    pub fn renew(&self) {
        self.left.store(BUDGET_BYTES, Ordering::Relaxed);
    }

    /// Pays for work, before it is done.
    ///
    /// # Errors
    /// When the condition has used up what it may cost.
    pub fn pay(&self, bytes: usize) -> Result<(), ExecutionError> {
        // One thread at a time evaluates an event: plain loads and stores are enough, and cheaper.
        let left = self.left.load(Ordering::Relaxed) - i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left.store(left.max(-1), Ordering::Relaxed);
        if left < 0 { Err(ExecutionError::function_error("@budget", "too much work")) } else { Ok(()) }
    }

    /// Pays for a loop over so many elements.
    ///
    /// # Errors
    /// When the condition has used up what it may cost.
    pub fn pay_steps(&self, steps: i64) -> Result<(), ExecutionError> {
        self.pay(usize::try_from(steps.saturating_mul(STEP_BYTES)).unwrap_or(usize::MAX))
    }

    /// Whether it is used up.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }
}

impl Val for Budget {
    fn get_type(&self) -> &Type {
        &DYN_TYPE
    }

    fn cel_type() -> &'static Type {
        &DYN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self { left: AtomicI64::new(self.left.load(Ordering::Relaxed)) })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Budget {}
