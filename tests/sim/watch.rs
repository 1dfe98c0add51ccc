//! What must hold at every step, not only at the end: progress that claims nothing it may not, and memory within bounds.

use crate::{plan::UNROUTABLE, world::World};
use laigu_router::{
    core::lane::{LaneState, Status},
    domain::{Offset, Partition, RouteName, Timestamp},
    journal::{Ending, LaneName, Progress, Settlement, memory::state::StateImage},
};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Watch {
    /// Rows that a lane's durable progress has ever said to be settled, beyond the watermark that it had then.
    claimed: BTreeMap<(LaneName, u16), (Offset, BTreeSet<Offset>)>,
    /// For each partition, the events that are decided, and how much of ROUTED was looked at.
    decided: BTreeMap<u16, (BTreeSet<Offset>, usize)>,
    /// Since when lanes stand still for a common cause.
    common: BTreeMap<(LaneName, u16), Timestamp>,
    /// Deliveries that a lane was given back, by lane: when first, and whether their time was up at the last return.
    given_back: BTreeMap<(LaneName, u16), BTreeMap<String, (Timestamp, bool)>>,
    /// How often in a row a lane was woken for nothing, and wanted to be woken again at once.
    woken: BTreeMap<(LaneName, u16), u32>,
}

impl World {
    /// Notes the first thing that is wrong; it ends the run.
    pub fn wrong(&mut self, what: String) {
        self.first_wrong.get_or_insert(what);
    }

    /// Looks at every lane's durable progress: after a settlement, and after a crash.
    pub fn check_settled(&mut self, settlements: &[Settlement]) {
        for settlement in settlements {
            if let Err(why) = self.check_progress(&settlement.lane, settlement.partition, &settlement.progress) {
                self.wrong(format!("{:?}/{}: {why}", settlement.lane, settlement.partition.0));
            }
        }
    }

    pub fn check_all(&mut self) {
        for record in self.journal.inspect(StateImage::lanes) {
            if let Err(why) = self.check_progress(&record.lane, record.partition, &record.progress) {
                self.wrong(format!("after a crash, {:?}/{}: {why}", record.lane, record.partition.0));
            }
        }
    }

    fn check_progress(&mut self, lane: &LaneName, partition: Partition, progress: &Progress) -> Result<(), String> {
        if let LaneName::Replay(_) = lane {
            // It counts what ended, and counts on after a restart.
            let ended =
                progress.watermark + u64::from(progress.beyond.iter().map(|word| word.count_ones()).sum::<u32>());
            let (before, _) =
                self.watch.claimed.insert((lane.clone(), partition.0), (ended, BTreeSet::new())).unwrap_or_default();
            return if ended < before { Err(format!("it went back from {before} to {ended}")) } else { Ok(()) };
        }
        let start = self.lane_starts.get(&(lane.clone(), partition.0)).copied().unwrap_or(1);
        let (before, beyond) =
            self.watch.claimed.remove(&(lane.clone(), partition.0)).unwrap_or((start, BTreeSet::new()));
        if progress.watermark < before {
            return Err(format!("the watermark went back from {before} to {}", progress.watermark));
        }
        let set = |row: &Offset| is_set(progress, *row);
        if let Some(lost) = beyond.iter().find(|row| **row >= progress.watermark && !set(row)) {
            return Err(format!("row {lost} was settled and is not any more"));
        }
        let last = progress.watermark + progress.beyond.len() as u64 * 64;
        let now: BTreeSet<Offset> = (progress.watermark..last).filter(set).collect();
        let fresh = (before..progress.watermark).chain(now.iter().copied()).filter(|row| !beyond.contains(row));
        for row in fresh {
            self.may_be_settled(lane, partition, row, None)?;
        }
        for (row, route) in &progress.partial {
            self.may_be_settled(lane, partition, *row, Some(route))?;
        }
        self.watch.claimed.insert((lane.clone(), partition.0), (progress.watermark, now));
        Ok(())
    }

    /// A row is settled only when each of its deliveries was taken, or lies on the shelf, or was discarded from it.
    fn may_be_settled(
        &mut self,
        lane: &LaneName,
        partition: Partition,
        offset: Offset,
        only: Option<&RouteName>,
    ) -> Result<(), String> {
        let name = match lane {
            LaneName::Router => {
                let parked = self.journal.inspect(|image| image.on_shelf(lane, partition, offset, None).is_some());
                return if parked { Ok(()) } else { self.is_decided(partition, offset) };
            }
            LaneName::Destination(name) => name,
            LaneName::Morgue | LaneName::Replay(_) => return Ok(()),
        };
        let Some(row) = self.journal.decision(partition, offset) else {
            return Err(format!("row {offset} counts as settled, which is not there"));
        };
        let on_shelf = |route| self.journal.inspect(|image| image.on_shelf(lane, partition, offset, route).is_some());
        let damaged = on_shelf(None);
        let mine = row.row.decision.targets.iter().filter(|target| target.destination == *name);
        for route in mine.map(|target| &target.route).filter(|route| only.is_none_or(|only| only == *route)) {
            let taken = self
                .brokers
                .get(name)
                .is_some_and(|broker| broker.seen.contains(&(partition.0, offset, route.clone())));
            let shelved = damaged || on_shelf(Some(route));
            let gone = [Some(route.clone()), None]
                .into_iter()
                .any(|route| self.discarded.contains(&(name.clone(), partition.0, offset, route)));
            if !(taken || shelved || gone) {
                return Err(format!("row {offset} by {route} counts as settled, and nobody has it"));
            }
        }
        Ok(())
    }

