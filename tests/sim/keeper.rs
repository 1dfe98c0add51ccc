//! The state keeper's thread: settlements in the order they were asked for, and what is read from the shelf.

use crate::{
    lanes::some_park,
    process::{ForKeeper, LaneInput},
    world::{Happening, World},
};
use laigu_router::{
    core::{
        lane::{Input, Item},
        replay::ReplaySettling,
        router::Input as RouterInput,
    },
    domain::{OrderKey, Partition},
    journal::{
        Damage, Entry, LaneName, Log, Settlement, ShelfRow, ShelfState, State, WriteError, memory::CommitOutcome,
    },
    lanes::payload::{Part, Payload},
};
use std::{collections::BTreeSet, sync::Arc};

/// What the keeper tells, and whom.
pub type Told = (LaneName, u16, Tells);

pub enum Tells {
    Lane(LaneInput),
    Router(RouterInput),
}

impl World {
    pub fn keep(&mut self, request: ForKeeper) {
        if let Some(process) = &mut self.process {
            process.keeper_queue.push_back(request);
        }
        self.soon(2, Happening::KeeperWakes);
    }

    pub fn keeper_wakes(&mut self) {
        let outcome = self.settle_outcome();
        let Some(process) = &mut self.process else { return };
        if process.keeper_busy || process.keeper_queue.is_empty() {
            return;
        }
        process.keeper_busy = true;
        let mut settlements: Vec<Settlement> = Vec::new();
        let mut told: Vec<Told> = Vec::new();
        let mut alone = None;
        let mut loads = Vec::new();
        while let Some(request) = process.keeper_queue.pop_front() {
            match request {
                ForKeeper::Settle(settlement) => settlements.push(settlement),
                // These see what was settled before them.
                request if !settlements.is_empty() => {
                    process.keeper_queue.push_front(request);
                    break;
                }
                ForKeeper::Load(name, number, order, rows) => loads.push((name, number, order, rows)),
                ForKeeper::Replay(name, number, settling) => {
                    alone = Some((name, number, settling));
                    break;
                }
            }
        }
        for (name, number, order, rows) in loads {
            // The rows are read here, and what they are about afterwards: more is settled before they come.
            if let Some(loaded) = self.load(name, number, order, rows) {
                self.soon(12, Happening::Loaded(loaded));
            }
        }
        let mut released = Vec::new();
        if let Some((name, number, settling)) = &alone {
            settlements = self.of_replay(name, *number, settling);
            let LaneName::Destination(_) = &settlements[1].lane else { unreachable!("a replay is of a destination") };
            released.extend(settling.released.iter().map(|order| (settlements[1].lane.clone(), *number, *order)));
        }
        let ok = settlements.is_empty() || self.settle(&settlements, outcome);
        if self.process.is_none() {
            return;
        }
        if alone.is_some() {
            settlements.truncate(1);
        }
        let end = |lane: &LaneName| match (lane, ok) {
            (LaneName::Router, true) => Tells::Router(RouterInput::Settled),
            (LaneName::Router, false) => Tells::Router(RouterInput::SettleFailed),
            (_, true) => Tells::Lane(Input::Settled),
            (_, false) => Tells::Lane(Input::SettleFailed),
        };
        told.extend(
            settlements.into_iter().map(|settled| (settled.lane.clone(), settled.partition.0, end(&settled.lane))),
        );
        if ok {
            let mut release = |(lane, number, order)| {
                self.hit("a replay releases a key");
                told.push((lane, number, Tells::Lane(Input::Released(order))));
            };
            released.into_iter().for_each(&mut release);
        }
        self.soon(4, Happening::KeeperTells(told));
    }

    /// Settles; on a sync error the process is gone afterwards.
    pub fn settle(&mut self, settlements: &[Settlement], outcome: CommitOutcome) -> bool {
        let Some(process) = &mut self.process else { return false };
        self.journal.next_settle(outcome);
        match process.state.settle(settlements) {
            Ok(()) => {
                self.check_settled(settlements);
                true
            }
            Err(WriteError::Full(_)) => {
                self.hit("a settlement finds no room");
                false
            }
            Err(WriteError::Sync(_) | WriteError::Fenced) => {
                self.hit("sync error");
                self.crash();
                false
            }
        }
    }

