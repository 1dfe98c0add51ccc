//! The operator: pauses lanes, replays and discards dead letters, cancels replays.

use crate::{
    plan::destination,
    process,
    world::{Happening, World},
};
use laigu_router::{
    core::{
        lane::Input,
        replay::{Input as ReplayInput, discard, give_back, take},
    },
    domain::{DestinationName, Partition, ReplayJob},
    journal::{
        LaneName, LaneRecord, Progress, Settlement, ShelfChange, ShelfRow, ShelfState, State, memory::CommitOutcome,
    },
};

impl World {
    pub fn operator(&mut self) {
        if self.healed {
            return;
        }
        self.soon(40, Happening::Operator);
        if self.process.is_none() || self.rng.u32(..1_000) >= self.plan.operator * 3 {
            return;
        }
        let name = destination(self.rng.usize(..crate::plan::DESTINATIONS));
        let number = self.rng.u16(..self.plan.partitions);
        match self.rng.u32(..6) {
            0 => self.pause(&name, true),
            1 | 2 => self.pause(&name, false),
            3 => self.discard_one(number, &name),
            4 => {
                // What other replays have is asked for too, and must be left alone.
                let chosen = self.shelf(number, &name);
                let chosen: Vec<_> = chosen.into_iter().filter(|row| row.state != ShelfState::Parked).collect();
                self.start_replay(number, &name, &chosen);
                if self.rng.bool() {
                    // Somebody else asks for the same at the same time.
                    self.start_replay(number, &name, &chosen);
                }
            }
            _ => self.cancel_one(number),
        }
    }

    /// With the faults gone, everything is let go, and most of what died is replayed.
    pub fn operator_heals(&mut self) {
        self.resume_all();
        for name in Self::destinations() {
            for number in 0..self.plan.partitions {
                let chosen = self.dead(number, &name);
                if self.is_named(&name) && self.rng.u32(..3) > 0 {
                    self.start_replay(number, &name, &chosen);
                }
            }
        }
    }

    /// Lets everything go on: also in a process that began after the healing.
    pub fn resume_all(&mut self) {
        for name in Self::destinations() {
            self.pause(&name, false);
        }
        self.cancel_hopeless();
    }

    /// A replay to a destination that is gone from the routes would wait for ever.
    fn cancel_hopeless(&mut self) {
        let mut hopeless = Vec::new();
        for name in Self::destinations().filter(|name| !self.is_named(name)) {
            hopeless.extend(self.lanes_to(&name));
        }
        for (number, lane) in hopeless {
            if let LaneName::Replay(job) = lane {
                self.soon(3, Happening::Replay(number, job, ReplayInput::Cancel));
            }
        }
    }

    fn pause(&mut self, name: &DestinationName, paused: bool) {
        let lane = LaneName::Destination(name.clone());
        for number in 0..self.plan.partitions {
            let Some(process) = &mut self.process else { return };
            if process.state.pause(&lane, Partition(number), paused).is_ok() {
                self.lane(number, &lane, Input::Pause(paused));
            }
        }
        self.hit(if paused { "an operator pauses a lane" } else { "an operator resumes a lane" });
    }

    fn shelf(&self, number: u16, name: &DestinationName) -> Vec<ShelfRow> {
        let lane = LaneName::Destination(name.clone());
        self.journal.inspect(|image| image.shelf(&lane, Partition(number)))
    }

    fn dead(&self, number: u16, name: &DestinationName) -> Vec<ShelfRow> {
        self.shelf(number, name).into_iter().filter(|row| row.state == ShelfState::Dead).collect()
    }

    /// Changes a destination's shelf; its lane's progress stays as it is. A store that is broken already ends the process.
    fn change_shelf(&mut self, number: u16, name: &DestinationName, shelf: Vec<ShelfChange>) -> bool {
        let (lane, partition) = (LaneName::Destination(name.clone()), Partition(number));
        let progress = self.journal.inspect(|image| image.progress(&lane, partition).cloned());
        let Some(progress) = progress.filter(|_| !shelf.is_empty()) else { return true };
        let settlement = Settlement { lane, partition, progress, receipts: Vec::new(), shelf };
        self.settle(&[settlement], CommitOutcome::Ok)
    }

