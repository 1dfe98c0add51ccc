//! The task of one feed: carries out what its schedule asks for, one thing after the other.

use super::{
    Class, Place,
    lists::{Failure, Found, Lists, Reading},
    pace::Pace,
};
use crate::{
    core::reconcile::{Effect, End, Feed, Input, Trouble},
    domain::{Origin, Timestamp},
    ingress::{Accept, Answer},
    metrics::{Metrics, OfErrno, OfList},
};
use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time};
use tracing::{debug, info, warn};

/// How long a full queue before the writer is waited for before the schedule is told.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// So many of those pauses.
const BUSY_MAX: u32 = 50;

/// What a feed has come upon so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Records that the vendor showed and whose fate is known; repeats of overlapping windows count again.
    pub found: u64,
    /// Of them, those that the log had not seen: events now.
    pub emitted: u64,
    /// Of them, those that were pushed, or found before.
    pub known: u64,
    /// Of them, those that are no event: without key or version, or no JSON object.
    pub passed_over: u64,
}

impl Counts {
    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            found: self.found + other.found,
            emitted: self.emitted + other.emitted,
            known: self.known + other.known,
            passed_over: self.passed_over + other.passed_over,
        }
    }
}

/// How a watermark was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Durably.
    Done,
    /// There was no room.
    NoRoom,
    /// The state is not kept any more: the process is stopping.
    Gone,
}

/// Stores a watermark with what was counted up to it.
pub type Store = Box<dyn Fn(Timestamp, Counts) -> Pin<Box<dyn Future<Output = Stored> + Send>> + Send + Sync>;

/// Is told what was counted, and the last failure.
pub type Told = Box<dyn Fn(Counts, Option<&str>) + Send + Sync>;

/// Everything that the task of a feed works with.
pub struct FeedTask {
    /// The list.
    pub class: Class,
    /// Its schedule.
    pub feed: Feed,
    /// Where its records come from.
    pub lists: Arc<Lists>,
    /// The writer.
    pub writer: Arc<dyn Accept>,
    /// Where its watermark goes.
    pub store: Store,
    /// The turns it takes.
    pub pace: Pace,
    /// What is counted; `None` for history, where everything is late.
    pub metrics: Option<Arc<Metrics>>,
    /// What it has come upon.
    pub counts: Counts,
    /// Is told what it came upon, and the last failure, after each page.
    pub told: Told,
}

/// What is under way.
#[derive(Default)]
struct Hand {
    reading: Option<Reading>,
    found: VecDeque<Found>,
    /// What had been emitted when the last window ended.
    emitted: u64,
}

