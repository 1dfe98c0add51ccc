//! Steps of the router, the lanes and the replays, and what follows from their effects.

use crate::{
    broker::Open,
    process::{ForKeeper, ForWriter, LaneInput},
    store::events_of,
    world::{Happening, World},
};
use laigu_router::{
    config::settings::OnDead,
    core::{
        lane::{Effect as LaneEffect, Input, Lane},
        replay::{Effect as ReplayEffect, Input as ReplayInput, RowKey},
        router::{Effect as RouterEffect, Input as RouterInput},
    },
    destinations::Outcome,
    domain::{Delivery, DestinationName, FailureKind, Partition, ReplayJob},
    journal::{LaneName, Log, ReadLimit, Settlement, ShelfChange, ShelfState},
    lanes::payload::{self, OnDeadOf, Part, Payload},
};
use std::{fmt::Debug, sync::Arc, time::Duration};

impl World {
    pub fn lane_names(&self, number: u16) -> Vec<LaneName> {
        let run = self.process.as_ref().and_then(|process| process.partitions.get(usize::from(number)));
        run.map(|run| run.lanes.keys().cloned().collect()).unwrap_or_default()
    }

    pub fn router(&mut self, number: u16, input: RouterInput) {
        let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        if matches!(input, RouterInput::Tick) && run.router.wake_at().is_none_or(|at| at > self.now) {
            return;
        }
        let name = || format!("Router/{number}");
        let tick = matches!(input, RouterInput::Tick);
        let mut effects = Vec::new();
        show(name, || format!("{} run {} <- {input:?}", self.now, self.epoch));
        run.router.step(self.now, input, &mut effects);
        show_all(name, &effects);
        let (wake, status) = (run.router.wake_at(), run.router.status());
        self.check_bounds(number, &LaneName::Router, &status);
        self.check_woken(number, &LaneName::Router, tick && effects.is_empty(), wake);
        for effect in effects {
            self.of_router(number, effect);
        }
        if let Some(at) = wake {
            self.wakes(at, number, &LaneName::Router);
        }
    }

    fn of_router(&mut self, number: u16, effect: RouterEffect) {
        match effect {
            RouterEffect::Read { from, rows } => {
                let limit = ReadLimit { rows: rows.min(self.rng.usize(1..20)), bytes: usize::MAX };
                let page = self.journal.log().events(Partition(number), from, limit).expect("the model can be read");
                self.check_read(number, page.gone, std::iter::empty());
                self.soon(2, Happening::Router(number, RouterInput::Page { next: page.next, rows: page.rows }));
            }
            RouterEffect::Append(tickets, rows) => {
                for new in &rows {
                    let known = !new.row.decision.targets.is_empty() || !new.row.decision.dead.is_empty();
                    let lacks = known && crate::routes::lacks(&new.event, &new.row.enrichment);
                    let damaged = new.row.decision.dead.iter().any(|dead| dead.route.is_none());
                    if !lacks || damaged || new.row.decision.superseded {
                        continue;
                    }
                    self.hit("a required record never comes");
                    if self.now.since(new.event.received_at) < self.plan.patience * 7 / 8 {
                        self.wrong(format!("partition {number}: a required record is given up on too early"));
                    }
                }
                let process = self.process.as_mut();
                if let Some(run) = process.and_then(|process| process.partitions.get_mut(usize::from(number))) {
                    run.queue.push_back(ForWriter::Rows(tickets, rows));
                }
                self.soon(2, Happening::WriterWakes(number));
            }
            RouterEffect::Fetch(ticket, event, needs) => self.fetch(number, ticket, &event, &needs),
            RouterEffect::Settle(settling) => {
                if settling.shelf.iter().any(|change| matches!(change, ShelfChange::Remove(..))) {
                    self.hit("a required record comes after its key was parked");
                }
                self.keep(ForKeeper::Settle(Settlement {
                    lane: LaneName::Router,
                    partition: Partition(number),
                    progress: settling.progress.clone(),
                    receipts: Vec::new(),
                    shelf: settling.shelf.clone(),
                }));
            }
            RouterEffect::LoadShelf(order, rows) => {
                let rows = rows.min(self.rng.usize(1..5));
                self.keep(ForKeeper::Load(LaneName::Router, number, order, rows));
            }
        }
    }

    pub fn lane(&mut self, number: u16, name: &LaneName, input: LaneInput) {
        self.learn(number, name, &input);
        if let LaneName::Replay(job) = name {
            let Some(input) = for_replay(input) else { return };
            self.replay(number, *job, input);
            return;
        }
        let (now, epoch) = (self.now, self.epoch);
        let Some((lane, part)) = self.lane_mut(number, name) else { return };
        if matches!(input, Input::Tick) && lane.wake_at().is_none_or(|at| at > now) {
            return;
        }
        let part = part.clone();
        let watched = || format!("{name:?}/{number}");
        show(watched, || format!("{now} run {epoch} <- {input:?}"));
        let tick = matches!(input, Input::Tick);
        let mut effects = Vec::new();
        lane.step(now, input, &mut effects);
        show_all(watched, &effects);
        let (wake, status) = (lane.wake_at(), lane.status());
        self.check_woken(number, name, tick && effects.is_empty(), wake);
        if matches!(part, Part::Destination(_)) {
            self.check_bounds(number, name, &status);
        }
        for effect in effects {
            self.of_lane(number, name, &part, effect);
        }
        if let Some(at) = wake {
            self.wakes(at, number, name);
        }
    }

