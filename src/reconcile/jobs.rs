//! Back-fill: reads a stretch of a tenant's history on request, once, through the same routes.
//!
//! A job is a row in the state: what was asked for, and for each list how far it has come with what was counted. It goes on
//! after a restart, after a reload with other credentials, and when it is asked for again after it was cancelled or failed.

use super::{
    Class, Place,
    feed::{Counts, FeedTask, Store, Stored},
    lists::Lists,
    pace::Pace,
    schedule::stored,
};
use crate::{
    config::settings::{Rate, Settings, SourceKind, Tenant},
    core::reconcile::{End, Feed, Rules, Span, Window},
    domain::{HashKeys, SourceName, TenantName, Timestamp},
    enrich::gates::Gates,
    ingress::Accept,
    journal::sqlite::state::SqliteState,
    lanes::keeper::Keeper,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

/// Jobs that run at a time at most.
const RUNNING_MAX: usize = 16;
/// How much the windows of a job overlap, and how long one is at most.
const OVERLAP: Duration = Duration::from_secs(3);
const SLICE: Duration = Duration::from_secs(6 * 3600);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The source.
    pub source: String,
    /// Its tenant.
    pub tenant: String,
    /// The beginning, in milliseconds since the epoch.
    pub from: i64,
    /// The end; `None`: when the job began.
    pub to: Option<i64>,
    /// Calls at most: count and milliseconds. The tenant's own rate holds all the same.
    pub rate: Option<(u32, u64)>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It reads.
    Running,
    /// All of it is in the log.
    Done,
    /// The vendor refused for good; asking again takes it up.
    Failed,
    /// Somebody stopped it; asking again takes it up.
    Cancelled,
}

impl JobState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How far a job has read one list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListProgress {
    /// The list.
    pub class: Class,
    /// Everything before this is in the log; milliseconds since the epoch.
    pub mark: Option<i64>,
    /// Whether it was read to its end.
    pub done: bool,
    /// What it has come upon.
    pub counts: Counts,
    /// What went wrong last, if nothing has gone right since.
    pub error: Option<String>,
}

/// One back-fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: u32,
    /// What was asked for.
    pub request: Request,
    /// The end that holds.
    pub to: i64,
    /// Who asked.
    pub who: String,
    /// When.
    pub created_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Where it stands.
    pub state: JobState,
    /// Each list that it reads.
    pub lists: Vec<ListProgress>,
}

/// Why a job is not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The request names what is not there, or makes no sense.
    #[error("{0}")]
    Bad(String),
    /// Too many run.
    #[error("{RUNNING_MAX} back-fills are running already: wait for one, or cancel it")]
    TooMany,
    /// There is no such job.
    #[error("there is no such back-fill")]
    Missing,
    /// The state could not be read or written.
    #[error("the back-fill cannot be stored: the log says why")]
    Store,
}

/// All jobs. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    keys: HashKeys,
    writer: Arc<dyn Accept>,
    keeper: Keeper<SqliteState>,
    gates: Gates,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    settings: Option<Settings>,
    jobs: BTreeMap<u32, Job>,
    /// What runs, and on whose settings.
    running: BTreeMap<u32, (Tenant, AbortOnDropHandle<()>)>,
}

impl Jobs {
    /// Takes up the jobs that the state has; they go on with the first [`Jobs::apply`].
    #[must_use]
    pub fn new(
        stored: Vec<(u32, String)>,
        keeper: Keeper<SqliteState>,
        keys: HashKeys,
        writer: Arc<dyn Accept>,
        gates: Gates,
    ) -> Self {
        let mut jobs = BTreeMap::new();
        for (id, text) in stored {
            match serde_json::from_str(&text) {
                Ok(job) => drop(jobs.insert(id, job)),
                Err(error) => error!(id, %error, "a back-fill of state.db cannot be read: it is left out"),
            }
        }
        let book = Mutex::new(Book { jobs, ..Book::default() });
        Self { inner: Arc::new(Inner { keys, writer, keeper, gates, book }) }
    }

    /// Takes settings into force: running jobs whose tenant changed go on with the new ones.
    pub fn apply(&self, settings: &Settings) {
        let mut book = self.inner.book();
        book.settings = Some(settings.clone());
        let running: Vec<u32> =
            book.jobs.values().filter(|job| job.state == JobState::Running).map(|job| job.id).collect();
        for id in running {
            self.start(&mut book, id);
        }
    }

    /// Whether [`Jobs::begin`] would take this request now.
    ///
    /// # Errors
    /// [`JobError::Bad`], [`JobError::TooMany`].
    pub fn check(&self, request: &Request, now: Timestamp) -> Result<(), JobError> {
        self.inner.book().admit(request, now).map(drop)
    }

