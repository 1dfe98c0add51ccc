//! The schedule by which a vendor's list is read for what no push has brought: windows, watermark, back-off. Pure.
//!
//! A feed is one list of one tenant. It reads closed windows of time: a window ends some time before now, because the
//! vendor's list is behind, and begins a little before the one before it ended, because it is not known whether the ends
//! of a window count. Within a window records come in an order that has nothing to do with time, so the watermark moves
//! only to what was read to the end ([`Input::Page`] says how far that is), and only after every record is durable:
//! append first, watermark after. A crash between the two reads a stretch again; the intake knows those records.
//!
//! What a failure means was said before ([`Trouble`]); what follows from it is decided here. Tokens of the tenant's rate
//! are the shell's: it waits for one before it carries [`Effect::Next`] out.

#[cfg(test)]
mod tests;

use crate::domain::Timestamp;
use std::time::Duration;

/// The first pause after a failure that may pass.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest of those pauses.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The first pause after the vendor refused our credentials; each next one is twice as long.
const BARRED_MIN: Duration = Duration::from_secs(5);
/// The longest of those: a tenant whose credentials come right again is served within this. The tenant's gate lets fewer
/// calls through meanwhile.
const BARRED_MAX: Duration = Duration::from_secs(60);
/// How often a failure is tried again that the vendor documents nowhere.
const FEW: u32 = 5;
/// The pause before what found no room is handed over again.
const ROOM_PAUSE: Duration = Duration::from_millis(500);
/// Days of reports are the vendor's: they begin at midnight in Beijing.
const REPORT_ZONE: Duration = Duration::from_secs(8 * 3600);

/// A stretch of time. Whether the vendor counts its ends in is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The beginning.
    pub from: Timestamp,
    /// The end.
    pub to: Timestamp,
}

/// Which time a feed reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// All from now on, again and again.
    Ongoing {
        /// How often.
        every: Duration,
        /// How long ago a window must have ended.
        lag: Duration,
        /// How far back the first window begins, from when the feed began.
        lookback: Duration,
    },
    /// One stretch of history, once.
    Once(Window),
    /// Whole periods, each when it is over: what a report is about. After a change of their length the first one is the
    /// rest of the one in which the watermark lies.
    Periods {
        /// The length of a period.
        every: Duration,
        /// How long ago it must have ended.
        lag: Duration,
    },
}

/// How a feed reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Which time.
    pub span: Span,
    /// How much two windows overlap.
    pub overlap: Duration,
    /// The longest window that is opened at a time: the watermark moves at least that often.
    pub slice: Duration,
    /// Draws the jitter of pauses.
    pub seed: u64,
}

/// What a failed call means for a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The pull has gone back by itself, to a smaller window or page: ask on.
    GoneBack,
    /// It may pass.
    Passing,
    /// It may pass, but nobody says so: a few times, then final.
    Unknown,
    /// Too many calls: the tenant's rate has been lowered, ask on.
    TooOften,
    /// The credentials were refused.
    Barred,
    /// It will not pass.
    Final,
}

/// What a feed is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Time has come.
    Tick,
    /// The page asked for is in hand.
    Page {
        /// Everything in the window that lies before this time has been read once this page is durable.
        drained_to: Timestamp,
        /// Whether it ends the window.
        last: bool,
    },
    /// There is no page.
    Failed(Trouble),
    /// Every record in hand is durable, or was known.
    Appended,
    /// There was no room for some.
    NotAppended,
    /// The watermark is durable.
    Stored,
    /// It is not, for want of room.
    NotStored,
}

/// What a feed asks for; of the first four one at a time, each answered by an [`Input`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Begin to read this window, and ask for its first page: [`Input::Page`] or [`Input::Failed`].
    Open(Window),
    /// Ask for the next page, or once more for the one that failed.
    Next,
    /// Hand the records in hand to the log: [`Input::Appended`] or [`Input::NotAppended`].
    Append,
    /// Make this watermark durable: [`Input::Stored`] or [`Input::NotStored`].
    Store(Timestamp),
    /// A window was read to its end; nothing is to be done.
    Swept(Window),
}

