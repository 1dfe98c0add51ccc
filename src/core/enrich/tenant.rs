//! The schedule of one tenant: inputs in, effects out.

use super::{
    Effect, End, Found, Input, Reason, Source, Target, Trouble, WAITING_ALL_MAX, WAITING_MAX, Want, What,
    cache::{Cache, Known, covers, is_new_enough},
    calls::pause,
    lists::Gathering,
};
use crate::{
    core::gate::{Gate, Purpose, Turn},
    domain::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Repeats of a call whose failure the vendor does not explain.
const FEW: u32 = 2;
/// A list goes back or halves its window by itself so often at most.
const ANEW_MAX: u32 = 16;
/// A list of all agents is read again after this at the earliest.
const ROSTER_PAUSE: Duration = Duration::from_secs(10);

type Key = (What, Box<str>);

/// What a want heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Nothing,
    NotThere,
    Trouble(Reason),
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) want: Want,
    pub(super) last: Last,
    /// Walks over a list that did not find it.
    pub(super) tries: u32,
    pub(super) not_before: Timestamp,
    /// Whether no walk has begun since it came.
    pub(super) fresh: bool,
}

#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) target: Target,
    pub(super) out: bool,
    /// When its last call was made.
    pub(super) asked_at: Timestamp,
    /// Of one record: those who came since.
    pub(super) gathering: Gathering,
    pub(super) tries: u32,
    pub(super) few: u32,
    pub(super) anew: u32,
    /// Of a list: who is searched and not found yet.
    pub(super) seeking: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Ready(u64),
    Gather(What),
}

/// The schedule of one tenant: see the [module](super).
#[derive(Debug, Default)]
pub struct Tenant {
    pub(super) waiting: BTreeMap<u64, Waiting>,
    pub(super) by_id: BTreeMap<Key, BTreeSet<u64>>,
    pub(super) deadlines: BTreeSet<(Timestamp, u64)>,
    pub(super) lookups: BTreeMap<u64, Lookup>,
    pub(super) next_lookup: u64,
    /// The lookup of each record that is asked for by its id.
    pub(super) ones: BTreeMap<Key, u64>,
    pub(super) lists: BTreeMap<What, Gathering>,
    /// Lookups whose next call may go, in turn.
    pub(super) ready: VecDeque<u64>,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// When the gate gives the next turn, if it kept one back.
    pub(super) turn_at: Option<Timestamp>,
    pub(super) out: usize,
    pub(super) cache: Cache,
}

impl Tenant {
    /// Takes an input at a time and appends what follows from it to `effects`.
    pub fn step(&mut self, now: Timestamp, input: Input, gate: &mut Gate, effects: &mut Vec<Effect>) {
        match input {
            Input::Want(want, elsewhere) => self.want(now, want, elsewhere, gate, effects),
            Input::Coming(what, id) => self.coming(now, what, id),
            Input::Answered { lookup, found, more } => {
                gate.answered(now);
                self.answered(now, lookup, &found, more, effects);
            }
            Input::Failed(lookup, trouble, reason) => self.failed(now, lookup, trouble, reason, gate, effects),
            Input::Configured(elsewhere) => {
                if elsewhere {
                    self.cache.clear();
                }
            }
            Input::Removed => {
                self.cache.clear();
                let all: Vec<u64> = self.waiting.keys().copied().collect();
                self.give_up(now, &all, Reason::NoApi, effects);
            }
            Input::Tick => {}
        }
        self.run_timers(now);
        self.expire(now, effects);
        self.pump(now, gate, effects);
    }