    /// Begins a job, or takes up the one that was asked for in the same words and did not end well.
    ///
    /// # Errors
    /// [`JobError`]; nothing has changed then.
    pub async fn begin(&self, who: &str, request: Request, now: Timestamp) -> Result<Job, JobError> {
        let job = {
            let mut book = self.inner.book();
            let (kind, to, known) = book.admit(&request, now)?;
            let job = if let Some(known) = known {
                known
            } else {
                let list = |class: &Class| ListProgress {
                    class: *class,
                    mark: None,
                    done: false,
                    counts: Counts::default(),
                    error: None,
                };
                Job {
                    id: book.jobs.last_key_value().map_or(1, |(last, _)| last + 1),
                    to,
                    who: who.to_owned(),
                    created_at: now.as_millis(),
                    ended_at: None,
                    state: JobState::Running,
                    lists: Class::of_history(kind).iter().map(list).collect(),
                    request,
                }
            };
            if book.runs(&job) {
                return Ok(job);
            }
            let job = Job { state: JobState::Running, ended_at: None, ..job };
            book.jobs.insert(job.id, job.clone());
            job
        };
        if self.inner.put(&job).await != Stored::Done {
            return Err(JobError::Store);
        }
        self.start(&mut self.inner.book(), job.id);
        Ok(job)
    }

    /// All of them, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Job> {
        self.inner.book().jobs.values().rev().cloned().collect()
    }

    /// One of them.
    #[must_use]
    pub fn one(&self, id: u32) -> Option<Job> {
        self.inner.book().jobs.get(&id).cloned()
    }

    /// Stops a job that runs. What it has found stays; asking for it again takes it up.
    ///
    /// # Errors
    /// [`JobError::Missing`], [`JobError::Store`].
    pub async fn cancel(&self, id: u32, now: Timestamp) -> Result<Job, JobError> {
        let job = {
            let mut book = self.inner.book();
            let job = book.jobs.get_mut(&id).ok_or(JobError::Missing)?;
            if job.state != JobState::Running {
                return Ok(job.clone());
            }
            (job.state, job.ended_at) = (JobState::Cancelled, Some(now.as_millis()));
            let job = job.clone();
            book.running.remove(&id);
            job
        };
        if self.inner.put(&job).await == Stored::Done { Ok(job) } else { Err(JobError::Store) }
    }

    /// Ends what runs; it goes on after the next start.
    pub fn stop(&self) {
        self.inner.book().running.clear();
    }

    /// Runs a job, unless it runs already with the same settings.
    fn start(&self, book: &mut Book, id: u32) {
        let Some(job) = book.jobs.get(&id).filter(|job| job.state == JobState::Running).cloned() else { return };
        let Ok((kind, tenant)) = book.tenant(&job.request) else {
            // A tenant or an `api` that was taken away is asked no more; the job goes on when it comes back.
            book.running.remove(&id);
            return;
        };
        if let Some((running, task)) = book.running.get(&id)
            && *running == tenant
            && !task.is_finished()
        {
            return;
        }
        let task = AbortOnDropHandle::new(tokio::spawn(run(self.clone(), job, kind, tenant.clone())));
        book.running.insert(id, (tenant, task));
    }
}

impl Book {
    fn runs(&self, job: &Job) -> bool {
        job.state == JobState::Running && self.running.contains_key(&job.id)
    }

    /// What there is to know of a request that can be begun or taken up: its source's kind, its end, and the job that it is
    /// already.
    fn admit(&self, request: &Request, now: Timestamp) -> Result<(SourceKind, i64, Option<Job>), JobError> {
        let (kind, _) = self.tenant(request)?;
        let to = request.to.unwrap_or(now.as_millis()).min(now.as_millis());
        if request.from >= to {
            return Err(JobError::Bad("`from` must lie before `to`, and in the past".to_owned()));
        }
        let same = |job: &&Job| job.request == *request && job.state != JobState::Done;
        let known = self.jobs.values().rev().find(same).cloned();
        if !known.as_ref().is_some_and(|job| self.runs(job)) && self.running.len() >= RUNNING_MAX {
            return Err(JobError::TooMany);
        }
        Ok((kind, to, known))
    }

