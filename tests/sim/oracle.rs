//! The judge: holds what the senders were answered against what is stored and decided. What became of each delivery is
//! judged by [`crate::targets`].

use crate::{routes, targets, world::World};
use laigu_router::{
    domain::{DeadCause, Offset, Origin, Partition, Routed},
    journal::LaneName,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
            targets::ended(world, partition, &rows, name, broker)?;
            targets::repeated_for_a_reason(world, partition, name, broker)?;
        }
        laid_out(world, partition, &rows)?;
    }
    Ok(())
}

/// Every accepted push is in EVENTS exactly once, nothing else is, and the bytes are its own.
fn stored_once(world: &World) -> Result<(), String> {
    let mut stored: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for number in 0..world.plan.partitions {
        for event in world.journal.everything(Partition(number)).0 {
            *stored.entry(event.body.to_vec()).or_default() += 1;
        }
    }
    let mut found: BTreeMap<&[u8], u32> = BTreeMap::new();
    for push in &world.clients.pushes {
        let times = stored.remove(push.body.as_bytes()).unwrap_or(0);
        if times > 1 || (push.accepted && times == 0) {
            return Err(format!("a push is stored {times} times: {push:?}"));
        }
        let times = stored.remove(push.record_body().as_bytes()).unwrap_or(0);
        found.insert(push.body.as_bytes(), times);
    }
    went_out_once(world, &found)?;
    if let Some((body, _)) = stored.pop_first() {
        return Err(format!("nobody posted {}", String::from_utf8_lossy(&body)));
    }
    Ok(())
}

/// Of a record and its push exactly one goes out, whichever came first; what the list shows goes out in any case. A push is
/// superseded only by its own record.
fn went_out_once(world: &World, found: &BTreeMap<&[u8], u32>) -> Result<(), String> {
    let superseded: BTreeMap<Vec<u8>, bool> = (0..world.plan.partitions)
        .flat_map(|number| world.journal.everything(Partition(number)).0)
        .filter(|event| event.origin == Origin::Push)
        .map(|event| (event.body.to_vec(), event.superseded))
        .collect();
    for push in &world.clients.pushes {
        let records = found.get(push.body.as_bytes()).copied().unwrap_or(0);
        let pushed = superseded.get(push.body.as_bytes());
        let out = records + u32::from(pushed == Some(&false));
        let wrong = if push.is_record() { out != 1 } else { records > 0 || pushed == Some(&true) };
        if wrong {
            return Err(format!("found {records} times, superseded {pushed:?}: {push:?}"));
        }
    }
    Ok(())
}

/// Every event has exactly one first decision, and it is what its generation's routes say.
fn decided_once(world: &World, partition: Partition) -> Result<Vec<Arc<Routed>>, String> {
    let (events, rows) = world.journal.everything(partition);
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<u64, Offset> = BTreeMap::new();
    for routed in &rows {
        let event = routed.row.event.offset;
        if !seen.insert(event) {
            return Err(format!("event {event} is decided twice"));
        }
        if let Some(order) = routed.event.order
            && last.insert(order.0, event).is_some_and(|before| before > event)
        {
            return Err(format!("event {event} is decided before an older one of its key"));
        }
        let causes: Vec<_> = routed.row.decision.dead.iter().map(|dead| dead.cause).collect();
        if causes == [DeadCause::Damaged] && world.damaged.contains(&(partition.0, event)) {
            continue;
        }
        if routed.event.superseded != routed.row.decision.superseded {
            return Err(format!("event {event} is superseded, or not, and its decision says otherwise"));
        }
        if routed.event.superseded && routed.row.decision.targets.is_empty() && causes.is_empty() {
            continue;
        }
        let generation = routed.row.generation as usize;
        let generation = world.generations.get(generation - 1).ok_or("a generation nobody made")?;
        World::judge_enrichment(&routed.event, &routed.row.enrichment)
            .map_err(|why| format!("event {event}: {why}"))?;
        let lacks = routes::lacks(&routed.event, &routed.row.enrichment);
        let (targets, dead) = routes::expected(&generation.routes, routes::kind_of(&routed.event), lacks);
        let got = routed.row.decision.targets.iter().map(|target| (target.route.clone(), target.destination.clone()));
        if got.collect::<Vec<_>>() != targets {
            return Err(format!("event {event} goes elsewhere than its routes say"));
        }
        let got: Vec<_> = routed.row.decision.dead.iter().filter_map(|dead| dead.route.clone()).collect();
        if got != dead {
            return Err(format!("event {event} has other dead routes than its routes say"));
        }
    }
    if seen.len() != events.len() {
        let missing: Vec<_> = (1..=events.len() as u64).filter(|event| !seen.contains(event)).collect();
        let progress = world.journal.inspect(|image| image.progress(&LaneName::Router, partition).cloned());
        return Err(format!("events {missing:?} of {} are not decided; the router: {progress:?}", events.len()));
    }
    Ok(rows)
}

/// What was dead on decision lies on the morgue's shelf, each once; of a spoiled event there is one dead letter.
fn laid_out(world: &World, partition: Partition, rows: &[Arc<Routed>]) -> Result<(), String> {
    let shelf = world.journal.inspect(|image| image.shelf(&LaneName::Morgue, partition));
    let mut got: BTreeSet<_> = shelf.iter().map(|row| (row.offset, row.route.clone())).collect();
    for row in rows.iter().filter(|row| !row.row.decision.dead.is_empty()) {
        let spoiled = world.damaged.contains(&(partition.0, row.row.event.offset)) && got.remove(&(row.offset, None));
        for dead in &row.row.decision.dead {
            // Some may have been laid out before it was spoiled.
            if !got.remove(&(row.offset, dead.route.clone())) && !spoiled {
                return Err(format!("the morgue lacks row {} by {:?}", row.offset, dead.route));
            }
        }
    }
    match got.pop_first() {
        None => Ok(()),
        Some(row) => Err(format!("the morgue has a dead letter of nothing: {row:?}")),
    }
}