/// How a feed over one stretch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it is in the log.
    Done,
    /// A failure that will not pass; the watermark says where.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next window is opened then.
    Idle(Timestamp),
    /// A page was asked for.
    Asking(Window),
    /// It is asked for again then.
    Resting(Window, Timestamp),
    /// Records are on their way to the log.
    Appending(Page),
    /// They are handed over again then.
    AppendingAgain(Page, Timestamp),
    /// The watermark is on its way.
    Storing(Page),
    /// It is stored again then.
    StoringAgain(Page, Timestamp),
    Over(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    window: Window,
    /// What the watermark becomes.
    mark: Timestamp,
    last: bool,
}

/// One list of one tenant.
#[derive(Debug, Clone)]
pub struct Feed {
    rules: Rules,
    /// Where it begins while nothing is in the log. It stays where it is, however long the first success takes.
    start: Timestamp,
    /// Everything before it is in the log; durable.
    mark: Option<Timestamp>,
    stage: Stage,
    /// Failures of one kind since a page came, for the pauses.
    failures: u32,
    /// Whether those were refusals of our credentials.
    barred: bool,
    /// Failures of an unknown kind since a page came.
    unknown: u32,
    /// When the sweep in hand began.
    began: Timestamp,
}

impl Feed {
    /// Takes up at a stored watermark, or at the beginning.
    #[must_use]
    pub fn new(rules: Rules, mark: Option<Timestamp>, now: Timestamp) -> Self {
        let start = match rules.span {
            Span::Ongoing { lookback, .. } => back(now, lookback),
            Span::Once(window) => window.from,
            // The last period that is over.
            Span::Periods { every, lag } => back(begin_of_period(back(now, lag), every), every),
        };
        Self { rules, start, mark, stage: Stage::Idle(now), failures: 0, barred: false, unknown: 0, began: now }
    }

    /// Everything before this time is in the log.
    #[must_use]
    pub fn mark(&self) -> Option<Timestamp> {
        self.mark
    }

