//! The judge: holds what the senders were answered against what is stored and what the consumers saw.

use crate::{broker::Broker, routes, world::World};
use laigu_router::{
    domain::{DeadCause, DestinationName, Offset, Partition, RouteName, Routed},
    journal::{Entry, LaneName, Log, ReadLimit, ShelfRow, ShelfState, Wanted},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const ALL: ReadLimit = ReadLimit { rows: usize::MAX, bytes: usize::MAX };

/// Checks everything that must hold once all has come to rest.
///
/// # Errors
/// The first thing that does not, in words.
pub fn judge(world: &World) -> Result<(), String> {
    stored_once(world)?;
    for number in 0..world.plan.partitions {
        let partition = Partition(number);
        let rows = decided_once(world, partition)?;
        for (name, broker) in &world.brokers {
            delivered(world, partition, &rows, name, broker)?;
            within_the_window(world, partition, name, broker)?;
        }
        laid_out(world, partition, &rows)?;
    }
    Ok(())
}

/// Every accepted push is in EVENTS exactly once, nothing else is, and the bytes are its own.
fn stored_once(world: &World) -> Result<(), String> {
    let mut stored: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for number in 0..world.plan.partitions {
        for entry in world.journal.log().events(Partition(number), 1, ALL).map_err(|error| error.to_string())?.rows {
            let Entry::Row(event) = entry else { return Err("a row is damaged".to_owned()) };
            *stored.entry(event.body.to_vec()).or_default() += 1;
        }
    }
    for push in &world.clients.pushes {
        let times = stored.remove(push.body.as_bytes()).unwrap_or(0);
        if times > 1 || (push.accepted && times == 0) {
            return Err(format!("a push is stored {times} times: {push:?}"));
        }
    }
    if let Some((body, _)) = stored.pop_first() {
        return Err(format!("nobody posted {}", String::from_utf8_lossy(&body)));
    }
    Ok(())
}

/// Every event has exactly one first decision, and it is what its generation's routes say.
fn decided_once(world: &World, partition: Partition) -> Result<Vec<Arc<Routed>>, String> {
    let page = world.journal.log().routed(partition, 1, &Wanted::All, ALL).map_err(|error| error.to_string())?;
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    let mut last: BTreeMap<u64, Offset> = BTreeMap::new();
    for entry in page.rows {
        let Entry::Row(routed) = entry else { return Err("a decision is damaged".to_owned()) };
        let event = routed.event.position().offset;
        if !seen.insert(event) {
            return Err(format!("event {event} is decided twice"));
        }
        if let Some(order) = routed.event.order
            && last.insert(order.0, event).is_some_and(|before| before > event)
        {
            return Err(format!("event {event} is decided before an older one of its key"));
        }
        let generation = routed.row.generation as usize;
        let generation = world.generations.get(generation - 1).ok_or("a generation nobody made")?;
        let (targets, dead) = routes::expected(&generation.routes, routes::kind_of(&routed.event));
        let got = routed.row.decision.targets.iter().map(|target| (target.route.clone(), target.destination.clone()));
        if got.collect::<Vec<_>>() != targets {
            return Err(format!("event {event} goes elsewhere than its routes say"));
        }
        let got: Vec<_> = routed.row.decision.dead.iter().filter_map(|dead| dead.route.clone()).collect();
        if got != dead {
            return Err(format!("event {event} has other dead routes than its routes say"));
        }
        rows.push(routed);
    }
    let events = world.journal.log().heads(partition).events - 1;
    if seen.len() as u64 != events {
        let missing: Vec<_> = (1..=events).filter(|event| !seen.contains(event)).collect();
        let mut router = world.journal.state_image().lanes().into_iter();
        let router = router.find(|record| record.lane == LaneName::Router && record.partition == partition);
        return Err(format!(
            "events {missing:?} of {events} are not decided; the router: {:?}",
            router.map(|r| r.progress)
        ));
    }
    Ok(rows)
}

/// Every target has its copy, or a dead letter with a cause that was planned; copies are alike, first copies in order.
fn delivered(
    world: &World,
    partition: Partition,
    rows: &[Arc<Routed>],
    name: &DestinationName,
    broker: &Broker,
) -> Result<(), String> {
    let lane = LaneName::Destination(name.clone());
    let image = world.journal.state_image();
    let shelf: BTreeMap<(Offset, Option<RouteName>), ShelfRow> =
        image.shelf(&lane, partition).into_iter().map(|row| ((row.offset, row.route.clone()), row)).collect();
    let record = image.lanes().into_iter().find(|record| record.lane == lane && record.partition == partition);
    let orphan = !world.generations.last().is_some_and(|g| g.routes.iter().any(|route| route.destination == *name));
    let mut first = BTreeMap::new();
    for (index, copy) in broker.consumed.iter().enumerate().filter(|(_, copy)| copy.partition == partition.0) {
        let row = rows.iter().find(|row| row.offset == copy.offset).ok_or("a copy of nothing")?;
        let known = row.row.decision.targets.iter().any(|t| t.route == copy.route && t.destination == *name);
        let alike = copy.body == row.event.body
            && copy.event == row.event.id.to_string()
            && copy.delivery == format!("{}/{}", row.event.id, copy.route);
        if !known || !alike {
            return Err(format!("{name} got what nobody sent: {copy:?}"));
        }
        first.entry((copy.offset, copy.route.clone())).or_insert(index);
    }
    let mut behind: BTreeMap<u64, (usize, Offset)> = BTreeMap::new();
    let mut held: BTreeSet<u64> = BTreeSet::new();
    for row in rows {
        for target in row.row.decision.targets.iter().filter(|target| target.destination == *name) {
            let index = first.get(&(row.offset, target.route.clone())).copied();
            let on_shelf = shelf.get(&(row.offset, Some(target.route.clone())));
            let key = row.event.order.map(|order| order.0);
            let what = format!("row {} by {} at {name}/{}", row.offset, target.route, partition.0);
            match (index, on_shelf.map(|row| (row.state, row.cause))) {
                (Some(_), Some((ShelfState::Parked, _))) if !orphan => {
                    return Err(format!("{what} was taken and is still parked"));
                }
                (_, Some((ShelfState::Dead, cause))) => {
                    let planned = cause == Some(DeadCause::Unroutable)
                        || (cause == Some(DeadCause::TooLarge) && world.plan.poison && &*row.event.kind == "k5");
                    if !planned {
                        return Err(format!("{what} died of {cause:?}"));
                    }
                    held.extend(key.filter(|_| on_shelf.is_some_and(|row| row.holds)));
                }
                (None, Some((ShelfState::Parked, _))) => {
                    let waits = orphan || key.is_some_and(|key| held.contains(&key));
                    if !waits {
                        return Err(format!("{what} is parked for no reason"));
                    }
                }
                (None, None) if orphan => {}
                (None, None) => {
                    let mark = record.as_ref().map(|record| record.progress.watermark);
                    return Err(format!("{what} is lost; the lane stands at {mark:?}"));
                }
                _ => {}
            }
            let (Some(index), Some(key)) = (index, key) else { continue };
            if let Some((before, offset)) = behind.insert(key, (index, row.offset))
                && before > index
                && offset < row.offset
            {
                return Err(format!("{what} came before row {offset} of its key"));
            }
        }
    }
    Ok(())
}

/// A copy is repeated only after a crash, at most a window of them, or because its answer was not known.
fn within_the_window(
    world: &World,
    partition: Partition,
    name: &DestinationName,
    broker: &Broker,
) -> Result<(), String> {
    let mine = || broker.consumed.iter().enumerate().filter(|(_, copy)| copy.partition == partition.0);
    let mut by_run: BTreeMap<(u32, &str), u32> = BTreeMap::new();
    for (_, copy) in mine() {
        let times = by_run.entry((copy.epoch, &copy.delivery)).or_default();
        *times += 1;
        if *times > 1 && !broker.unsure.contains(&copy.delivery) {
            return Err(format!("{name} got {} twice from one run, for no reason", copy.delivery));
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
        let again: BTreeSet<&str> = again.map(|(_, copy)| copy.delivery.as_str()).collect();
        if again.len() > world.plan.window {
            return Err(format!(
                "{name} got {} copies again after crash {epoch}, the window is {}: {again:?}",
                again.len(),
                world.plan.window
            ));
        }
    }
    Ok(())
}

/// What was dead on decision lies on the morgue's shelf, each once.
fn laid_out(world: &World, partition: Partition, rows: &[Arc<Routed>]) -> Result<(), String> {
    let shelf = world.journal.state_image().shelf(&LaneName::Morgue, partition);
    let got: Vec<_> = shelf.iter().map(|row| (row.offset, row.route.clone())).collect();
    let expected: BTreeSet<_> =
        rows.iter().flat_map(|row| row.row.decision.dead.iter().map(|dead| (row.offset, dead.route.clone()))).collect();
    if got.len() != expected.len() || !got.iter().all(|row| expected.contains(row)) {
        return Err(format!("the morgue has {} dead letters, not {}", got.len(), expected.len()));
    }
    Ok(())
}
