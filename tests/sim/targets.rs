//! The judge of deliveries: how each ended, in which order their first copies came, and why any came twice.

use crate::{
    broker::{Broker, Copy, Kind},
    world::World,
};
use laigu_router::{
    domain::{DeadCause, DestinationName, Offset, Partition, RouteName, Routed},
    journal::{Ending, LaneName, Receipt, ShelfRow, ShelfState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// One delivery.
type Place = (Offset, Option<RouteName>);

/// Where the first copies stand, and whether a replay made them.
type FirstCopies = BTreeMap<(Offset, RouteName), (usize, bool)>;

/// What is known of a lane at the end.
struct Lane<'a> {
    world: &'a World,
    broker: &'a Broker,
    name: &'a DestinationName,
    partition: Partition,
    shelf: BTreeMap<Place, ShelfRow>,
    delivered: BTreeSet<(Offset, RouteName)>,
    settled: u64,
    /// Whether no route names it now: what it has then waits.
    orphan: bool,
    /// Keys that a dead letter holds.
    held: BTreeSet<u64>,
}

/// Every target was taken and has a receipt for it, or is a dead letter with a cause that was planned, or was discarded, or
/// waits where it must; copies are alike, first copies in order.
pub fn ended(
    world: &World,
    partition: Partition,
    rows: &[Arc<Routed>],
    name: &DestinationName,
    broker: &Broker,
) -> Result<(), String> {
    let first = first_copies(partition, rows, name, broker)?;
    let lane_name = LaneName::Destination(name.clone());
    let shelf = world.journal.inspect(|image| image.shelf(&lane_name, partition));
    let receipts = world.journal.inspect(|image| image.receipts(&lane_name, partition));
    let is_delivered = |receipt: &&Receipt| receipt.ending == Ending::Delivered;
    let held = shelf.iter().filter(|row| row.holds).filter_map(|row| row.order).map(|order| order.0).collect();
    let lane = Lane {
        world,
        broker,
        name,
        partition,
        shelf: shelf.into_iter().map(|row| ((row.offset, row.route.clone()), row)).collect(),
        delivered: receipts.iter().filter(is_delivered).map(|one| (one.offset, one.route.clone())).collect(),
        settled: world.journal.inspect(|image| image.progress(&lane_name, partition).map_or(0, |mark| mark.watermark)),
        orphan: !world.is_named(name),
        held,
    };
    let mut behind: BTreeMap<u64, (usize, Offset)> = BTreeMap::new();
    for row in rows {
        for target in row.row.decision.targets.iter().filter(|target| target.destination == *name) {
            let copy = first.get(&(row.offset, target.route.clone())).copied();
            lane.ended(row, &target.route, copy.is_some())?;
            let (Some((index, replayed)), Some(key)) = (copy, row.event.order) else { continue };
            // A dead letter leaves its line, also one whose death a crash forgot. Replays stand outside of it.
            if replayed || broker.doomed.contains(&id(row, &target.route)) {
                continue;
            }
            if let Some((before, offset)) = behind.insert(key.0, (index, row.offset))
                && before > index
                && offset < row.offset
            {
                return Err(format!(
                    "row {} came before row {offset} of its key at {name}/{}",
                    row.offset, partition.0
                ));
            }
        }
    }
    lane.nothing_else(rows)
}

impl Lane<'_> {
    fn ended(&self, row: &Arc<Routed>, route: &RouteName, taken: bool) -> Result<(), String> {
        let (partition, name) = (self.partition, self.name);
        let what = format!("row {} by {route} at {name}/{}", row.offset, partition.0);
        let place = (row.offset, Some(route.clone()));
        let gone = |route: Option<&RouteName>| {
            self.world.discarded.contains(&(name.clone(), partition.0, row.offset, route.cloned()))
        };
        // A spoiled row is one dead letter for all of its deliveries that had not ended.
        let spoiled = self.world.damaged.contains(&(partition.0, row.row.event.offset))
            && (self.shelf.contains_key(&(row.offset, None)) || gone(None));
        match self.shelf.get(&place).map(|row| (row.state, row.cause)) {
            Some((ShelfState::Dead, cause)) => self.planned(row, route, cause, &what),
            Some((ShelfState::Replaying(job), _)) => Err(format!("{what} is still with {job}")),
            Some((ShelfState::Parked, _)) if self.orphan => Ok(()),
            // It may have been taken before a crash, and parked after it.
            Some((ShelfState::Parked, _)) if row.event.order.is_some_and(|key| self.held.contains(&key.0)) => Ok(()),
            Some((ShelfState::Parked, _)) => Err(format!("{what} is parked for no reason (taken: {taken})")),
            None if gone(Some(route)) || spoiled => Ok(()),
            None if self.delivered.contains(&(row.offset, route.clone())) && !taken => {
                Err(format!("{what} has a receipt and was never taken"))
            }
            None if self.delivered.contains(&(row.offset, route.clone())) => Ok(()),
            None if self.by_replay(row, route) => Ok(()),
            None if self.orphan && row.offset >= self.settled => Ok(()),
            None => Err(format!("{what} is lost (taken: {taken}); the lane stands at {}", self.settled)),
        }
    }

    /// A replay's receipts went with its lane; its copy stays.
    fn by_replay(&self, row: &Routed, route: &RouteName) -> bool {
        let mine = |copy: &&Copy| copy.partition == self.partition.0 && copy.offset == row.offset;
        self.broker.consumed.iter().filter(mine).any(|copy| copy.replay.is_some() && copy.route == *route)
    }

    fn planned(&self, row: &Routed, route: &RouteName, cause: Option<DeadCause>, what: &str) -> Result<(), String> {
        let doomed = self.broker.doomed.contains(&id(row, route));
        let planned = match cause {
            Some(DeadCause::Unroutable) => doomed,
            Some(DeadCause::TooLarge) => doomed && &*row.event.kind == "k5",
            Some(DeadCause::Expired) => self.world.now.since(row.event.received_at) >= self.world.plan.max_age,
            Some(DeadCause::Damaged) => self.world.damaged.contains(&(self.partition.0, row.row.event.offset)),
            _ => false,
        };
        if planned { Ok(()) } else { Err(format!("{what} died of {cause:?}, which nobody planned")) }
    }

    /// What lies on the shelf is of a delivery there is, or of a spoiled row.
    fn nothing_else(&self, rows: &[Arc<Routed>]) -> Result<(), String> {
        for (offset, route) in self.shelf.keys() {
            let row = rows.iter().find(|row| row.offset == *offset);
            let known = row.is_some_and(|row| match route {
                None => self.world.damaged.contains(&(self.partition.0, row.row.event.offset)),
                Some(route) => {
                    row.row.decision.targets.iter().any(|one| one.destination == *self.name && one.route == *route)
                }
            });
            if !known {
                return Err(format!("{}/{} has a shelf row of nothing: {offset}", self.name, self.partition.0));
            }
        }
        Ok(())
    }
}

