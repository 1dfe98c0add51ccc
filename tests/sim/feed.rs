//! The vendor's list, and the feed that reads it: records of pushes that were posted, or late, or never.

use crate::{
    client::{KEYS, Push},
    process::ForWriter,
    world::{Happening, World},
};
use laigu_router::{
    core::reconcile::{Effect, Feed, Input, Rules, Span, Trouble, Window},
    domain::{NewEvent, Origin, Partition, Timestamp},
    ingress::Answer,
    journal::{
        State, WriteError,
        ids::{Known, SealedIds, rivals_of},
    },
};
use std::{collections::BTreeMap, time::Duration};

/// The one feed there is.
const NAME: &str = "records:laigu/acme";
/// Tokens from here on are the feed's.
pub const TOKENS: u64 = 1 << 40;
/// Records a page.
const PAGE: usize = 3;
const LAG: Duration = Duration::from_millis(10);

/// The feed of one process.
pub struct FeedRun {
    machine: Feed,
    window: Option<Window>,
    /// Records of the window that were read.
    read: usize,
    /// Records that the log does not have for sure.
    hand: Vec<usize>,
    open: BTreeMap<u64, usize>,
    token: u64,
    /// Whether something was appended that no durable watermark covers yet.
    ahead: bool,
}

/// What happens to it.
pub enum FeedStep {
    Tell(Input),
    /// The state keeper gets to its watermark.
    Store(Timestamp),
}

impl FeedRun {
    fn new(mark: Option<Timestamp>, now: Timestamp, seed: u64) -> Self {
        let lookback = Duration::from_secs(3_600);
        let span = Span::Ongoing { every: Duration::from_millis(40), lag: LAG, lookback };
        let rules = Rules { span, overlap: Duration::from_millis(3), slice: Duration::from_secs(600), seed };
        Self {
            machine: Feed::new(rules, mark, now),
            window: None,
            read: 0,
            hand: Vec::new(),
            open: BTreeMap::new(),
            token: TOKENS,
            ahead: false,
        }
    }
}

impl World {
    pub fn start_feed(&mut self) {
        if !self.plan.reconciles {
            return;
        }
        let mark = self.journal.inspect(|image| image.mark(NAME));
        self.feed = Some(FeedRun::new(mark, self.now, self.seed));
        self.soon(1, Happening::Feed(FeedStep::Tell(Input::Tick)));
    }

    /// Whether the feed has read all that there is; in words, if not.
    pub fn feed_lacks(&self) -> Option<String> {
        let last = self.clients.pushes.iter().filter(|push| push.is_record()).map(|push| push.made_at).max()?;
        let mark = self.journal.inspect(|image| image.mark(NAME));
        let behind = self.plan.reconciles && mark.is_none_or(|mark| mark <= last);
        behind.then(|| format!("the feed at {mark:?} of {last:?}"))
    }

    pub fn feed(&mut self, step: FeedStep) {
        match step {
            FeedStep::Tell(input) => {
                let Some(feed) = &mut self.feed else { return };
                let mut effects = Vec::new();
                feed.machine.step(self.now, input, &mut effects);
                for effect in effects {
                    self.carry_out(effect);
                }
                let wake = self.feed.as_ref().and_then(|feed| feed.machine.wake_at());
                if let Some(at) = wake {
                    self.at(at.max(self.now), Happening::Feed(FeedStep::Tell(Input::Tick)));
                }
            }
            FeedStep::Store(mark) => self.store_mark(mark),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open(window) => {
                if let Some(feed) = &mut self.feed {
                    (feed.window, feed.read) = (Some(window), 0);
                }
                self.ask();
            }
            Effect::Next => self.ask(),
            Effect::Append => self.hand_over(),
            Effect::Store(mark) => self.soon(6, Happening::Feed(FeedStep::Store(mark))),
            Effect::Swept(_) => self.hit("a window of a list is read to its end"),
        }
    }

    /// The vendor answers with a page, or fails.
    fn ask(&mut self) {
        let (fails, trouble) = (!self.healed && self.rng.u32(..8) == 0, self.rng.usize(..6));
        let Some(feed) = &mut self.feed else { return };
        let Some(window) = feed.window else { return };
        if fails {
            let all = [
                Trouble::GoneBack,
                Trouble::Passing,
                Trouble::Unknown,
                Trouble::TooOften,
                Trouble::Barred,
                Trouble::Final,
            ];
            if all[trouble] == Trouble::GoneBack {
                feed.read = 0;
            }
            return self.soon(5, Happening::Feed(FeedStep::Tell(Input::Failed(all[trouble]))));
        }
        let within = |push: &Push| push.is_record() && window.from <= push.made_at && push.made_at <= window.to;
        let shown: Vec<usize> = (0..self.clients.pushes.len()).filter(|at| within(&self.clients.pushes[*at])).collect();
        feed.hand = shown.iter().copied().skip(feed.read).take(PAGE).collect();
        feed.read += feed.hand.len();
        let last = feed.read >= shown.len();
        let drained_to = if last { window.to } else { window.from };
        self.soon(5, Happening::Feed(FeedStep::Tell(Input::Page { drained_to, last })));
    }

