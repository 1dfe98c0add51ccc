//! The router: the lane over EVENTS whose outlet is "enrich, decide, append to ROUTED".
//!
//! Each event is decided once, by the generation of the routes in force when it is looked at, and stamped with it. Of a
//! key one event is in hand at a time, and the next only after COMMIT said ok for its row: so ROUTED has a key's
//! events in the order of EVENTS, however long a lookup takes.
//!
//! Its progress says which ROUTED row it reflects last. At a start every row after that one marks its event as done
//! ([`Router::already_routed`]; on the shelf: [`leave_shelf`]) before anything is decided: so a crash between the commit of a row and the progress
//! repeats nothing.
//!
//! Events that wait for records hold nobody up. One whose required record cannot be had is laid on the router's own shelf
//! with its key, and looked at again from there, until it is almost [`Retry::max_age`] old; then the route is a dead letter, as
//! it is at once when no later try can bring the record. And when nothing more can be read because of those that wait,
//! whoever has waited for [`HELD_MAX`] goes there too.

use crate::{
    config::settings::{OnDead, Retry},
    core::{
        enrich::Reason,
        lane::{self, Carried, Effect as LaneEffect, Input as LaneInput, Item, Lane, LaneConfig, Settling, Status},
    },
    destinations::Outcome,
    domain::{
        DeadCause, DeadRoute, Decision, EnrichmentPart, Event, Offset, OrderKey, Partition, RoutedRow, Timestamp,
    },
    journal::{Damage, Entry, LaneRecord, NewRouted, Settlement, ShelfChange, ShelfRow},
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Events in hand at most.
pub const WINDOW: usize = 4_096;

/// An event that waits for records keeps others from being read for so long at most.
pub const HELD_MAX: Duration = Duration::from_secs(1);

/// A record that a decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// `client`, `conversation`, `agent` or `session`.
    pub what: Box<str>,
    /// Whether the event waits until it is there.
    pub required: bool,
    /// How long, from acceptance.
    pub within: Duration,
}

/// What a first look at an event comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided<M> {
    /// The decision.
    Now(Decision),
    /// Records are wanted first; at least one.
    Needs(Vec<Need>, M),
}

/// The routes, as the router needs them: pure.
pub trait Decide: Send + Sync {
    /// What the first look found, when records are wanted.
    type Matched: fmt::Debug + Send;
    /// The number that rows decided by these routes carry.
    fn generation(&self) -> u32;
    /// The decision, if it needs no record; else what the routes found ask the vendor for.
    fn decide(&self, event: &Event) -> Decided<Self::Matched>;
    /// How long an event waits for a required record, and with which pauses it is looked at again.
    fn retry(&self) -> Retry {
        Retry::default()
    }
    /// The decision.
    fn finish(&self, event: &Event, matched: Self::Matched, enrichment: &[EnrichmentPart]) -> Decision;
}

/// What the router is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// EVENTS has rows up to (not including) this one.
    Grown(Offset),
    /// The page asked for.
    Page {
        /// The first row not covered.
        next: Offset,
        /// The rows.
        rows: Vec<Entry<Event>>,
    },
    /// Reading failed.
    ReadFailed,
    /// The rows of these tries stand in ROUTED, from this number on. Told in the order of commits: progress that reflects
    /// a row reflects all before it.
    Appended(Vec<u64>, Offset),
    /// They found no room and come back.
    NoRoom(Vec<u64>, Vec<NewRouted>),
    /// A lookup asked for by [`Effect::Fetch`] ended, well or not.
    Fetched(u64, Vec<EnrichmentPart>),
    /// The rows of a parked key, oldest first, with their events.
    Shelf(OrderKey, Vec<(ShelfRow, Entry<Event>)>),
    /// The settlement asked for last is durable.
    Settled,
    /// It is not, for want of room.
    SettleFailed,
    /// Time has come.
    Tick,
}