    pub fn lane_mut(&mut self, number: u16, name: &LaneName) -> Option<(&mut Lane<Payload>, &Part)> {
        let run = self.process.as_mut()?.partitions.get_mut(usize::from(number))?;
        run.lanes.get_mut(name).map(|(lane, part)| (lane, &*part))
    }

    fn of_lane(&mut self, number: u16, name: &LaneName, part: &Part, effect: LaneEffect<Payload>) {
        match effect {
            LaneEffect::Read { from, rows } => {
                let limit = ReadLimit { rows: rows.min(self.rng.usize(1..20)), bytes: usize::MAX };
                let page = self.journal.log().routed(Partition(number), from, &part.wanted(), limit);
                let page = page.expect("the model can be read");
                self.check_read(number, page.gone, events_of(&page.rows).into_iter());
                let items = part.items(Partition(number), page.clone(), &some_park());
                let items = items.into_iter().map(|item| laigu_router::core::lane::Item {
                    // What is spoiled has no time of its own.
                    received_at: item.received_at.min(self.now),
                    ..item
                });
                let input = Input::Page { next: page.next, items: items.collect() };
                self.soon(2, Happening::Lane(number, name.clone(), input));
            }
            LaneEffect::Publish { ticket, payload, .. } => {
                let destination = match name {
                    LaneName::Destination(destination) => Some(destination.clone()),
                    LaneName::Router | LaneName::Morgue | LaneName::Replay(_) => None,
                };
                self.publish(number, name, destination, ticket, payload);
            }
            LaneEffect::Settle(settling) => {
                self.check_receipts(number, name, &settling.receipts);
                if settling.shelf.iter().any(|change| matches!(change, ShelfChange::Put(row) if row.holds)) {
                    self.hit("a dead letter holds a key");
                }
                self.keep(ForKeeper::Settle(Settlement {
                    lane: name.clone(),
                    partition: Partition(number),
                    progress: settling.progress.clone(),
                    receipts: settling.receipts.clone(),
                    shelf: settling.shelf.clone(),
                }));
            }
            LaneEffect::LoadShelf { order, rows } => {
                if self.plan.hot && order == crate::client::order(0) {
                    self.hit("a hot key goes by the shelf");
                }
                let rows = rows.min(self.rng.usize(1..5));
                self.keep(ForKeeper::Load(name.clone(), number, order, rows));
            }
        }
    }

    fn publish(
        &mut self,
        number: u16,
        name: &LaneName,
        destination: Option<DestinationName>,
        ticket: u64,
        payload: Payload,
    ) {
        let broker = destination.as_ref().and_then(|destination| self.brokers.get_mut(destination));
        let place = (name.clone(), number, ticket);
        match payload {
            Payload::Dead(cause, detail) => {
                if let Some(broker) = broker {
                    broker.open.insert(place, Open { delivery: String::new(), taken: false, answered: true });
                }
                let outcomes = vec![(ticket, payload::refused(cause, detail))];
                self.soon(1, Happening::Lane(number, name.clone(), Input::Outcomes(outcomes)));
            }
            Payload::Delivery(delivery) => {
                let (Some(broker), Some(destination)) = (broker, destination) else { return };
                let open = Open { delivery: delivery.id().as_str().to_owned(), taken: false, answered: false };
                broker.open.insert(place.clone(), open);
                let connection = broker.connection;
                let pause = Duration::from_millis(self.rng.u64(0..=6));
                broker.arrives_at = broker.arrives_at.max(self.now.plus(pause));
                let at = broker.arrives_at;
                self.at(at, Happening::Arrives(destination, place, Box::new(delivery), connection));
            }
        }
    }

    /// A lane hears how tries ended: from here on nothing of it is lost with a connection.
    fn learn(&mut self, number: u16, name: &LaneName, input: &LaneInput) {
        let Input::Outcomes(outcomes) = input else { return };
        let destination = match name {
            LaneName::Destination(destination) => Some(destination.clone()),
            LaneName::Replay(_) => self.replayed(number, name),
            LaneName::Router | LaneName::Morgue => None,
        };
        let Some(broker) = destination.and_then(|destination| self.brokers.get_mut(&destination)) else { return };
        let (mut late, mut given_back) = (0, Vec::new());
        for (ticket, outcome) in outcomes {
            let open = broker.open.remove(&(name.clone(), number, *ticket));
            late += u64::from(open.is_none());
            if let (Some(open), Outcome::Failed(failure)) = (open, outcome)
                && failure.kind == FailureKind::Returned
            {
                given_back.push(open.delivery.clone());
                broker.gave_back(open.delivery, self.now);
            }
        }
        self.check_given_back(number, name, given_back);
        if late > 0 {
            self.hit("a late outcome of an old try");
        }
    }

