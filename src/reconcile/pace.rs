//! One tenant's share of its API's rate: every feed and every job of it takes its turn here.

use crate::{
    config::settings::Rate,
    core::rate::{Bucket, Take},
    domain::Timestamp,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The turns of one tenant. Clones share them.
#[derive(Debug, Clone)]
pub struct Pace(Arc<Mutex<Bucket>>);

impl Pace {
    /// Half of the tenant's rate: the other half is for lookups that events wait for.
    #[must_use]
    pub fn background(rate: Rate) -> Self {
        Self::at(Rate { per: rate.per * 2, ..rate })
    }

    /// The whole of a rate.
    #[must_use]
    pub fn at(rate: Rate) -> Self {
        Self(Arc::new(Mutex::new(Bucket::new(rate))))
    }

    /// Waits until a call may be made.
    pub async fn turn(&self) {
        loop {
            let now = Timestamp::now();
            match self.with(|bucket| bucket.take(now)) {
                Take::Ready => return,
                Take::WaitUntil(at) => tokio::time::sleep(at.since(now)).await,
            }
        }
    }

    /// A call was answered.
    pub fn answered(&self) {
        self.with(|bucket| bucket.ok(Timestamp::now()));
    }

    /// The vendor said "too many calls", and perhaps when it wants to be asked again.
    pub fn limited(&self, retry_after: Option<Duration>) {
        let now = Timestamp::now();
        self.with(|bucket| {
            bucket.limited(now);
            if let Some(after) = retry_after {
                bucket.pause_until(now.plus(after));
            }
        });
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Bucket) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