    /// When [`Input::Tick`] is wanted at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let turn = self.turn_at.filter(|_| !self.ready.is_empty());
        [timer, deadline, turn].into_iter().flatten().min()
    }

    /// How many events wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many calls are out.
    #[must_use]
    pub const fn calls(&self) -> usize {
        self.out
    }

    fn want(&mut self, now: Timestamp, want: Want, elsewhere: usize, gate: &Gate, effects: &mut Vec<Effect>) {
        let ticket = want.ticket;
        // A clock that was set back must not keep a record from ever being new enough.
        let want = Want { received_at: want.received_at.min(now), ..want };
        let mut done = |end| effects.push(Effect::Done(ticket, end, Source::Cache));
        match self.cache.fresh(&want, now) {
            Some(Known::Record(record, at)) => return done(End::Ok(record, at)),
            Some(Known::Missing) => return done(not_there(&want)),
            None => {}
        }
        let refused = if want.deadline <= now {
            Some(Reason::TooLate)
        } else if gate.is_closed() && !self.probes(now, gate) {
            Some(Reason::Credentials)
        } else if self.waiting.len() >= WAITING_MAX || self.waiting.len() + elsewhere >= WAITING_ALL_MAX {
            Some(Reason::Busy)
        } else {
            None
        };
        if let Some(reason) = refused {
            return done(match self.cache.stale(&want, now) {
                Some(Known::Record(record, at)) => End::Ok(record, at),
                Some(Known::Missing) | None => End::Failed(reason),
            });
        }
        let key = (want.what, want.id.clone());
        self.by_id.entry(key).or_default().insert(ticket);
        self.deadlines.insert((want.deadline, ticket));
        if want.what == What::Conversation {
            self.join_one(now, &want);
        } else {
            self.lists.entry(want.what).or_default().joined(now, want.deadline);
        }
        let what = want.what;
        self.waiting.insert(ticket, Waiting { want, last: Last::Nothing, tries: 0, not_before: now, fresh: true });
        self.gather_later(now, what);
    }

    /// Whether a closed gate would let a call through now: whoever comes first then is its probe.
    fn probes(&self, now: Timestamp, gate: &Gate) -> bool {
        self.out == 0 && self.waiting.is_empty() && matches!(gate.clone().turn(now, Purpose::Event), Turn::Now)
    }

    fn answered(&mut self, now: Timestamp, number: u64, found: &[Found], more: bool, effects: &mut Vec<Effect>) {
        let Some(lookup) = self.landed(number) else { return };
        let (target, seeking, asked_at) = (lookup.target.clone(), lookup.seeking.clone(), lookup.asked_at);
        let what = match &target {
            Target::One(what, _) | Target::List(what, ..) => *what,
        };
        for one in found {
            self.cache.put(what, one, asked_at);
            self.serve(asked_at, what, one, effects);
        }
        match target {
            Target::One(_, id) => {
                if !self.by_id.contains_key(&(what, id)) {
                    self.close(now, number, effects);
                } else if !self.call_gathered(now, number) {
                    // What came is older than what they saw.
                    self.again(now, number);
                }
            }
            Target::List(..) => {
                let left: BTreeSet<u64> = seeking.into_iter().filter(|one| self.waiting.contains_key(one)).collect();
                if more && !left.is_empty() {
                    if let Some(lookup) = self.lookups.get_mut(&number) {
                        lookup.seeking = left;
                    }
                    self.ready.push_front(number);
                    return;
                }
                for ticket in left {
                    self.missed(now, what, ticket);
                }
                self.close(now, number, effects);
            }
        }
    }

    /// A record came that was asked for then: whoever waits for it, had come by then and has not seen a newer one gets it.
    fn serve(&mut self, asked_at: Timestamp, what: What, found: &Found, effects: &mut Vec<Effect>) {
        let Some(tickets) = self.by_id.get(&(what, found.id.clone())) else { return };
        for ticket in tickets.clone() {
            let Some(waiting) = self.waiting.get_mut(&ticket) else { continue };
            if !is_new_enough(found.version, waiting.want.version) {
                waiting.last = Last::Trouble(Reason::Stale);
                continue;
            }
            if !covers(&waiting.want, found.version, asked_at) {
                continue;
            }
            let end = match &found.record {
                Some(record) => End::Ok(record.clone(), asked_at),
                None => End::Failed(Reason::TooLarge),
            };
            self.done(ticket, end, effects);
        }
    }

    /// A walk over the list did not find it.
    fn missed(&mut self, now: Timestamp, what: What, ticket: u64) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        if waiting.last != Last::Trouble(Reason::Stale) {
            waiting.last = Last::NotThere;
        }
        waiting.tries += 1;
        let pause = if what == What::Agent { ROSTER_PAUSE } else { pause(waiting.tries, ticket) };
        waiting.not_before = now.plus(pause);
    }

    fn failed(
        &mut self,
        now: Timestamp,
        number: u64,
        trouble: Trouble,
        reason: Reason,
        gate: &mut Gate,
        effects: &mut Vec<Effect>,
    ) {
        match trouble {
            Trouble::Slow(retry_after) => gate.limited(now, retry_after),
            Trouble::Closed => gate.refused(now),
            // A report that is refused by itself says nothing of the credentials.
            Trouble::Never if reason == Reason::Credentials => {}
            Trouble::NotFound | Trouble::Never | Trouble::Anew => gate.answered(now),
            Trouble::Again | Trouble::Few => {}
        }
        let Some(lookup) = self.landed(number) else { return };
        lookup.few += u32::from(trouble == Trouble::Few);
        lookup.anew += u32::from(trouble == Trouble::Anew);
        let hopeless = lookup.few > FEW || lookup.anew > ANEW_MAX || trouble == Trouble::Never;
        let tickets = self.tickets(number);
        let last = if trouble == Trouble::NotFound { Last::NotThere } else { Last::Trouble(reason) };
        for ticket in &tickets {
            if let Some(waiting) = self.waiting.get_mut(ticket) {
                waiting.last = last;
            }
        }
        if trouble == Trouble::Closed {
            let all: Vec<u64> = self.waiting.keys().copied().collect();
            self.give_up(now, &all, reason, effects);
        } else if hopeless {
            self.give_up(now, &tickets, reason, effects);
        }
        if hopeless || self.tickets(number).is_empty() {
            self.close(now, number, effects);
            return;
        }
        match trouble {
            Trouble::Slow(_) | Trouble::Anew => self.ready.push_front(number),
            Trouble::Again | Trouble::Few | Trouble::NotFound => self.again(now, number),
            // Both ended above.
            Trouble::Closed | Trouble::Never => {}
        }
    }

    pub(super) fn give_up<'a>(
        &mut self,
        now: Timestamp,
        tickets: impl IntoIterator<Item = &'a u64>,
        reason: Reason,
        effects: &mut Vec<Effect>,
    ) {
        for ticket in tickets {
            let Some(waiting) = self.waiting.get(ticket) else { continue };
            let end = self.better_than_nothing(now, &waiting.want).unwrap_or(End::Failed(reason));
            self.done(*ticket, end, effects);
        }
    }

    fn better_than_nothing(&self, now: Timestamp, want: &Want) -> Option<End> {
        match self.cache.stale(want, now)? {
            Known::Record(record, at) => Some(End::Ok(record, at)),
            Known::Missing => None,
        }
    }

    fn done(&mut self, ticket: u64, end: End, effects: &mut Vec<Effect>) {
        let Some(Waiting { want, .. }) = self.waiting.remove(&ticket) else { return };
        self.deadlines.remove(&(want.deadline, ticket));
        let key = (want.what, want.id);
        if let Some(tickets) = self.by_id.get_mut(&key) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.by_id.remove(&key);
            }
        }
        effects.push(Effect::Done(ticket, end, Source::Asked));
    }

    /// Ends what must be answered now.
    fn expire(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while let Some((_, ticket)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            let Some(waiting) = self.waiting.get(&ticket) else {
                self.deadlines.pop_first();
                continue;
            };
            let (what, id) = (waiting.want.what, waiting.want.id.clone());
            let end = match waiting.last {
                Last::NotThere => {
                    let want = waiting.want.clone();
                    self.cache.put_missing(what, &id, want.version, now);
                    match not_there(&want) {
                        End::Missing => End::Missing,
                        not_listed => self.better_than_nothing(now, &want).unwrap_or(not_listed),
                    }
                }
                Last::Trouble(reason) => self.better_than_nothing(now, &waiting.want).unwrap_or(End::Failed(reason)),
                Last::Nothing => {
                    // Either its call hangs, or it had no turn.
                    let reason = if self.is_out(what, &id, ticket) { Reason::Timeout } else { self.kept_back() };
                    self.better_than_nothing(now, &waiting.want).unwrap_or(End::Failed(reason))
                }
            };
            self.done(ticket, end, effects);
            let idle = self.ones.get(&(what, id.clone())).copied().filter(|number| {
                !self.by_id.contains_key(&(what, id)) && self.lookups.get(number).is_some_and(|lookup| !lookup.out)
            });
            if let Some(number) = idle {
                self.close(now, number, effects);
            }
        }
        let idle = |lookup: &Lookup| matches!(lookup.target, Target::List(..)) && !lookup.out;
        let lists: Vec<u64> = self.lists.values().filter_map(|gathering| gathering.open).collect();
        for number in lists {
            if self.lookups.get(&number).is_some_and(idle) && self.tickets(number).is_empty() {
                self.close(now, number, effects);
            }
        }
    }

    fn is_out(&self, what: What, id: &str, ticket: u64) -> bool {
        let lookup = match self.lists.get(&what).and_then(|gathering| gathering.open) {
            Some(open) => self.lookups.get(&open).filter(|lookup| lookup.seeking.contains(&ticket)),
            None => self.ones.get(&(what, id.into())).and_then(|number| self.lookups.get(number)),
        };
        lookup.is_some_and(|lookup| lookup.out)
    }

    /// Why a want had no turn.
    fn kept_back(&self) -> Reason {
        if self.turn_at.is_some() { Reason::RateLimited } else { Reason::Timeout }
    }
}

/// The end of a want whose record the vendor did not show. Its customers are listed by when they changed: of one whose event
/// does not say when, that tells nothing.
fn not_there(want: &Want) -> End {
    if want.what == What::Client && want.version.is_none() { End::Failed(Reason::NotListed) } else { End::Missing }
}