    /// The destination of a replay.
    pub fn replayed(&self, number: u16, name: &LaneName) -> Option<DestinationName> {
        let run = self.process.as_ref()?.partitions.get(usize::from(number))?;
        run.replays.get(name).map(|(_, destination)| destination.clone())
    }

    pub fn replay(&mut self, number: u16, job: ReplayJob, input: ReplayInput<Payload>) {
        let (now, name) = (self.now, LaneName::Replay(job));
        let run = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)));
        let Some((replay, destination)) = run.and_then(|run| run.replays.get_mut(&name)) else { return };
        let destination = destination.clone();
        let watched = || format!("{name:?}/{number}");
        show(watched, || format!("{now} <- {input:?}"));
        let tick = matches!(input, ReplayInput::Tick);
        let mut effects = Vec::new();
        replay.step(now, input, &mut effects);
        show_all(watched, &effects);
        let (wake, status) = (replay.wake_at(), replay.status());
        self.check_woken(number, &name, tick && effects.is_empty(), wake);
        self.check_bounds(number, &name, &status);
        if let Some(at) = wake {
            self.wakes(at, number, &name);
        }
        for effect in effects {
            match effect {
                ReplayEffect::Read { after, rows } => {
                    let rows = self.replayed_rows(number, job, &destination, after, rows);
                    self.soon(2, Happening::Replay(number, job, ReplayInput::Rows(rows)));
                }
                ReplayEffect::Publish { ticket, payload, .. } => {
                    self.publish(number, &name, Some(destination.clone()), ticket, payload);
                }
                ReplayEffect::Settle(settling) => self.keep(ForKeeper::Replay(name.clone(), number, settling)),
                ReplayEffect::Done => self.soon(2, Happening::ReplayEnds(number, job)),
            }
        }
    }

    /// What is left of a job on the shelf after a row, marked as a replay.
    fn replayed_rows(
        &mut self,
        number: u16,
        job: ReplayJob,
        destination: &DestinationName,
        after: Option<RowKey>,
        rows: usize,
    ) -> Vec<(laigu_router::journal::ShelfRow, Payload)> {
        let (lane, part) = (LaneName::Destination(destination.clone()), Part::Destination(destination.clone()));
        let shelf = self.journal.inspect(|image| image.shelf(&lane, Partition(number)));
        let mine = shelf.into_iter().filter(|row| row.state == ShelfState::Replaying(job));
        let later = mine.filter(|row| after.as_ref().is_none_or(|after| (row.offset, row.route.clone()) > *after));
        let limit = rows.min(self.rng.usize(1..9));
        let rows: Vec<_> = later.take(limit).collect();
        rows.into_iter()
            .map(|row| {
                let item = self.of_shelf(number, &lane, &part, row.clone());
                let payload = match item.payload {
                    Payload::Delivery(first) => Payload::Delivery(Delivery { replay: Some(job), ..first }),
                    dead @ Payload::Dead(..) => dead,
                };
                (row, payload)
            })
            .collect()
    }
}

/// What a lane is told, as a replay is.
fn for_replay(input: LaneInput) -> Option<ReplayInput<Payload>> {
    Some(match input {
        Input::Outcomes(outcomes) => ReplayInput::Outcomes(outcomes),
        Input::Outlet(state) => ReplayInput::Outlet(state),
        Input::OutletGone => ReplayInput::OutletGone,
        Input::Settled => ReplayInput::Settled,
        Input::SettleFailed => ReplayInput::SettleFailed,
        Input::Pause(paused) => ReplayInput::Pause(paused),
        Input::Tick => ReplayInput::Tick,
        Input::ReadFailed => ReplayInput::ReadFailed,
        Input::Park(..)
        | Input::Grown(_)
        | Input::Page { .. }
        | Input::Shelf { .. }
        | Input::Released(_)
        | Input::Configure(_) => {
            return None;
        }
    })
}

/// One route parks its keys behind its dead letters.
pub fn some_park() -> OnDeadOf {
    Arc::new(|route| if route.as_str() == "some" { OnDead::Park } else { OnDead::Continue })
}

/// Prints what a watched machine meets: `SIM_TRACE=Router/0`, or `SIM_TRACE='"d1")/0'`.
fn show(machine: impl Fn() -> String, line: impl FnOnce() -> String) {
    static WATCHED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let watched = WATCHED.get_or_init(|| std::env::var("SIM_TRACE").ok());
    if watched.as_ref().is_some_and(|watched| machine().contains(watched)) {
        let text: String = line().split("payload: ").map(|piece| piece.chars().take(400).collect::<String>()).collect();
        eprintln!("{text}");
    }
}

fn show_all(machine: impl Fn() -> String, effects: &[impl Debug]) {
    for effect in effects {
        show(&machine, || format!("      -> {effect:?}"));
    }
}