    fn is_decided(&mut self, partition: Partition, event: Offset) -> Result<(), String> {
        let (decided, looked) = self.watch.decided.entry(partition.0).or_default();
        if !decided.contains(&event) {
            let (_, rows) = self.journal.everything(partition);
            decided.extend(rows.iter().skip(*looked).map(|row| row.row.event.offset));
            *looked = rows.len();
        }
        if decided.contains(&event) { Ok(()) } else { Err(format!("event {event} counts as decided and is not")) }
    }

    /// A lane that is woken for nothing does not ask again and again to be woken at once: its task would never sleep.
    pub fn check_woken(&mut self, number: u16, lane: &LaneName, for_nothing: bool, wake: Option<Timestamp>) {
        let place = (lane.clone(), number);
        if !for_nothing || wake.is_none_or(|at| at > self.now) {
            self.watch.woken.remove(&place);
            return;
        }
        let times = self.watch.woken.entry(place).or_default();
        *times += 1;
        if *times > 3 {
            self.wrong(format!("{lane:?}/{number} is woken for nothing, again and again"));
        }
    }

    /// After each step of a lane.
    pub fn check_bounds(&mut self, number: u16, lane: &LaneName, status: &Status) {
        let (window, read_ahead) = (self.plan.window, self.plan.window * 3);
        // A page has at most twice the deliveries that there was room for rows: two routes to one destination.
        let bound = 2 * read_ahead + 2;
        if status.in_flight > window || status.buffered > bound {
            let Status { in_flight, buffered, .. } = status;
            self.wrong(format!("{lane:?}/{number} has {in_flight} out and {buffered} in memory"));
        }
        let common = match &status.state {
            LaneState::Stopped(_, detail) => detail.contains("keys failed alike"),
            LaneState::Up => false,
            // What is behind it cannot be seen.
            LaneState::Paused => return,
        };
        let place = (lane.clone(), number);
        if common {
            if !self.watch.common.contains_key(&place) {
                self.hit("a common cause stops a lane");
                self.watch.common.insert(place, self.now);
            }
        } else if self.watch.common.remove(&place).is_some() && status.state == LaneState::Up {
            self.hit("a lane goes on after a common cause");
        }
    }

    /// While a common cause stops a lane, nothing dies of that cause.
    pub fn check_receipts(&mut self, number: u16, lane: &LaneName, receipts: &[laigu_router::journal::Receipt]) {
        let Some(since) = self.watch.common.get(&(lane.clone(), number)) else { return };
        let died = |ending| matches!(ending, Ending::Dead(laigu_router::domain::DeadCause::Unroutable));
        if receipts.iter().any(|receipt| died(receipt.ending) && receipt.at > *since) {
            self.wrong(format!("{lane:?}/{number}: something died while a common cause stopped the lane"));
        }
    }

    /// What is given back when its time is up dies, and is not tried again, wherever it waits. A lane that stands still for
    /// a common cause counts no time.
    pub fn check_given_back(&mut self, number: u16, lane: &LaneName, deliveries: Vec<String>) {
        let place = (lane.clone(), number);
        if self.watch.common.contains_key(&place) {
            self.watch.given_back.remove(&place);
            return;
        }
        if !matches!(lane, LaneName::Destination(_)) {
            return;
        }
        let known = self.watch.given_back.entry(place).or_default();
        let (mut immortal, mut up) = (None, false);
        for delivery in deliveries {
            let (first, is_over) = known.entry(delivery.clone()).or_insert((self.now, false));
            if *is_over {
                immortal = Some(delivery);
                continue;
            }
            *is_over = self.now.since(*first) >= UNROUTABLE;
            up |= *is_over;
        }
        if up {
            self.hit("the time of what is given back is up");
        }
        if let Some(delivery) = immortal {
            self.wrong(format!("{lane:?}/{number}: {delivery} was given back when its time was up, and tried again"));
        }
    }

    /// A new process has lanes of its own.
    pub fn watch_anew(&mut self) {
        self.watch.common.clear();
        self.watch.given_back.clear();
    }
}

fn is_set(progress: &Progress, row: Offset) -> bool {
    let Some(distance) = row.checked_sub(progress.watermark) else { return true };
    let word = usize::try_from(distance / 64).ok().and_then(|word| progress.beyond.get(word));
    word.is_some_and(|bits| bits >> (distance % 64) & 1 == 1)
}