impl FeedTask {
    /// Works until the feed ends, or the process does.
    ///
    /// # Cancel safety
    /// May be dropped at any time: what was not stored is read again.
    pub async fn run(mut self) -> Option<End> {
        let mut hand = Hand { emitted: self.counts.emitted, ..Hand::default() };
        let mut effects = Vec::new();
        let mut input = Some(Input::Tick);
        loop {
            let now = Timestamp::now();
            if let Some(input) = input.take() {
                self.feed.step(now, input, &mut effects);
            }
            for effect in effects.drain(..) {
                // At most one of them has an answer; the others only tell.
                input = match self.carry_out(effect, &mut hand).await {
                    Ok(answer) => input.or(answer),
                    Err(Gone) => return None,
                };
            }
            if let Some(end) = self.feed.end() {
                return Some(end);
            }
            if input.is_none() {
                let at = self.feed.wake_at().unwrap_or(Timestamp::NEVER);
                time::sleep(at.since(Timestamp::now())).await;
                input = Some(Input::Tick);
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect, hand: &mut Hand) -> Result<Option<Input>, Gone> {
        match effect {
            Effect::Open(window) => {
                hand.reading = self.lists.open(self.class, window);
                Ok(Some(self.ask(hand).await))
            }
            Effect::Next => Ok(Some(self.ask(hand).await)),
            Effect::Append => self.append(hand).await.map(Some),
            Effect::Store(mark) => match (self.store)(mark, self.counts).await {
                Stored::Done => Ok(Some(Input::Stored)),
                Stored::NoRoom => Ok(Some(Input::NotStored)),
                Stored::Gone => Err(Gone),
            },
            Effect::Swept(window) => {
                let (feed, fresh) = (self.name(), self.counts.emitted - hand.emitted);
                hand.emitted = self.counts.emitted;
                if fresh > 0 {
                    info!(feed, fresh, from = %window.from, to = %window.to, "records go out that no push had brought");
                }
                if let Some(metrics) = &self.metrics {
                    let now = Timestamp::now().as_millis().div_euclid(1000);
                    metrics.reconcile_last_success_seconds.get_or_create(&self.labels()).set(now);
                }
                Ok(None)
            }
        }
    }

    async fn ask(&mut self, hand: &mut Hand) -> Input {
        let Some(reading) = &mut hand.reading else { return Input::Failed(Trouble::Final) };
        self.pace.turn().await;
        match self.lists.next(reading).await {
            Ok(page) => {
                self.pace.answered();
                self.counts.found += page.passed_over;
                self.counts.passed_over += page.passed_over;
                hand.found = page.found.into();
                (self.told)(self.counts, None);
                Input::Page { drained_to: page.drained_to, last: page.last }
            }
            Err(failure) => self.failed(&failure),
        }
    }

    fn failed(&self, failure: &Failure) -> Input {
        match failure.trouble {
            Trouble::TooOften => self.pace.limited(failure.retry_after),
            Trouble::Barred => self.pace.refused(),
            Trouble::GoneBack | Trouble::Passing | Trouble::Unknown | Trouble::Final => {}
        }
        if let Some(metrics) = &self.metrics {
            let Place { source, tenant } = self.lists.place();
            let labels = OfErrno { source: source.to_string(), tenant: tenant.to_string(), errno: failure.errno };
            metrics.reconcile_errors.get_or_create(&labels).inc();
        }
        (self.told)(self.counts, Some(&failure.words));
        let (feed, error) = (self.name(), &failure.words);
        match failure.trouble {
            Trouble::GoneBack | Trouble::TooOften => debug!(feed, error, "a page was not to be had, asking on"),
            Trouble::Passing | Trouble::Unknown => warn!(feed, error, "a page was not to be had, trying again"),
            Trouble::Barred => {
                warn!(feed, error, "the API refuses our credentials: asking it rarely until it takes them")
            }
            Trouble::Final => warn!(feed, error, "a window cannot be read: trying again when the next one is due"),
        }
        Input::Failed(failure.trouble)
    }

    /// Hands the page to the log; what was not taken stays in hand.
    async fn append(&mut self, hand: &mut Hand) -> Result<Input, Gone> {
        let mut open = Vec::new();
        let mut busy = 0;
        let mut kept = VecDeque::new();
        while let Some(found) = hand.found.pop_front() {
            let (end, ended) = oneshot::channel();
            if self.writer.offer(found.event.clone(), end).is_ok() {
                open.push((found, ended));
                continue;
            }
            hand.found.push_front(found);
            busy += 1;
            if busy > BUSY_MAX {
                break;
            }
            time::sleep(BUSY_PAUSE).await;
        }
        for (found, ended) in open {
            match ended.await {
                Ok(Answer::Stored) => self.emitted(&found),
                Ok(Answer::Duplicate) => {
                    self.counts.found += 1;
                    self.counts.known += 1;
                }
                Ok(Answer::Full { .. }) => kept.push_back(found),
                Ok(Answer::Stopped) | Err(_) => return Err(Gone),
            }
        }
        kept.append(&mut hand.found);
        hand.found = kept;
        (self.told)(self.counts, None);
        Ok(if hand.found.is_empty() { Input::Appended } else { Input::NotAppended })
    }

    fn emitted(&mut self, found: &Found) {
        self.counts.found += 1;
        self.counts.emitted += 1;
        let Some(metrics) = &self.metrics else { return };
        let labels = self.labels();
        metrics.reconcile_found.get_or_create(&labels).inc();
        if let Some(at) = found.at.filter(|_| found.event.origin == Origin::Reconcile) {
            let late = Timestamp::now().since(at).as_secs_f64();
            metrics.reconcile_detection_seconds.get_or_create(&labels).observe(late);
        }
        let (feed, vendor_id) = (self.name(), found.event.vendor_id.as_deref());
        debug!(feed, vendor_id, "no push had brought this: its record goes out");
    }

    fn labels(&self) -> OfList {
        let Place { source, tenant } = self.lists.place();
        Metrics::of_list(source, tenant, self.class.as_str())
    }

    fn name(&self) -> String {
        format!("{}:{}", self.class.as_str(), self.lists.place())
    }
}

/// The process is stopping.
struct Gone;