/// What the router asks for.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Read EVENTS from a row on.
    Read {
        /// The first row.
        from: Offset,
        /// At most so many rows.
        rows: usize,
    },
    /// Append decisions to ROUTED, in this order; the tries come back with [`Input::Appended`] or [`Input::NoRoom`].
    Append(Vec<u64>, Vec<NewRouted>),
    /// Fetch what an event needs; [`Input::Fetched`] comes back with a part for each need, by the end of its budget.
    Fetch(u64, Arc<Event>, Vec<Need>),
    /// Make this durable.
    Settle(Arc<Settling>),
    /// Read the first rows of a parked key from the router's shelf, at most so many; [`Input::Shelf`] comes back.
    LoadShelf(OrderKey, usize),
}

/// An event in the router's lane.
#[derive(Debug, Clone)]
enum InHand {
    Event(Arc<Event>),
    Damaged(Damage),
}

impl Carried for InHand {
    fn bytes(&self) -> usize {
        if let Self::Event(event) = self { event.body.len() } else { 0 }
    }
}

/// Rows on their way to ROUTED, and the tries they answer.
type Rows = (Vec<u64>, Vec<NewRouted>);

/// An event that waits for records, with the routes that looked at it first.
#[derive(Debug)]
struct Waiting<D: Decide> {
    event: Arc<Event>,
    routes: Arc<D>,
    matched: D::Matched,
    needs: Vec<Need>,
    since: Timestamp,
}

/// The router of one partition.
#[derive(Debug)]
pub struct Router<D: Decide> {
    partition: Partition,
    routes: Arc<D>,
    lane: Lane<InHand>,
    /// Events that wait for records, by ticket.
    waiting: BTreeMap<u64, Waiting<D>>,
    /// Rows that found no room, to be tried again.
    homeless: Vec<Rows>,
    again_at: Option<Timestamp>,
    effects: Vec<LaneEffect<InHand>>,
}

/// The pause before rows that found no room are tried again.
const ROOM_PAUSE: Duration = Duration::from_millis(250);

impl<D: Decide> Router<D> {
    /// Takes up where the stored record left off.
    #[must_use]
    pub fn new(partition: Partition, routes: Arc<D>, config: LaneConfig, record: &LaneRecord) -> Self {
        Self {
            partition,
            routes,
            // The router's outlet is the log itself: it is there when there is something to read.
            lane: Lane::new(LaneConfig { receipts: false, shelf: false, ..config }, record).always_up(),
            waiting: BTreeMap::new(),
            homeless: Vec::new(),
            again_at: None,
            effects: Vec::new(),
        }
        .retry_by_routes()
    }

    /// An event that waits for a required record never expires in the lane: its routes say what becomes of it.
    fn retry_by_routes(mut self) -> Self {
        self.lane.retry_by(Retry { max_age: Duration::MAX, ..self.routes.retry() });
        self
    }

    /// How the router's lane behaves.
    #[must_use]
    pub fn lane_config() -> LaneConfig {
        let retry = Retry { max_age: Duration::MAX, ..Default::default() };
        LaneConfig {
            window: WINDOW,
            read_ahead: 2 * WINDOW,
            retry,
            rate: None,
            receipts: false,
            shelf: false,
            common_cause: false,
            settle_every: lane::IDLE_SETTLE,
            seed: 0,
        }
    }

    /// At start, for every ROUTED row after the one that the stored progress reflects: its event is decided.
    pub fn already_routed(&mut self, routed: Offset, row: &RoutedRow) {
        if row.job == 0 {
            self.lane.settled_before(row.event.offset);
        }
        self.lane.reflect(routed);
    }

    /// The same for a row that is spoiled but says which event it is about: that one is not decided a second time.
    pub fn already_decided(&mut self, routed: Offset, event: Offset) {
        self.lane.settled_before(event);
        self.lane.reflect(routed);
    }

    /// Events looked at from now on are decided by these routes.
    pub fn use_routes(&mut self, routes: Arc<D>) {
        self.lane.retry_by(Retry { max_age: Duration::MAX, ..routes.retry() });
        self.routes = routes;
    }