    fn hand_over(&mut self) {
        let Some(feed) = &mut self.feed else { return };
        if feed.hand.is_empty() {
            return self.soon(1, Happening::Feed(FeedStep::Tell(Input::Appended)));
        }
        let Some(process) = &mut self.process else { return };
        let mut woken = Vec::new();
        for index in &feed.hand {
            let push = &self.clients.pushes[*index];
            let event = record(push, self.now);
            feed.token += 1;
            feed.open.insert(feed.token, *index);
            let number = push.partition(self.plan.partitions);
            if let Some(run) = process.partitions.get_mut(usize::from(number)) {
                run.queue.push_back(ForWriter::Push(event, feed.token));
                woken.push(number);
            }
        }
        for number in woken {
            self.soon(2, Happening::WriterWakes(number));
        }
    }

    /// A record that was handed over has its answer.
    pub fn record_answered(&mut self, token: u64, answer: Answer) {
        let Some(feed) = &mut self.feed else { return };
        let Some(index) = feed.open.remove(&token) else { return };
        if matches!(answer, Answer::Stored | Answer::Duplicate) {
            feed.hand.retain(|other| *other != index);
        }
        feed.ahead |= answer == Answer::Stored;
        let (open, left) = (feed.open.len(), feed.hand.len());
        let pushed = self.clients.pushes[index].accepted;
        match answer {
            Answer::Duplicate if pushed => self.hit("a found record had been pushed"),
            Answer::Duplicate => self.hit("a found record had been found before"),
            Answer::Stored => self.hit("a record goes out that no push had brought"),
            Answer::Full { .. } => self.hit("a found record finds no room"),
            Answer::Stopped => {}
        }
        if open == 0 {
            let end = if left == 0 { Input::Appended } else { Input::NotAppended };
            self.soon(3, Happening::Feed(FeedStep::Tell(end)));
        }
    }

    fn store_mark(&mut self, mark: Timestamp) {
        let outcome = self.settle_outcome();
        let Some(process) = &mut self.process else { return };
        self.journal.next_settle(outcome);
        let end = match process.state.set_mark(NAME, mark) {
            Ok(()) => Input::Stored,
            Err(WriteError::Full(_)) => Input::NotStored,
            Err(WriteError::Sync(_) | WriteError::Fenced) => {
                self.hit("sync error");
                return self.crash();
            }
        };
        if let Some(feed) = &mut self.feed {
            feed.ahead &= end != Input::Stored;
        }
        self.soon(3, Happening::Feed(FeedStep::Tell(end)));
    }

    /// The process died, and the feed with it.
    pub fn feed_died(&mut self) {
        if self.feed.take().is_some_and(|feed| feed.ahead) {
            self.hit("crash between a found record and the watermark");
        }
    }

    /// Looks at what is about to be stored: whether it is a late push, and how late.
    pub fn look_at_late(&mut self, number: u16, event: &NewEvent) {
        if !event.superseded {
            return;
        }
        self.hit("a push comes after its record went out");
        let partition = Partition(number);
        let sealed = self.journal.sealed_ids(partition);
        if rivals_of(event).any(|pair| sealed.find(pair.id_hash, pair.body_hash) == Known::Duplicate) {
            self.hit("a push comes after its record was sealed");
        }
        let (events, _) = self.journal.everything(partition);
        let mut records = events.iter().filter(|other| other.origin == Origin::Reconcile && other.key == event.key);
        if records.any(|record| record.id.incarnation.0 != self.epoch) {
            self.hit("a push comes after its record, and after a restart");
        }
    }
}

/// What the vendor shows of a push, as an event.
fn record(push: &Push, now: Timestamp) -> NewEvent {
    let body = push.record_body();
    let id = format!("rec-{}", push.body);
    NewEvent {
        origin: Origin::Reconcile,
        vendor_id: Some(id.clone().into()),
        id_hash: KEYS.id("laigu", "acme", &id),
        body_hash: KEYS.body(body.as_bytes()),
        fingerprint: push.fingerprint(Origin::Reconcile),
        body: body.into(),
        ..crate::client::event(push, now)
    }
}