    fn discard_one(&mut self, number: u16, name: &DestinationName) {
        let dead = self.dead(number, name);
        let Some(row) = dead.get(self.rng.usize(..dead.len().max(1))) else { return };
        let (changes, released) = discard(std::slice::from_ref(row));
        if !self.change_shelf(number, name, changes) {
            return;
        }
        self.discarded.insert((name.clone(), number, row.offset, row.route.clone()));
        self.hit("an operator discards a dead letter");
        for order in released {
            self.hit("a discard releases a key");
            self.lane(number, &LaneName::Destination(name.clone()), Input::Released(order));
        }
    }

    fn start_replay(&mut self, number: u16, name: &DestinationName, chosen: &[ShelfRow]) {
        self.jobs += 1;
        let job = ReplayJob(self.jobs);
        let record = LaneRecord {
            lane: LaneName::Replay(job),
            partition: Partition(number),
            kind: name.as_str().into(),
            progress: Progress { watermark: 1, ..Progress::default() },
            parked: Vec::new(),
            paused: false,
        };
        let known = self
            .journal
            .inspect(|image| image.progress(&LaneName::Destination(name.clone()), Partition(number)).is_some());
        let Some(process) = self.process.as_mut().filter(|_| !chosen.is_empty() && known) else { return };
        if process.state.register(std::slice::from_ref(&record)).is_err() {
            return;
        }
        // What is chosen may be another's by now: the keeper looks at the rows as they are.
        let now = self.shelf(number, name);
        let now: Vec<_> = now.into_iter().filter(|row| chosen.iter().any(|one| same(one, row))).collect();
        if now.iter().any(|row| matches!(row.state, ShelfState::Replaying(_))) {
            self.hit("two replays of one dead letter");
        }
        if !self.change_shelf(number, name, take(job, &now)) {
            return;
        }
        let after = self.shelf(number, name);
        let others = now.iter().filter(|row| matches!(row.state, ShelfState::Replaying(_)));
        if let Some(row) = others.into_iter().find(|row| !after.contains(row)) {
            self.wrong(format!("{job} took row {} from another replay", row.offset));
        }
        self.hit("a replay begins");
        let (replay, destination) = process::replay(job, &record, self.seed, &self.plan, &self.journal);
        if let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number))) {
            run.replays.insert(LaneName::Replay(job), (replay, destination));
        }
        self.tell_state(name);
    }

    fn cancel_one(&mut self, number: u16) {
        let run = self.process.as_ref().and_then(|process| process.partitions.get(usize::from(number)));
        let Some(name) = run.and_then(|run| run.replays.keys().next().cloned()) else { return };
        if let LaneName::Replay(job) = name {
            self.hit("an operator cancels a replay");
            self.soon(1, Happening::Replay(number, job, ReplayInput::Cancel));
        }
    }

    /// A job is over: what it still has is a dead letter again, then it is forgotten.
    pub fn replay_ends(&mut self, number: u16, job: ReplayJob) {
        let lane = LaneName::Replay(job);
        let Some(destination) = self.replayed(number, &lane) else { return };
        let shelf = self.shelf(number, &destination);
        self.change_shelf(number, &destination, give_back(job, &shelf));
        let Some(process) = &mut self.process else { return };
        if process.state.forget(&lane, Partition(number)).is_err() {
            // The writer is about to end the process; the next one finds the job with nothing left to do.
            return;
        }
        if let Some(run) = process.partitions.get_mut(usize::from(number)) {
            run.replays.remove(&lane);
        }
        self.hit("a replay ends");
    }
}

fn same(one: &ShelfRow, other: &ShelfRow) -> bool {
    (one.offset, &one.route) == (other.offset, &other.route)
}