    /// How many events wait for records.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What is to be seen of it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lane.status()
    }

    /// When [`Input::Tick`] is wanted at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let oldest = self.waiting.first_key_value().filter(|_| self.lane.is_stuck());
        let held = oldest.map(|(_, waiting)| waiting.since.plus(HELD_MAX));
        [self.lane.wake_at(), self.again_at, held].into_iter().flatten().min()
    }

    /// Asks for everything to be settled at once: before the process stops.
    pub fn settle_now(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let mut effects = Vec::new();
        self.lane.settle_now(now, &mut effects);
        out.extend(effects.into_iter().filter_map(|effect| match effect {
            LaneEffect::Settle(settling) => Some(Effect::Settle(settling)),
            LaneEffect::Read { .. } | LaneEffect::Publish { .. } | LaneEffect::LoadShelf { .. } => None,
        }));
    }

    /// Takes an input at a time and appends what follows from it to `out`.
    pub fn step(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        let mut rows = Rows::default();
        let lane_input = match input {
            Input::Grown(head) => LaneInput::Grown(head),
            Input::Page { next, rows: entries } => {
                let items = entries.into_iter().map(|entry| item(self.partition, entry)).collect();
                LaneInput::Page { next, items }
            }
            Input::ReadFailed => LaneInput::ReadFailed,
            Input::Appended(tickets, first) => {
                // Before the lane's step, so that a settlement in it says both: rows settled, row reflected.
                self.lane.reflect(first + tickets.len() as u64 - 1);
                let taken = |ticket| (ticket, Outcome::Taken { answer: "".into() });
                LaneInput::Outcomes(tickets.into_iter().map(taken).collect())
            }
            Input::NoRoom(tickets, homeless) => {
                self.homeless.push((tickets, homeless));
                self.again_at = Some(now.plus(ROOM_PAUSE));
                LaneInput::Tick
            }
            Input::Fetched(ticket, parts) => self.fetched(now, ticket, parts, &mut rows),
            Input::Shelf(order, found) => {
                let of_shelf = |(row, entry): (ShelfRow, Entry<Event>)| Item {
                    offset: row.offset,
                    order: row.order,
                    ..item(self.partition, entry)
                };
                LaneInput::Shelf { order, items: found.into_iter().map(of_shelf).collect() }
            }
            Input::Settled => LaneInput::Settled,
            Input::SettleFailed => LaneInput::SettleFailed,
            Input::Tick => LaneInput::Tick,
        };
        self.step_lane(now, lane_input, &mut rows, out);
        self.make_room(now, &mut rows, out);
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            out.extend(self.homeless.drain(..).map(|(tickets, rows)| Effect::Append(tickets, rows)));
        }
        if !rows.0.is_empty() {
            out.push(Effect::Append(rows.0, rows.1));
        }
    }

    /// What becomes of an event whose lookups ended.
    fn fetched(
        &mut self,
        now: Timestamp,
        ticket: u64,
        parts: Vec<EnrichmentPart>,
        rows: &mut Rows,
    ) -> LaneInput<InHand> {
        let Some(waiting) = self.waiting.remove(&ticket) else { return LaneInput::Tick };
        let age = now.since(waiting.event.received_at);
        if let Some(detail) = lacks(&waiting.needs, &parts)
            && age < patience(waiting.routes.retry().max_age)
        {
            return LaneInput::Park(ticket, detail);
        }
        let Waiting { event, routes, matched, .. } = waiting;
        let decision = routes.finish(&event, matched, &parts);
        push(rows, ticket, event, routes.generation(), decision, parts);
        LaneInput::Tick
    }

    /// Lays events that wait for records on the shelf when they keep others from being read.
    fn make_room(&mut self, now: Timestamp, rows: &mut Rows, out: &mut Vec<Effect>) {
        if !self.lane.is_stuck() {
            return;
        }
        let held = self.waiting.iter().filter(|(_, waiting)| now.since(waiting.since) >= HELD_MAX);
        let held: Vec<u64> = held.map(|(ticket, _)| *ticket).collect();
        for ticket in held {
            self.waiting.remove(&ticket);
            let detail = "waits for records, and others could not be read".into();
            self.step_lane(now, LaneInput::Park(ticket, detail), rows, out);
        }
    }

    /// Steps the lane and carries out what it asks of its outlet.
    fn step_lane(&mut self, now: Timestamp, input: LaneInput<InHand>, rows: &mut Rows, out: &mut Vec<Effect>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.lane.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                LaneEffect::Read { from, rows } => out.push(Effect::Read { from, rows }),
                LaneEffect::Publish { ticket, payload, .. } => self.look_at(now, ticket, payload, rows, out),
                LaneEffect::Settle(settling) => out.push(Effect::Settle(settling)),
                LaneEffect::LoadShelf { order, rows } => out.push(Effect::LoadShelf(order, rows)),
            }
        }
        self.effects = effects;
    }

    fn look_at(&mut self, now: Timestamp, ticket: u64, in_hand: InHand, rows: &mut Rows, out: &mut Vec<Effect>) {
        let event = match in_hand {
            InHand::Event(event) => event,
            InHand::Damaged(damage) => {
                let event = Arc::new(Event::stand_in(self.partition, damage.offset));
                let dead = DeadRoute { route: None, cause: DeadCause::Damaged, detail: damage.detail };
                let decision = Decision { dead: vec![dead], ..Decision::default() };
                push(rows, ticket, event, self.routes.generation(), decision, Vec::new());
                return;
            }
        };
        if event.superseded {
            let decision = Decision { superseded: true, ..Decision::default() };
            push(rows, ticket, event, self.routes.generation(), decision, Vec::new());
            return;
        }
        match self.routes.decide(&event) {
            Decided::Now(decision) => push(rows, ticket, event, self.routes.generation(), decision, Vec::new()),
            Decided::Needs(needs, matched) => {
                out.push(Effect::Fetch(ticket, Arc::clone(&event), needs.clone()));
                let routes = Arc::clone(&self.routes);
                self.waiting.insert(ticket, Waiting { event, routes, matched, needs, since: now });
            }
        }
    }
}

