//! The turns of a feed: at its tenant's gate, in the background's share; a job may have a slower rate of its own besides.

use crate::{
    config::settings::Rate,
    core::{
        gate::{Purpose, Turn},
        rate::{Bucket, Take},
    },
    domain::Timestamp,
    enrich::gates::SharedGate,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time;

/// A gate that is closed, or slow, is looked at again after this: somebody else may have found it open.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The pace of a feed. Clones share it.
#[derive(Debug, Clone)]
pub struct Pace {
    gate: SharedGate,
    own: Option<Arc<Mutex<Bucket>>>,
}

impl Pace {
    /// At a tenant's gate, and no faster than `own`.
    #[must_use]
    pub fn new(gate: SharedGate, own: Option<Rate>) -> Self {
        Self { gate, own: own.map(|rate| Arc::new(Mutex::new(Bucket::new(rate)))) }
    }

    /// Waits until a call may be made.
    pub async fn turn(&self) {
        while let Some(at) = self.wait_for_own() {
            time::sleep(at.since(Timestamp::now())).await;
        }
        loop {
            let now = Timestamp::now();
            match self.gate.turn(now, Purpose::Background) {
                Turn::Now => return,
                Turn::At(at) | Turn::Closed(at) => time::sleep(at.since(now).min(LOOK_AGAIN)).await,
            }
        }
    }

    /// A call was answered.
    pub fn answered(&self) {
        self.gate.answered(Timestamp::now());
    }

    /// The vendor said "too many calls", and perhaps when it wants to be asked again.
    pub fn limited(&self, retry_after: Option<Duration>) {
        self.gate.limited(Timestamp::now(), retry_after);
    }

    /// The vendor refused the credentials.
    pub fn refused(&self) {
        self.gate.refused(Timestamp::now());
    }

    /// When the job's own rate lets the next call through; `None`: now, and it counts as made.
    fn wait_for_own(&self) -> Option<Timestamp> {
        let mut bucket = self.own.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        match bucket.take(Timestamp::now()) {
            Take::Ready => None,
            Take::WaitUntil(at) => Some(at),
        }
    }
}