    /// What a replay settles: its own lane's progress and the shelf of the destination's lane, whose progress stays.
    fn of_replay(&self, name: &LaneName, number: u16, settling: &Arc<ReplaySettling>) -> Vec<Settlement> {
        let partition = Partition(number);
        let run = self.process.as_ref().and_then(|process| process.partitions.get(usize::from(number)));
        let destination = run.and_then(|run| run.replays.get(name)).map(|(_, destination)| destination.clone());
        let lane = LaneName::Destination(destination.expect("a replay settles while it is there"));
        let progress = self.journal.inspect(|image| image.progress(&lane, partition).cloned()).unwrap_or_default();
        let own = Settlement {
            lane: name.clone(),
            partition,
            progress: settling.progress.clone(),
            receipts: settling.receipts.clone(),
            shelf: Vec::new(),
        };
        vec![own, Settlement { lane, partition, progress, receipts: Vec::new(), shelf: settling.shelf.clone() }]
    }

    fn load(&mut self, name: LaneName, number: u16, order: OrderKey, rows: usize) -> Option<Told> {
        if name == LaneName::Router {
            return self.load_events(number, order, rows);
        }
        let process = self.process.as_ref()?;
        let (_, part) = process.partitions.get(usize::from(number))?.lanes.get(&name)?;
        let part = part.clone();
        let rows = process.state.parked(&name, Partition(number), order, rows).expect("the model can be read");
        assert!(rows.iter().all(|row| row.state == ShelfState::Parked), "only parked rows are the lane's own");
        let items = rows.into_iter().map(|row| self.of_shelf(number, &name, &part, row)).collect();
        Some((name, number, Tells::Lane(Input::Shelf { order, items })))
    }

    /// Rows of the router's shelf, with the events that they are about.
    fn load_events(&mut self, number: u16, order: OrderKey, rows: usize) -> Option<Told> {
        let state = &self.process.as_ref()?.state;
        let rows = state.parked(&LaneName::Router, Partition(number), order, rows).expect("the model can be read");
        let mut found = Vec::new();
        for row in rows {
            self.check_parked(number, row.event.position.offset);
            if row.event.incarnation.0 != self.epoch {
                self.hit("a parked event is looked at again after a crash");
            }
            let event = self.journal.log().event(row.event).expect("the model can be read");
            let spoiled = || Entry::Damaged(Damage { offset: row.offset, event: None, detail: "spoiled".into() });
            let event = event.map_or_else(spoiled, Entry::Row);
            found.push((row, event));
        }
        Some((LaneName::Router, number, Tells::Router(RouterInput::Shelf(order, found))))
    }

    /// A shelf row as a delivery, from what retention left of the log or copied of it.
    pub fn of_shelf(&mut self, number: u16, lane: &LaneName, part: &Part, row: ShelfRow) -> Item<Payload> {
        let partition = Partition(number);
        if let Some(decision) = self.journal.decision(partition, row.offset) {
            self.check_shelved(number, lane, &decision, row.route.as_ref());
        }
        let found = self.journal.log().routed_row(partition, row.offset).expect("the model can be read");
        part.of_shelf(partition, row, found, &some_park())
    }

    pub fn keeper_tells(&mut self, told: Vec<Told>) {
        if let Some(process) = &mut self.process {
            process.keeper_busy = false;
        }
        for told in told {
            self.one_is_told(told);
        }
        self.soon(1, Happening::KeeperWakes);
    }

    /// Tells what was read of a shelf a while ago.
    pub fn loaded(&mut self, told: Told) {
        if let (lane, number, Tells::Lane(Input::Shelf { items, .. })) = &told {
            let parked = |row: &ShelfRow| row.state == ShelfState::Parked;
            let shelf = self.journal.inspect(|image| image.shelf(lane, Partition(*number)));
            let there: BTreeSet<_> = shelf.into_iter().filter(parked).map(|row| (row.offset, row.route)).collect();
            if items.iter().any(|item| !there.contains(&(item.offset, item.route.clone()))) {
                self.hit("a row comes from the shelf that has left it");
            }
        }
        self.one_is_told(told);
    }

    fn one_is_told(&mut self, (name, number, input): Told) {
        match input {
            Tells::Router(input) => self.router(number, input),
            Tells::Lane(input) => self.lane(number, &name, input),
        }
    }
}
