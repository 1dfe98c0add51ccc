//! What goes wrong: crashes, brokers, reloads, spoiled rows, full disks, the clock. And the end of it.

use crate::{
    plan::{DESTINATIONS, SimRoute, destination, route},
    process::lane_records,
    routes::SimRoutes,
    world::{Happening, World},
};
use laigu_router::{
    core::lane::Lane,
    domain::{DestinationName, Partition, StopReason},
    journal::{LaneName, Log, State},
    lanes::payload::Part,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// So many events of a seed are spoiled at most.
const DAMAGED_MAX: usize = 3;
/// A hundred keys wait for so long for what is missing to be there again: longer than an unroutable one would live.
const STANDSTILL: Duration = Duration::from_secs(8);

impl World {
    pub fn fate(&mut self) {
        if self.process.is_none() {
            // A commit that was planned to fail may end the process after the healing, too.
            if self.healed || self.rng.u32(..4) == 0 {
                self.boot();
            }
            self.soon(40, Happening::Fate);
            return;
        }
        if self.healed {
            return;
        }
        self.soon(40, Happening::Fate);
        if self.plan.wide && self.stands_until.is_none() && self.clients.pushes.len() > 60 {
            self.unbind_everything();
        }
        let roll = |rng: &mut fastrand::Rng, per_mille: u32| rng.u32(..1_000) < per_mille;
        if self.plan.jumps && roll(&mut self.rng, 20) {
            self.now = self.now.plus(Duration::from_secs(self.rng.u64(1..60)));
            self.hit("the clock jumps forward");
        }
        if self.plan.full_storms && roll(&mut self.rng, 30) {
            self.full_until = self.now.plus(Duration::from_millis(self.rng.u64(20..400)));
        }
        if self.plan.damage && self.damaged.len() < DAMAGED_MAX && roll(&mut self.rng, 60) {
            self.spoil();
        }
        if roll(&mut self.rng, self.plan.api_fault * 3) {
            self.api_fate();
        }
        if roll(&mut self.rng, self.plan.crash * 3) {
            self.crash();
        } else if roll(&mut self.rng, self.plan.reload * 3) {
            self.reload();
        } else if roll(&mut self.rng, self.plan.broker_fault * 3) {
            self.broker_fate();
        }
    }

    fn unbind_everything(&mut self) {
        self.stands_until = Some(self.now.plus(STANDSTILL));
        if let Some(broker) = self.brokers.get_mut(&destination(0)) {
            broker.heal();
            broker.nothing_bound = true;
        }
        self.disconnect(&destination(0));
    }

    fn spoil(&mut self) {
        let number = self.rng.u16(..self.plan.partitions);
        let head = self.journal.log().heads(Partition(number)).events;
        let first = self.stores[usize::from(number)].taken.events;
        if first >= head {
            return;
        }
        let offset = self.rng.u64(first..head);
        self.journal.damage(Partition(number), offset);
        self.damaged.insert((number, offset));
        self.hit("an event is damaged");
    }

    fn broker_fate(&mut self) {
        let name = destination(self.rng.usize(..DESTINATIONS));
        if self.plan.wide && name == destination(0) {
            return;
        }
        let key = self.clients.any_key(&mut self.rng);
        let roll = self.rng.u32(..10);
        let Some(broker) = self.brokers.get_mut(&name) else { return };
        match roll {
            0 => broker.stopped = Some(StopReason::Down),
            1 => broker.stopped = Some(StopReason::Blocked),
            2 => broker.stopped = Some(StopReason::Misconfigured),
            3 => {
                broker.unbound.insert(key);
            }
            4 => broker.nacked = Some(route("twice", 1, &[]).name),
            5 => broker.nothing_bound = !broker.nothing_bound,
            6 => {}
            _ => broker.heal(),
        }
        match roll {
            3 | 5 => {}
            4 if name == destination(1) => self.hit("two routes to one destination, one stuck"),
            4 => {}
            6 => self.replace_outlet(&name),
            _ => self.disconnect(&name),
        }
    }

    fn reload(&mut self) {
        let generation = self.generations.len() as u32 + 1;
        let mut routes: Vec<SimRoute> = self.plan.routes.clone();
        let before = self.generations.last().map(|routes| routes.routes.clone()).unwrap_or_default();
        if self.rng.bool() {
            routes.push(route("new", 2, &[0, 1]));
        }
        if self.rng.u32(..3) == 0 {
            routes.remove(0);
        }
        let (old, new) = (names(&before), names(&routes));
        let routes = Arc::new(SimRoutes { generation, routes, patience: self.plan.patience });
        let Some(process) = &mut self.process else { return };
        // A generation takes force only when the start of each new destination is durable.
        let missing = lane_records(&process.state, &routes, &self.journal, self.plan.partitions);
        if process.state.register(&missing).is_err() {
            return;
        }
        process.routes = Arc::clone(&routes);
        for record in &missing {
            self.lane_starts.insert((record.lane.clone(), record.partition.0), record.progress.watermark);
            let LaneName::Destination(name) = &record.lane else { continue };
            let lane = Lane::new(self.plan.lane(self.seed), record);
            if let Some(run) = process.partitions.get_mut(usize::from(record.partition.0)) {
                run.lanes.insert(record.lane.clone(), (lane, Part::Destination(name.clone())));
            }
        }
        let rotated = self.rng.bool();
        let mut opened = false;
        for run in &mut process.partitions {
            run.router.use_routes(Arc::clone(&routes));
            opened |= run.enriching.configure(rotated);
        }
        if opened {
            self.hit("other credentials open a gate");
        }
        self.generations.push(routes);
        let mut registered = missing.iter().map(|record| &record.lane);
        let fresh = registered.any(|lane| matches!(lane, LaneName::Destination(_)));
        self.destinations_changed(&old, &new, fresh);
        for number in 0..self.plan.partitions {
            self.grown(number);
        }
    }

    fn destinations_changed(&mut self, old: &BTreeSet<DestinationName>, new: &BTreeSet<DestinationName>, fresh: bool) {
        if fresh {
            self.hit("reload adds a destination");
            self.reload_pending = true;
        } else if new.difference(old).next().is_some() {
            self.hit("a removed destination comes back");
        }
        for name in old.difference(new) {
            self.hit("reload removes a destination");
            let shelves = (0..self.plan.partitions).map(|number| {
                let lane = LaneName::Destination(name.clone());
                self.journal.inspect(|image| image.shelf(&lane, Partition(number)).len())
            });
            if shelves.sum::<usize>() > 0 {
                self.hit("a removed destination has a shelf");
            }
        }
        for name in old.union(new) {
            let changed = old.contains(name) != new.contains(name) || self.rng.u32(..4) == 0;
            if changed {
                self.replace_outlet(name);
            }
        }
    }

    pub fn crash(&mut self) {
        let Some(process) = self.process.take() else { return };
        if std::mem::take(&mut self.reload_pending) {
            self.hit("reload adds a destination, then a crash");
        }
        for number in 0..self.plan.partitions {
            let partition = Partition(number);
            let head = self.journal.log().heads(partition).routed;
            let reflects = self.journal.inspect(|image| image.progress(&LaneName::Router, partition).cloned());
            let next = reflects.unwrap_or_default().reflects + 1;
            if next < head {
                self.hit("crash between ROUTED and the router's progress");
            }
            let closed = self.stores[usize::from(number)].segments.iter().rev().nth(1);
            if next < head && closed.is_some_and(|closed| next < closed.end.routed) {
                self.hit("crash between ROUTED and the router's progress, across a roll");
            }
        }
        for number in 0..self.plan.partitions {
            let partition = Partition(number);
            let shelf = self.journal.inspect(|image| image.shelf(&LaneName::Router, partition));
            let (_, rows) = self.journal.everything(partition);
            let is_decided = |offset| rows.iter().any(|row| row.row.event.offset == offset);
            if shelf.iter().any(|row| is_decided(row.offset)) {
                self.hit("crash between the decision on a parked event and its leaving the shelf");
            }
        }
        drop(process);
        let had = self.brokers.iter().map(|(name, broker)| (name.clone(), broker.consumed.len())).collect();
        self.crashes.push((self.epoch, had));
        for number in 0..self.plan.partitions {
            self.crash_in_sealing(number);
        }
        self.journal.crash();
        self.check_all();
        self.watch_anew();
        self.rolled_back.clear();
        for broker in self.brokers.values_mut() {
            broker.hung_up();
        }
        self.clients.process_died();
        self.feed_died();
        self.hit("crash");
        if self.healed {
            self.soon(40, Happening::Fate);
        }
    }

    /// No fault happens any more, and what was wrong is right again.
    pub fn heal(&mut self) {
        self.healed = true;
        self.full_until = self.now;
        self.moods = Default::default();
        if let Some(process) = &mut self.process {
            for run in &mut process.partitions {
                run.enriching.configure(true);
            }
        }
        for broker in self.brokers.values_mut() {
            broker.heal();
        }
        if self.process.is_none() {
            self.boot();
        }
        for name in Self::destinations() {
            self.disconnect(&name);
        }
        self.operator_heals();
        self.now = self.now.plus(Duration::from_millis(1));
        for number in 0..self.plan.partitions {
            self.soon(1, Happening::WriterWakes(number));
        }
    }
}

fn names(routes: &[SimRoute]) -> BTreeSet<DestinationName> {
    routes.iter().map(|route| route.destination.clone()).collect()
}
