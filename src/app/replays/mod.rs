//! Replays: jobs that send dead letters, or events, once more; and discards, which send nothing.
//!
//! | who | does |
//! | --- | --- |
//! | [`Replays`] | takes orders, one task a job; at most [`JOBS_MAX`] work at a time, the others wait for their turn |
//! | [`job`] | chooses chunk by chunk, keeps the parts fed |
//! | [`choose`], `today` | what is chosen, and what each thing comes to |
//! | [`survey`] | goes through a whole selection without a job: previews, discards |
//! | [`part`] | publishes to one destination, through an outlet of its own |
//!
//! What is durable, and in which transaction, says [`crate::journal::sqlite::jobs`]. An order is durable before it takes
//! effect. A crash repeats what was out, at most a window a part; a pause, a reload and a stop repeat nothing unless a
//! broker does not answer for seconds.

pub mod choose;
pub mod definition;
mod ends;
pub mod job;
pub mod live;
pub mod part;
pub mod survey;
mod today;

use crate::{
    app::{fleet::EmbeddedFleet, generation::Generation},
    destinations::{OutletTask, message::TypePrefixes},
    domain::{Chain, ReplayJob, Timestamp},
    journal::{
        ReadError, WriteError,
        sqlite::{
            jobs::{JobRecord, JobState},
            log::SqliteLog,
            queries::Queries,
            state::SqliteState,
        },
        tail::Tail,
    },
    lanes::{keeper::Keeper, router::Fetch, writer::Writer},
    metrics::Metrics,
};
use arc_swap::ArcSwap;
use definition::Definition;
use job::{JobTask, Wish};
use live::Live;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Jobs that work at a time; the others wait.
pub const JOBS_MAX: usize = 4;
/// How long whoever ordered something waits to see it carried out.
const SOON: Duration = Duration::from_secs(4);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What jobs work with.
pub struct Shared {
    /// Asks the store.
    pub queries: Queries,
    /// Reads the logs.
    pub log: Arc<Tail<SqliteLog>>,
    /// Writes new decisions.
    pub writer: Writer,
    /// The state.
    pub keeper: Keeper<SqliteState>,
    /// The lanes, to tell them of keys that are free.
    pub fleet: Arc<EmbeddedFleet>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The routes in force.
    pub generation: Arc<ArcSwap<Generation>>,
    /// Fetches records.
    pub fetch: Arc<dyn Fetch>,
    /// What stands before types.
    pub prefixes: TypePrefixes,
    /// Where tasks are spawned.
    pub spawn: mpsc::Sender<OutletTask>,
    /// Turns.
    pub permits: Arc<Semaphore>,
    /// The end.
    pub stop: CancellationToken,
}

/// A job that is not over.
#[derive(Clone)]
struct Handle {
    wish: watch::Sender<Wish>,
    live: Arc<Live>,
}

/// All jobs.
pub struct Replays {
    shared: Arc<Shared>,
    jobs: Mutex<BTreeMap<ReplayJob, Handle>>,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It is not what can be ordered.
    #[error("{0}")]
    Wrong(String),
    /// There is no such job.
    #[error("there is no replay {0}")]
    Unknown(ReplayJob),
    /// The job is past that.
    #[error("replay {0} is {1}: nothing can be changed any more")]
    Over(ReplayJob, &'static str),
    /// The store cannot be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The process stops.
    #[error("the process is stopping")]
    Stopping,
}

/// What an operator wants of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Hold it.
    Pause,
    /// Let it go on.
    Resume,
    /// End it.
    Cancel,
}

/// A job with what is to be seen of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As it is stored.
    pub record: JobRecord,
    /// Whether it waits for its turn.
    pub queued: bool,
    /// What keeps it from going on.
    pub trouble: Option<String>,
}