    /// How it ended, if it did; only a feed over one stretch does.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.stage {
            Stage::Over(end) => Some(end),
            _ => None,
        }
    }

    /// When [`Input::Tick`] is wanted.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Idle(at) | Stage::Resting(_, at) | Stage::AppendingAgain(_, at) | Stage::StoringAgain(_, at) => {
                Some(at)
            }
            Stage::Asking(_) | Stage::Appending(_) | Stage::Storing(_) | Stage::Over(_) => None,
        }
    }

    /// Takes an input and appends what follows from it to `out`. What does not fit the stage is late, and nothing.
    pub fn step(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        match (self.stage, input) {
            (Stage::Idle(at), Input::Tick) if at <= now => self.open(now, out),
            (Stage::Resting(window, at), Input::Tick) if at <= now => self.ask(window, out),
            (Stage::AppendingAgain(page, at), Input::Tick) if at <= now => {
                self.stage = Stage::Appending(page);
                out.push(Effect::Append);
            }
            (Stage::StoringAgain(page, at), Input::Tick) if at <= now => self.store(page, out),
            (Stage::Asking(window), Input::Page { drained_to, last }) => {
                (self.failures, self.unknown) = (0, 0);
                let mark = if last { window.to } else { drained_to.min(window.to) };
                self.stage = Stage::Appending(Page { window, mark, last });
                out.push(Effect::Append);
            }
            (Stage::Asking(window), Input::Failed(trouble)) => self.failed(now, window, trouble, out),
            (Stage::Appending(page), Input::Appended) => {
                // A window that overlaps the one before begins behind the watermark.
                if page.last || self.mark.is_none_or(|mark| mark < page.mark) && page.mark > page.window.from {
                    self.store(page, out);
                } else {
                    self.ask(page.window, out);
                }
            }
            (Stage::Appending(page), Input::NotAppended) => {
                self.stage = Stage::AppendingAgain(page, now.plus(ROOM_PAUSE));
            }
            (Stage::Storing(page), Input::Stored) => self.stored(now, page, out),
            (Stage::Storing(page), Input::NotStored) => self.stage = Stage::StoringAgain(page, now.plus(ROOM_PAUSE)),
            _ => {}
        }
    }

    fn ask(&mut self, window: Window, out: &mut Vec<Effect>) {
        self.stage = Stage::Asking(window);
        out.push(Effect::Next);
    }

    fn store(&mut self, page: Page, out: &mut Vec<Effect>) {
        self.stage = Stage::Storing(page);
        out.push(Effect::Store(page.mark));
    }

    fn stored(&mut self, now: Timestamp, page: Page, out: &mut Vec<Effect>) {
        self.mark = Some(self.mark.map_or(page.mark, |mark| mark.max(page.mark)));
        if !page.last {
            self.ask(page.window, out);
            return;
        }
        out.push(Effect::Swept(page.window));
        self.open_on(now, out);
    }

    /// Begins a sweep.
    fn open(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.began = now;
        self.open_on(now, out);
    }

    /// Opens the next window of the sweep in hand, or ends the sweep.
    fn open_on(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(window) = self.next_window(now) {
            self.stage = Stage::Asking(window);
            out.push(Effect::Open(window));
            return;
        }
        self.stage = match self.rules.span {
            Span::Ongoing { every, .. } => Stage::Idle(self.began.plus(every).max(now.plus(PAUSE_MIN))),
            Span::Once(_) => Stage::Over(End::Done),
            Span::Periods { every, lag } => {
                let next = end_of_period(self.mark.unwrap_or(self.start), every).plus(lag);
                Stage::Idle(next.max(now.plus(PAUSE_MIN)))
            }
        };
    }

    /// What is to be read next, if it is closed already.
    fn next_window(&self, now: Timestamp) -> Option<Window> {
        let Rules { span, overlap, slice, .. } = self.rules;
        let begin = self.mark.unwrap_or(self.start);
        let end = match span {
            // A sweep ends where it ended when it began: it does not run after its own time.
            Span::Ongoing { lag, .. } => back(self.began, lag),
            Span::Once(window) => window.to,
            Span::Periods { every, lag } => {
                // A watermark of another length of period may lie within one: the rest of it comes first.
                let to = end_of_period(begin, every);
                return (to <= back(now, lag)).then_some(Window { from: begin, to });
            }
        };
        let to = begin.plus(slice).min(end);
        let from = if self.mark.is_some() { back(begin, overlap) } else { begin };
        (begin < to).then_some(Window { from, to })
    }

    fn failed(&mut self, now: Timestamp, window: Window, trouble: Trouble, out: &mut Vec<Effect>) {
        self.unknown += u32::from(trouble == Trouble::Unknown);
        let (min, max) = match trouble {
            Trouble::GoneBack | Trouble::TooOften => return self.ask(window, out),
            Trouble::Unknown if self.unknown > FEW => return self.give_up(now),
            Trouble::Final => return self.give_up(now),
            Trouble::Passing | Trouble::Unknown => (PAUSE_MIN, PAUSE_MAX),
            Trouble::Barred => (BARRED_MIN, BARRED_MAX),
        };
        if self.barred != (trouble == Trouble::Barred) {
            // Another kind of failure begins with its own first pause.
            (self.barred, self.failures) = (trouble == Trouble::Barred, 0);
        }
        let pause = min.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures += 1;
        self.stage = Stage::Resting(window, now.plus(self.jittered(pause)));
    }

    /// The window is read again from its beginning when the next one is due; one stretch of history ends here.
    fn give_up(&mut self, now: Timestamp) {
        (self.failures, self.unknown) = (0, 0);
        self.stage = match self.rules.span {
            Span::Ongoing { every, .. } | Span::Periods { every, .. } => Stage::Idle(now.plus(every)),
            Span::Once(_) => Stage::Over(End::Failed),
        };
    }

    /// Three quarters to the whole of a pause, so that tenants that failed together do not come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let mixed = (self.rules.seed ^ u64::from(self.failures)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        pause.saturating_mul(768 + u32::try_from(mixed).unwrap_or(0)) / 1024
    }
}

/// A time so long before another.
fn back(time: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(time.as_millis().saturating_sub(by))
}

/// The beginning of the period in which a time lies.
fn begin_of_period(time: Timestamp, every: Duration) -> Timestamp {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let (every, zone) = (millis(every).max(1), millis(REPORT_ZONE));
    let periods = time.as_millis().saturating_add(zone).div_euclid(every);
    Timestamp::from_millis(periods.saturating_mul(every).saturating_sub(zone))
}

/// The end of the period in which a time lies; of one that begins then, its end.
fn end_of_period(time: Timestamp, every: Duration) -> Timestamp {
    begin_of_period(time, every).plus(every)
}
