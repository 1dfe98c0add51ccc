//! How a job ends: done, given back, or failed; each is noted until it is durable.

use super::job::{JobTask, PAUSE};
use crate::{
    domain::{Chain, Timestamp},
    journal::sqlite::jobs::JobState,
};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

impl JobTask {
    /// Notes that nothing is left to do; says whether that is the end: a pause or a cancel may have come first.
    pub(super) async fn done(&self, stop: &CancellationToken) -> bool {
        let job = self.record.job;
        loop {
            let who = self.record.who.clone();
            let moved = self
                .shared
                .keeper
                .with(move |state| state.move_job(job, &[JobState::Running], JobState::Done, (Timestamp::now(), &who)));
            match moved.await {
                Ok(Ok(Some(record))) if record.state != JobState::Done => {
                    time::sleep(PAUSE).await;
                    return false;
                }
                Ok(Ok(record)) => {
                    let counts = record.map(|record| record.counts).unwrap_or_default();
                    info!(replay = %job, delivered = counts.delivered, failed = counts.failed, "a replay is done");
                }
                Ok(Err(error)) => {
                    error!(replay = %job, error = %Chain(&error), "cannot note that a replay is done, trying again");
                    tokio::select! {
                        // The next start finds nothing left to do.
                        () = stop.cancelled() => return true,
                        () = time::sleep(PAUSE) => continue,
                    }
                }
                Err(_) => {}
            }
            return true;
        }
    }

    /// Makes what the job still has dead letters again.
    pub(super) async fn give_back(&self, state: JobState) {
        let job = self.record.job;
        loop {
            let given = self.shared.keeper.with(move |keeper| keeper.give_back_job(job, state, Timestamp::now())).await;
            match given {
                Ok(Ok(_)) => info!(replay = %job, state = state.as_str(), "a replay is over: the rest is given back"),
                Ok(Err(error)) => {
                    error!(replay = %job, error = %Chain(&error), "cannot give back what a replay has, trying again");
                    time::sleep(PAUSE).await;
                    continue;
                }
                Err(_) => {}
            }
            return;
        }
    }

    pub(super) async fn fail(&self, why: &str) {
        let (job, words) = (self.record.job, why.to_owned());
        error!(replay = %job, why, "a replay cannot be carried out");
        let noted = self.shared.keeper.with(move |state| state.note_job_error(job, &words)).await;
        if let Ok(Err(error)) = noted {
            error!(replay = %job, error = %Chain(&error), "cannot note why a replay failed");
        }
        self.give_back(JobState::Failed).await;
    }
}
