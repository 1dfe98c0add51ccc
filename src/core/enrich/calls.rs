//! The calls of one tenant: which lookups there are, when each may ask, and the walks over lists.

use super::{
    Effect, Reason, Target, Want, What,
    lists::{self, Gathering, Seeking},
    tenant::{Lookup, Tenant, Timer, Waiting},
};
use crate::{
    core::gate::{Gate, Purpose, Turn},
    domain::Timestamp,
};
use std::{collections::BTreeSet, time::Duration};

/// Calls of one tenant that are out at most: a hanging API holds no more.
const CALLS_MAX: usize = 8;
/// Between tries for what failed or was not there: the first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

impl Tenant {
    pub(super) fn open(&mut self, target: Target, seeking: BTreeSet<u64>) -> u64 {
        let lookup = self.next_lookup;
        self.next_lookup += 1;
        let (asked_at, gathering) = (Timestamp::EPOCH, Gathering::default());
        let new = Lookup { target, out: false, asked_at, gathering, tries: 0, few: 0, anew: 0, seeking };
        self.lookups.insert(lookup, new);
        lookup
    }

    /// Someone wants a record that is asked for by its id.
    pub(super) fn join_one(&mut self, now: Timestamp, want: &Want) {
        let key = (want.what, want.id.clone());
        if let Some(lookup) = self.ones.get(&key).and_then(|number| self.lookups.get_mut(number)) {
            lookup.gathering.joined(now, want.deadline);
            return;
        }
        let number = self.open(Target::One(want.what, want.id.clone()), BTreeSet::new());
        if let Some(lookup) = self.lookups.get_mut(&number) {
            lookup.gathering = self.cache.asked_at(&key).map(Gathering::after_call).unwrap_or_default();
            lookup.gathering.joined(now, want.deadline);
        }
        self.ones.insert(key, number);
        self.call_gathered(now, number);
    }

    /// Lets a lookup make its call when those who want it have gathered; false if nobody came since its last call.
    pub(super) fn call_gathered(&mut self, now: Timestamp, number: u64) -> bool {
        let Some(due) = self.lookups.get(&number).and_then(|lookup| lookup.gathering.due()) else { return false };
        self.timers.insert((due.max(now), Timer::Ready(number)));
        true
    }

    /// Another event about a record has come: who gathers for it waits for that one, too.
    pub(super) fn coming(&mut self, now: Timestamp, what: What, id: Box<str>) {
        let Some(lookup) = self.ones.get(&(what, id)).and_then(|number| self.lookups.get_mut(number)) else { return };
        if lookup.gathering.due().is_some_and(|due| due > now) {
            lookup.gathering.joined(now, Timestamp::NEVER);
        }
    }

    pub(super) fn close(&mut self, now: Timestamp, number: u64, effects: &mut Vec<Effect>) {
        let Some(lookup) = self.lookups.remove(&number) else { return };
        self.ready.retain(|ready| *ready != number);
        match lookup.target {
            Target::One(what, id) => drop(self.ones.remove(&(what, id))),
            Target::List(what, ..) => {
                effects.push(Effect::Close(number));
                if let Some(gathering) = self.lists.get_mut(&what) {
                    gathering.open = None;
                }
                self.gather_later(now, what);
            }
        }
    }

    /// Those that a lookup serves.
    pub(super) fn tickets(&self, number: u64) -> BTreeSet<u64> {
        match self.lookups.get(&number) {
            None => BTreeSet::new(),
            Some(Lookup { target: Target::One(what, id), .. }) => {
                self.by_id.get(&(*what, id.clone())).cloned().unwrap_or_default()
            }
            Some(lookup) => lookup.seeking.iter().copied().filter(|one| self.waiting.contains_key(one)).collect(),
        }
    }

    pub(super) fn landed(&mut self, number: u64) -> Option<&mut Lookup> {
        self.out = self.out.saturating_sub(1);
        let lookup = self.lookups.get_mut(&number)?;
        lookup.out = false;
        Some(lookup)
    }

    /// Lets a lookup make its call again after a pause that grows.
    pub(super) fn again(&mut self, now: Timestamp, number: u64) {
        let Some(lookup) = self.lookups.get_mut(&number) else { return };
        lookup.tries += 1;
        let at = now.plus(pause(lookup.tries, number));
        self.timers.insert((at, Timer::Ready(number)));
    }