/// Where the first copy of each delivery stands, and whether a replay made it. Every copy is of something that was decided,
/// and is as it must be.
fn first_copies(
    partition: Partition,
    rows: &[Arc<Routed>],
    name: &DestinationName,
    broker: &Broker,
) -> Result<FirstCopies, String> {
    let rows: BTreeMap<Offset, &Arc<Routed>> = rows.iter().map(|row| (row.offset, row)).collect();
    let mut first = BTreeMap::new();
    for (index, copy) in broker.consumed.iter().enumerate().filter(|(_, copy)| copy.partition == partition.0) {
        let row = rows.get(&copy.offset).ok_or("a copy of nothing")?;
        let known = row.row.decision.targets.iter().any(|t| t.route == copy.route && t.destination == *name);
        let alike = copy.body == row.event.body
            && copy.event == row.event.id.to_string()
            && copy.delivery == id(row, &copy.route);
        if !known || !alike {
            return Err(format!("{name} got what nobody sent: {copy:?}"));
        }
        first.entry((copy.offset, copy.route.clone())).or_insert((index, copy.replay.is_some()));
    }
    Ok(first)
}

/// A copy is repeated only after a crash, at most a window of them, or because its answer was not known.
pub fn repeated_for_a_reason(
    world: &World,
    partition: Partition,
    name: &DestinationName,
    broker: &Broker,
) -> Result<(), String> {
    let mine = || broker.consumed.iter().enumerate().filter(|(_, copy)| copy.partition == partition.0);
    let mut by_run: BTreeSet<(u32, &str)> = BTreeSet::new();
    let mut by_session: BTreeSet<(u32, &str)> = BTreeSet::new();
    for (_, copy) in mine() {
        if !by_run.insert((copy.epoch, &copy.delivery)) && !broker.unsure.contains(&copy.delivery) {
            return Err(format!("{name} got {} twice from one run, for no reason", copy.delivery));
        }
        if !by_session.insert((copy.session, &copy.delivery)) && broker.kind == Kind::Kafka {
            return Err(format!("{name} got {} twice in one producer's session", copy.delivery));
        }
    }
    for (epoch, had) in &world.crashes {
        let had = had.get(name).copied().unwrap_or(0);
        let before: BTreeSet<&str> = mine()
            .filter(|(index, copy)| *index < had && copy.epoch == *epoch)
            .map(|(_, copy)| copy.delivery.as_str())
            .collect();
        let again = mine().filter(|(index, copy)| {
            *index >= had
                && copy.epoch == epoch + 1
                && before.contains(copy.delivery.as_str())
                && !broker.unsure.contains(&copy.delivery)
        });
        // The lane's own window, and that of each replay that was at work.
        let mut by_sender: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
        for (_, copy) in again {
            by_sender.entry(copy.replay).or_default().insert(&copy.delivery);
        }
        if let Some((_, again)) = by_sender.iter().find(|(_, again)| again.len() > world.plan.window) {
            let (count, window) = (again.len(), world.plan.window);
            return Err(format!(
                "{name} got {count} copies again after crash {epoch}, the window is {window}: {again:?}"
            ));
        }
    }
    Ok(())
}

fn id(row: &Routed, route: &RouteName) -> String {
    format!("{}/{route}", row.event.id)
}
