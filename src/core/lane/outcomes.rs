//! What a lane makes of its outlet's answers: success, another try, a dead letter, or standing still.

use crate::{
    config::settings::OnDead,
    core::{
        lane::{
            COMMON_CAUSE_KEYS, Carried,
            keys::{Stage, mix},
            step::{Lane, Timer},
        },
        retry::{self, History, Verdict},
    },
    destinations::{Outcome, OutletState},
    domain::{DeadCause, Failure, FailureKind, OrderKey, StopReason, Timestamp},
    journal::Ending,
};
use std::{collections::BTreeSet, time::Duration};

/// One cause that failed many keys, with no success between.
#[derive(Debug)]
pub struct CommonCause {
    kind: FailureKind,
    pub detail: Box<str>,
    /// When the lane stopped for it.
    pub since: Timestamp,
    /// When one delivery is tried, to see.
    pub probe_at: Timestamp,
    pub probes: u32,
}

impl<T: Carried> Lane<T> {
    /// The key of a try that is not out any more. `None`: it was given up on, and the lane has heard its end before.
    fn landed(&mut self, ticket: u64) -> Option<OrderKey> {
        let flight =
            usize::try_from(ticket.wrapping_sub(self.first_ticket)).ok().and_then(|at| self.flights.get_mut(at));
        let order = flight.and_then(Option::take)?;
        self.in_flight -= 1;
        while self.flights.front() == Some(&None) {
            self.flights.pop_front();
            self.first_ticket += 1;
        }
        Some(order)
    }

    /// Lays the key of a try on the shelf, or leaves it there a while longer.
    pub(super) fn park_try(&mut self, now: Timestamp, ticket: u64, detail: Box<str>) {
        let Some(order) = self.landed(ticket) else { return };
        let Some(queue) = self.keys.get_mut(&order) else { return };
        queue.first.detail = detail;
        if !queue.first.shelved {
            self.park(now, order);
            return;
        }
        let attempts = queue.first.attempts;
        let jitter = u32::try_from(mix(self.config.seed ^ order.0 ^ u64::from(attempts)) >> 32).unwrap_or(u32::MAX);
        let pause = retry::pause(attempts, &self.config.retry, jitter);
        self.put_back(order, now.plus(pause));
    }

    pub(super) fn outcome(&mut self, now: Timestamp, ticket: u64, outcome: Outcome) {
        let Some(order) = self.landed(ticket) else { return };
        match outcome {
            Outcome::Taken { answer } => {
                self.succeeded(now);
                if let Some(pending) = self.drop_first(now, order) {
                    self.record(now, pending, Ending::Delivered, answer);
                }
            }
            Outcome::Failed(failure) => self.failed(now, order, failure),
        }
    }

    /// Takes back everything that is out: it is tried again when there is an outlet that is up.
    pub(super) fn outlet_gone(&mut self, now: Timestamp) {
        self.outlet = OutletState::Stopped(StopReason::Down, "the outlet was replaced".into());
        let tickets = self.first_ticket..self.first_ticket + self.flights.len() as u64;
        // From the last to the first, so that the first is the first to go out again.
        for ticket in tickets.rev() {
            let failure = Failure { kind: FailureKind::Unknown, detail: "the outlet was replaced".into() };
            self.outcome(now, ticket, Outcome::Failed(failure));
        }
    }

    fn succeeded(&mut self, now: Timestamp) {
        self.failing.0 = None;
        self.failing.1.clear();
        self.end_common_cause(now);
    }

    pub(super) fn end_common_cause(&mut self, now: Timestamp) {
        let Some(common) = self.common.take() else { return };
        self.stood += now.since(common.since);
    }

    /// How long the lane has stood still for common causes: the time that no unroutable clock counts.
    fn stood(&self, now: Timestamp) -> Duration {
        self.stood + self.common.as_ref().map_or(Duration::ZERO, |common| now.since(common.since))
    }

    fn failed(&mut self, now: Timestamp, order: OrderKey, failure: Failure) {
        let stood = self.stood(now);
        let lane_is_down = self.outlet != OutletState::Up && failure.kind == FailureKind::Unknown;
        let Some(queue) = self.keys.get_mut(&order) else { return };
        let first = &mut queue.first;
        first.detail.clone_from(&failure.detail);
        if failure.kind == FailureKind::Returned {
            first.returned = first.returned.or(Some((now, stood)));
        }
        let history = History {
            received_at: first.item.received_at,
            attempts: first.attempts,
            returned_at: first.returned.map(|(at, before)| at.plus(stood.saturating_sub(before))),
        };
        let jitter =
            u32::try_from(mix(self.config.seed ^ order.0 ^ u64::from(first.attempts)) >> 32).unwrap_or(u32::MAX);
        let verdict = match retry::judge(&failure, history, &self.config.retry, now, jitter) {
            Verdict::Again(_) if lane_is_down => Verdict::Stop(StopReason::Down),
            verdict => verdict,
        };
        if let Verdict::Stop(reason) = verdict {
            queue.stage = Stage::Ready;
            self.ready.push_front(order);
            if self.outlet == OutletState::Up {
                self.outlet = OutletState::Stopped(reason, failure.detail);
            }
            return;
        }
        if self.is_common_cause(now, order, &failure) {
            self.wait(order, now);
            return;
        }
        match verdict {
            Verdict::Again(pause) => self.wait(order, now.plus(pause)),
            Verdict::Dead(cause) => self.bury(now, order, cause, failure.detail),
            Verdict::Stop(_) => {}
        }
    }

    /// Lets a key's first delivery wait for its next try: in memory, or on the shelf where it came from.
    fn wait(&mut self, order: OrderKey, until: Timestamp) {
        let Some(queue) = self.keys.get_mut(&order) else { return };
        if queue.first.shelved {
            self.put_back(order, until);
            return;
        }
        queue.stage = Stage::Waiting(until);
        self.waiting.insert((queue.first.item.offset, order));
        self.timers.insert((until, Timer::Key(order)));
    }

    /// Counts a failure; says whether the lane stands still because one cause fails everything.
    fn is_common_cause(&mut self, now: Timestamp, order: OrderKey, failure: &Failure) -> bool {
        if failure.kind == FailureKind::Unknown || !self.config.common_cause {
            return false;
        }
        if self.failing.0 != Some(failure.kind) {
            self.failing = (Some(failure.kind), BTreeSet::new());
        }
        self.failing.1.insert(order);
        if self.common.is_none() && self.failing.1.len() >= COMMON_CAUSE_KEYS {
            let probe_at = now.plus(self.config.retry.backoff_min);
            let detail = failure.detail.clone();
            self.common = Some(CommonCause { kind: failure.kind, detail, since: now, probe_at, probes: 0 });
        }
        self.common.as_ref().is_some_and(|common| common.kind == failure.kind)
    }

    /// Makes a key's first delivery a dead letter.
    pub(super) fn bury(&mut self, now: Timestamp, order: OrderKey, cause: DeadCause, detail: Box<str>) {
        let Some(queue) = self.keys.get(&order) else { return };
        let holds = queue.first.item.on_dead == OnDead::Park;
        if holds {
            self.hold(now, order);
        }
        let Some(pending) = self.drop_first(now, order) else { return };
        self.lay_out(now, pending, cause, detail, holds);
    }
}