    pub(super) fn run_timers(&mut self, now: Timestamp) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Ready(number) => {
                    let Some(lookup) = self.lookups.get(&number) else { continue };
                    match lookup.gathering.due() {
                        // More have come since.
                        Some(due) if due > now => drop(self.timers.insert((due, timer))),
                        Some(_) | None => self.ready.push_back(number),
                    }
                }
                Timer::Gather(what) => self.gather(now, what),
            }
        }
    }

    /// When the next walk over a list begins, if one may.
    fn next_walk(&self, what: What) -> Option<Timestamp> {
        let gathering = self.lists.get(&what).filter(|gathering| gathering.open.is_none())?;
        let again = self.of_kind(what).filter(|waiting| !waiting.fresh).map(|waiting| waiting.not_before).min();
        [gathering.due(), again].into_iter().flatten().min()
    }

    pub(super) fn gather_later(&mut self, now: Timestamp, what: What) {
        if let Some(at) = self.next_walk(what) {
            self.timers.insert((at.max(now), Timer::Gather(what)));
        }
    }

    fn of_kind(&self, what: What) -> impl Iterator<Item = &Waiting> {
        self.waiting.values().filter(move |waiting| waiting.want.what == what)
    }

    /// Begins a walk over a list for those whose turn it is.
    fn gather(&mut self, now: Timestamp, what: What) {
        let Some(at) = self.next_walk(what) else { return };
        if at > now {
            self.timers.insert((at, Timer::Gather(what)));
            return;
        }
        let mut seeking = Vec::new();
        for waiting in self.waiting.values_mut().filter(|one| one.want.what == what && one.not_before <= now) {
            waiting.fresh = false;
            let Want { ticket, at, deadline, .. } = waiting.want;
            seeking.push(Seeking { ticket, at, tries: waiting.tries, deadline });
        }
        if let Some(gathering) = self.lists.get_mut(&what) {
            gathering.since = None;
        }
        if seeking.is_empty() {
            return;
        }
        let (from, to, tickets) = lists::window(what, &seeking, now);
        let lookup = self.open(Target::List(what, from, to), tickets.into_iter().collect());
        self.ready.push_back(lookup);
        if let Some(gathering) = self.lists.get_mut(&what) {
            gathering.open = Some(lookup);
        }
    }

    /// Makes the calls that the gate lets through.
    pub(super) fn pump(&mut self, now: Timestamp, gate: &mut Gate, effects: &mut Vec<Effect>) {
        self.turn_at = None;
        while self.out < CALLS_MAX {
            let Some(number) = self.ready.front().copied() else { return };
            let Some(target) = self.lookups.get(&number).filter(|lookup| !lookup.out).map(|one| one.target.clone())
            else {
                self.ready.pop_front();
                continue;
            };
            if self.tickets(number).is_empty() {
                self.close(now, number, effects);
                continue;
            }
            match gate.turn(now, Purpose::Event) {
                Turn::Now => {}
                Turn::At(at) => {
                    self.turn_at = Some(at);
                    return;
                }
                // The credentials are refused; what is out already may tell otherwise.
                Turn::Closed(_) => {
                    let out = self.lookups.iter().filter(|(_, lookup)| lookup.out).map(|(number, _)| *number);
                    let probed: BTreeSet<u64> = out.flat_map(|number| self.tickets(number)).collect();
                    let others: Vec<u64> = self.waiting.keys().copied().filter(|one| !probed.contains(one)).collect();
                    self.give_up(now, &others, Reason::Credentials, effects);
                    continue;
                }
            }
            self.ready.pop_front();
            if let Some(lookup) = self.lookups.get_mut(&number) {
                // Whoever came until now is served by what it brings.
                (lookup.out, lookup.asked_at, lookup.gathering) = (true, now, Gathering::after_call(now));
            }
            self.out += 1;
            effects.push(Effect::Call(number, target));
        }
    }
}

/// The pause before a try: doubles, and is spread a little so that lookups do not go in step.
pub(super) fn pause(tries: u32, spread: u64) -> Duration {
    let (first, longest) = PAUSE;
    let full = first.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(longest);
    let share = u32::try_from(spread.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).unwrap_or(0);
    full * 3 / 4 + full / 4 * share / 255
}