impl Replays {
    /// No jobs yet.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), jobs: Mutex::default() }
    }

    /// Takes up what the state has. What cannot be read is told of: it is tried again at the next start.
    pub async fn take_up(&self) {
        if let Err(error) = self.try_take_up().await {
            tracing::error!(error = %Chain(&error), "cannot take up the replays that were not over");
        }
    }

    async fn try_take_up(&self) -> Result<(), OrderError> {
        let records = self.ask(|queries| queries.jobs()).await?;
        for record in records.into_iter().rev().filter(|record| !record.state.is_over()) {
            info!(replay = %record.job, state = record.state.as_str(), "a replay is taken up again");
            let job = record.job;
            self.start(record).await?;
            // Whoever steered it in the meantime found nobody to tell.
            let state = self.seen(job).await?.record.state;
            if let Some(handle) = self.locked().get(&job) {
                handle.wish.send_if_modified(|wish| std::mem::replace(&mut wish.state, state) != state);
            }
        }
        Ok(())
    }

    /// Takes a job on. When it returns, the job is durable, and has mostly chosen already.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn create(&self, who: &str, definition: &Definition) -> Result<Seen, OrderError> {
        let checked = definition.check().map_err(OrderError::Wrong)?;
        checked.destinations_known(&self.shared.generation.load()).map_err(OrderError::Wrong)?;
        let text = serde_json::to_string(definition).map_err(|error| OrderError::Wrong(error.to_string()))?;
        let words = definition.words();
        let reads_events = matches!(checked.choice, definition::Choice::Events(_) | definition::Choice::EventsThat(_));
        let (by, pin) = (who.to_owned(), reads_events.then_some(1));
        let job = self.with(move |state| state.create_job(Timestamp::now(), &by, (&text, &words), pin)).await?;
        info!(replay = %job, who, "a replay begins");
        let record = self.ask(move |queries| queries.job(job)).await?.ok_or(OrderError::Unknown(job))?;
        self.start(record).await?;
        self.soon(job, |seen| seen.record.complete || seen.queued || seen.record.state != JobState::Running).await
    }

    /// Holds a job, lets it go on, or ends it; durable when this returns.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn steer(&self, who: &str, job: ReplayJob, steer: Steer) -> Result<Seen, OrderError> {
        let (from, to): (&'static [JobState], _) = match steer {
            Steer::Pause => (&[JobState::Running], JobState::Paused),
            Steer::Resume => (&[JobState::Paused], JobState::Running),
            Steer::Cancel => (&[JobState::Running, JobState::Paused], JobState::Cancelling),
        };
        let by = who.to_owned();
        let moved = self.with(move |state| state.move_job(job, from, to, (Timestamp::now(), &by))).await?;
        let record = moved.ok_or(OrderError::Unknown(job))?;
        if record.state != to && (record.state.is_over() || record.state == JobState::Cancelling) {
            return Err(OrderError::Over(job, record.state.as_str()));
        }
        info!(replay = %job, who, state = to.as_str(), "an operator steers a replay");
        if let Some(handle) = self.locked().get(&job) {
            handle.wish.send_modify(|wish| wish.state = to);
        }
        match steer {
            Steer::Resume => self.seen(job).await,
            Steer::Pause => {
                let live = self.locked().get(&job).map(|handle| Arc::clone(&handle.live));
                self.soon(job, |_| live.as_ref().is_none_or(|live| !live.is_working())).await
            }
            Steer::Cancel => self.soon(job, |seen| seen.record.state.is_over()).await,
        }
    }

    /// Lets jobs at work take a new generation's settings.
    pub fn reloaded(&self) {
        self.shared.prefixes.replace(self.shared.generation.load().prefixes());
        for handle in self.locked().values() {
            handle.wish.send_modify(|wish| wish.turn += 1);
        }
    }

    /// One job.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn seen(&self, job: ReplayJob) -> Result<Seen, OrderError> {
        let record = self.ask(move |queries| queries.job(job)).await?.ok_or(OrderError::Unknown(job))?;
        Ok(self.overlaid(record))
    }

    /// All jobs, the newest first.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn all(&self) -> Result<Vec<Seen>, OrderError> {
        let records = self.ask(|queries| queries.jobs()).await?;
        Ok(records.into_iter().map(|record| self.overlaid(record)).collect())
    }

    fn overlaid(&self, record: JobRecord) -> Seen {
        let live = self.locked().get(&record.job).map(|handle| Arc::clone(&handle.live));
        let live = live.filter(|_| !record.state.is_over());
        let queued = record.state == JobState::Running && live.as_ref().is_some_and(|live| !live.is_working());
        Seen { queued, trouble: live.and_then(|live| live.words()), record }
    }

    async fn start(&self, record: JobRecord) -> Result<(), OrderError> {
        let job = record.job;
        let (wish, wished) = watch::channel(Wish { state: record.state, turn: 0 });
        let live = Arc::new(Live::default());
        let shared = Arc::clone(&self.shared);
        let task = JobTask { shared, record, wish: wished, live: Arc::clone(&live) };
        self.remember(job, Handle { wish, live });
        let stop = self.shared.stop.clone();
        self.shared.spawn.send(Box::pin(task.run(stop))).await.map_err(|_| OrderError::Stopping)
    }

    fn remember(&self, job: ReplayJob, handle: Handle) {
        let mut jobs = self.locked();
        // Those whose task has ended are over.
        jobs.retain(|_, handle| handle.wish.receiver_count() > 0);
        jobs.insert(job, handle);
    }

    /// Waits a little for a job to be so, and gives it as it is then.
    async fn soon(&self, job: ReplayJob, is: impl Fn(&Seen) -> bool) -> Result<Seen, OrderError> {
        let until = time::Instant::now() + SOON;
        loop {
            let seen = self.seen(job).await?;
            if is(&seen) || time::Instant::now() > until {
                return Ok(seen);
            }
            time::sleep(LOOK).await;
        }
    }

    async fn note(&self, who: &str, what: String) -> Result<(), OrderError> {
        let by = who.to_owned();
        self.with(move |state| state.audit(Timestamp::now(), &by, &what)).await
    }

    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Queries) -> Result<R, ReadError> + Send + 'static,
    ) -> Result<R, OrderError> {
        let queries = self.shared.queries.clone();
        let answer = tokio::task::spawn_blocking(move || question(&queries)).await;
        Ok(answer.map_err(|error| ReadError(error.to_string()))??)
    }

    async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteState) -> Result<R, WriteError> + Send + 'static,
    ) -> Result<R, OrderError> {
        let done = self.shared.keeper.with(work).await.map_err(|_| OrderError::Stopping)?;
        if let Err(error @ WriteError::Sync(_)) = &done {
            tracing::error!(error = %Chain(error), "the state cannot be kept");
            self.shared.keeper.stop();
        }
        Ok(done?)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ReplayJob, Handle>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