/// What is settled at a start before the router takes its record up: events on its shelf whose decisions stand in ROUTED
/// after the row that its progress reflects leave the shelf. Nothing, if nothing is parked.
#[must_use]
pub fn leave_shelf(record: &LaneRecord, decided: impl Iterator<Item = Offset>) -> Option<Settlement> {
    let shelf: Vec<_> = decided.map(|event| ShelfChange::Remove(event, None)).collect();
    let idle = record.parked.is_empty() || shelf.is_empty();
    (!idle).then(|| Settlement {
        lane: record.lane.clone(),
        partition: record.partition,
        progress: record.progress.clone(),
        receipts: Vec::new(),
        shelf,
    })
}

/// How long an event waits for a required record: not quite its greatest age, so that its other routes can still deliver it.
fn patience(max_age: Duration) -> Duration {
    max_age - (max_age / 8).min(Duration::from_secs(3_600))
}

/// The first required record that could not be had and may yet come, with why it did not, in words for the shelf.
fn lacks(needs: &[Need], parts: &[EnrichmentPart]) -> Option<Box<str>> {
    let of = |need: &Need| parts.iter().find(|part| part.what == need.what);
    let mut lacking = needs.iter().filter(|need| need.required).map(|need| (need, of(need)));
    let (need, part) = lacking.find(|(_, part)| part.is_none_or(may_come))?;
    let why = part.map_or("failed", |part| part.reason.as_deref().unwrap_or(part.status.as_str()));
    Some(format!("the {} could not be had: {why}", need.what).into())
}

/// Whether a later try may bring it: an id that may not be asked for stays one.
fn may_come(part: &EnrichmentPart) -> bool {
    !part.status.satisfies() && !part.reason.as_deref().is_some_and(Reason::is_final)
}

fn push(
    rows: &mut Rows,
    ticket: u64,
    event: Arc<Event>,
    generation: u32,
    decision: Decision,
    enrichment: Vec<EnrichmentPart>,
) {
    let row = RoutedRow { event: event.position(), job: 0, generation, decision, enrichment };
    rows.0.push(ticket);
    rows.1.push(NewRouted { row, event });
}

fn item(partition: Partition, entry: Entry<Event>) -> Item<InHand> {
    match entry {
        Entry::Row(event) => Item {
            offset: event.position().offset,
            route: None,
            event: event.id,
            order: event.order,
            received_at: event.received_at,
            on_dead: OnDead::Continue,
            payload: InHand::Event(event),
        },
        Entry::Damaged(damage) => Item {
            offset: damage.offset,
            route: None,
            event: Event::stand_in(partition, damage.offset).id,
            order: None,
            received_at: Timestamp::EPOCH,
            on_dead: OnDead::Continue,
            payload: InHand::Damaged(damage),
        },
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