    /// The tenant that a request is about, if it has lists to read.
    fn tenant(&self, request: &Request) -> Result<(SourceKind, Tenant), JobError> {
        let bad = |text: String| JobError::Bad(text);
        let sources = self.settings.as_ref().map(|settings| &settings.sources);
        let source = sources.and_then(|sources| sources.get(request.source.as_str()));
        let source = source.ok_or_else(|| bad(format!("there is no source `{}`", request.source)))?;
        let tenant = source.tenants.get(request.tenant.as_str());
        let tenant = tenant.ok_or_else(|| bad(format!("there is no tenant `{}`", request.tenant)))?;
        if tenant.api.is_none() || Class::of_history(source.kind).is_empty() {
            let why = format!("tenant `{}` has no `api`: there is nothing to ask", request.tenant);
            return Err(bad(why));
        }
        Ok((source.kind, tenant.clone()))
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(&self, job: &Job) -> Stored {
        let id = job.id;
        let Ok(text) = serde_json::to_string(job) else { return Stored::Gone };
        stored(self.keeper.with(move |state| state.put_reconcile(id, &text)).await)
    }

    /// Changes one list's progress; `None` when the job is not running any more.
    fn note(&self, id: u32, class: Class, change: impl FnOnce(&mut ListProgress)) -> Option<Job> {
        let mut book = self.book();
        let job = book.jobs.get_mut(&id).filter(|job| job.state == JobState::Running)?;
        if let Some(list) = job.lists.iter_mut().find(|list| list.class == class) {
            change(list);
        }
        Some(job.clone())
    }

    /// Notes that a job ended.
    async fn ended(&self, id: u32, state: JobState) {
        let job = {
            let mut book = self.book();
            let Some(job) = book.jobs.get_mut(&id).filter(|job| job.state == JobState::Running) else { return };
            (job.state, job.ended_at) = (state, Some(Timestamp::now().as_millis()));
            let job = job.clone();
            // It is this very task: dropping its handle would end it before the end is stored.
            book.running.remove(&id).map(|(_, own)| own.detach());
            job
        };
        if self.put(&job).await != Stored::Done {
            error!(id, "the end of a back-fill could not be stored: it is read to its end again after a restart");
        }
    }
}

/// Reads one list after the other.
async fn run(jobs: Jobs, job: Job, kind: SourceKind, tenant: Tenant) {
    let inner = &jobs.inner;
    let names = (SourceName::parse(&job.request.source), TenantName::parse(&job.request.tenant));
    let (Ok(source), Ok(name)) = names else { return };
    let place = Place { source, tenant: name };
    let lists = match Lists::new(place.clone(), kind, &tenant, inner.keys) {
        Ok(lists) => Arc::new(lists),
        Err(error) => {
            error!(id = job.id, error = %crate::domain::Chain(&error), "a back-fill cannot begin");
            return inner.ended(job.id, JobState::Failed).await;
        }
    };
    let Some(api) = &tenant.api else { return };
    let own = job.request.rate.map(|(count, millis)| Rate { count, per: Duration::from_millis(millis) });
    let pace = Pace::new(inner.gates.of(&place.source, &place.tenant, api.rate), own);
    let window = Window { from: Timestamp::from_millis(job.request.from), to: Timestamp::from_millis(job.to) };
    info!(id = job.id, place = %place, from = %window.from, to = %window.to, "a back-fill reads");
    for list in job.lists.iter().filter(|list| !list.done) {
        let class = list.class;
        let seed = u64::from(job.id);
        let rules = Rules { span: Span::Once(window), overlap: OVERLAP, slice: SLICE, seed };
        let told = {
            let (inner, id) = (Arc::clone(inner), job.id);
            move |counts: Counts, error: Option<&str>| {
                inner.note(id, class, |list| {
                    list.counts = counts;
                    list.error = error.map(str::to_owned);
                });
            }
        };
        let task = FeedTask {
            class,
            feed: Feed::new(rules, list.mark.map(Timestamp::from_millis), Timestamp::now()),
            lists: Arc::clone(&lists),
            writer: Arc::clone(&inner.writer),
            store: store(Arc::clone(inner), job.id, class),
            pace: pace.clone(),
            metrics: None,
            counts: list.counts,
            told: Box::new(told),
        };
        match task.run().await {
            Some(End::Done) => drop(inner.note(job.id, class, |list| list.done = true)),
            Some(End::Failed) => return inner.ended(job.id, JobState::Failed).await,
            // The process is stopping: it goes on after the next start.
            None => return,
        }
    }
    info!(id = job.id, place = %place, "a back-fill has read all it was to read");
    inner.ended(job.id, JobState::Done).await;
}

/// Stores a watermark with the job's row: marks and counts are of one moment.
fn store(inner: Arc<Inner>, id: u32, class: Class) -> Store {
    Box::new(move |mark, counts| {
        let inner = Arc::clone(&inner);
        Box::pin(async move {
            let noted = inner.note(id, class, |list| (list.mark, list.counts) = (Some(mark.as_millis()), counts));
            match noted {
                Some(job) => inner.put(&job).await,
                None => Stored::Gone,
            }
        })
    })
}
