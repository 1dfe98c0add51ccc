//! One job from its first chunk to its end: chooses, keeps its parts fed, hears when they are done.
//!
//! Everything that matters is durable, so a pause, a reload and a stop are the same thing: the parts end, and begin again
//! where their lists stand.

use super::{
    Shared,
    choose::{Chooser, Chosen, Thing, What, event_of},
    definition::{Checked, Definition},
    live::Live,
    part::{ORDERS, PartOrder, PartTask},
};
use crate::{
    config::settings::Rate,
    domain::{Chain, DestinationName, Offset, OrderKey, Partition, ReplayJob, RouteName, RoutedRow, Timestamp},
    journal::{
        LaneName, LaneRecord, NewRouted, Progress, ShelfRow, ShelfState, WriteError,
        sqlite::jobs::{
            JobRecord, JobState,
            feed::{Chunk, NewItem, Planned},
            read::PartRecord,
        },
    },
    lanes::writer::RowsEnd,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Deliveries on a job's list beyond which it does not choose on until some are done.
const LIST_MAX: u64 = 100_000;
/// The pause before something is tried again that the store could not do.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// What the job is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub state: JobState,
    /// Grows when something it works with has changed.
    pub turn: u64,
}

/// A job at work.
pub struct JobTask {
    /// The program.
    pub shared: Arc<Shared>,
    /// The job as it was stored.
    pub record: JobRecord,
    /// What it is to do.
    pub wish: watch::Receiver<Wish>,
    /// What is to be seen of it.
    pub live: Arc<Live>,
}

/// Why the job stopped working.
enum End {
    /// All is done.
    Done,
    /// Something else is wished.
    Wished,
    /// The process stops.
    Stopped,
    /// It cannot be carried out.
    Failed(String),
}

/// The parts of a job.
struct Parts {
    known: BTreeMap<DestinationName, PartRecord>,
    running: BTreeMap<DestinationName, mpsc::Sender<PartOrder>>,
    tasks: JoinSet<DestinationName>,
    token: CancellationToken,
}

impl JobTask {
    /// Works until the job is over or the process stops.
    pub async fn run(mut self, stop: CancellationToken) {
        let checked = serde_json::from_str::<Definition>(&self.record.definition).map_err(|error| error.to_string());
        let checked = match checked.and_then(|definition| definition.check()) {
            Ok(checked) => Arc::new(checked),
            Err(why) => return self.fail(&why).await,
        };
        loop {
            let state = self.wish.borrow_and_update().state;
            match state {
                JobState::Cancelling => return self.give_back(JobState::Cancelled).await,
                JobState::Running => {}
                JobState::Paused | JobState::Done | JobState::Cancelled | JobState::Failed => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        changed = self.wish.changed() => if changed.is_err() { return },
                    }
                    continue;
                }
            }
            let permits = Arc::clone(&self.shared.permits);
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                _ = self.wish.changed() => continue,
                permit = permits.acquire_owned() => permit,
            };
            // The permits are never closed.
            let Ok(_permit) = permit else { return };
            self.live.working(true);
            self.shared.metrics.replays_running.inc();
            let end = self.work(&checked, &stop).await;
            self.shared.metrics.replays_running.dec();
            self.live.working(false);
            match end {
                End::Done if self.done(&stop).await => return,
                End::Done => {}
                End::Wished => {}
                End::Stopped => return,
                End::Failed(why) => return self.fail(&why).await,
            }
        }
    }

    async fn work(&mut self, checked: &Arc<Checked>, stop: &CancellationToken) -> End {
        let job = self.record.job;
        let mut parts = Parts {
            known: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            token: CancellationToken::new(),
        };
        match self.ask(move |queries| Ok((queries.job(job)?, queries.job_parts(job)?))).await {
            Ok((Some(record), found)) => {
                self.live.counted(record.counts);
                self.record = record;
                for part in found {
                    parts.known.insert(part.destination.clone(), part);
                }
            }
            Ok((None, _)) => return End::Failed("it is not in the state".to_owned()),
            Err(why) => {
                warn!(replay = %job, %why, "cannot read what a replay has, trying again");
                self.live.stuck(Some(why));
                time::sleep(PAUSE).await;
                return End::Wished;
            }
        }
        self.live.stuck(None);
        let left: Vec<_> = parts.known.values().filter(|part| part.left > 0).cloned().collect();
        for part in left {
            self.start(&mut parts, part, checked);
        }
        self.share_rate(&parts, checked).await;
        let end = loop {
            if self.record.complete && parts.running.is_empty() {
                break End::Done;
            }
            let may_choose = !self.record.complete && self.live.counts().remaining() < LIST_MAX;
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Stopped,
                _ = self.wish.changed() => break End::Wished,
                Some(joined) = parts.tasks.join_next() => match joined {
                    Ok(destination) => {
                        parts.running.remove(&destination);
                        self.share_rate(&parts, checked).await;
                    }
                    Err(error) => break End::Failed(format!("a part of it broke: {error}")),
                },
                () = std::future::ready(()), if may_choose => {
                    match self.choose(&mut parts, checked).await {
                        Ok(()) => self.live.stuck(None),
                        Err(why) => {
                            warn!(replay = %job, %why, "a replay cannot choose on, trying again");
                            self.live.stuck(Some(why));
                            time::sleep(PAUSE).await;
                        }
                    }
                }
                () = time::sleep(PAUSE) => {}
            }
        };
        parts.token.cancel();
        while parts.tasks.join_next().await.is_some() {}
        end
    }

    fn start(&self, parts: &mut Parts, part: PartRecord, checked: &Checked) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let destination = part.destination.clone();
        let task = PartTask {
            shared: Arc::clone(&self.shared),
            part,
            complete: self.record.complete,
            rate: checked.rate,
            orders,
            live: Arc::clone(&self.live),
        };
        let token = parts.token.clone();
        parts.running.insert(destination.clone(), sender);
        parts.tasks.spawn(async move {
            task.run(token).await;
            destination
        });
    }

    /// The job's rate is the parts' together.
    async fn share_rate(&self, parts: &Parts, checked: &Checked) {
        let Some(rate) = checked.rate else { return };
        let share = u32::try_from(parts.running.len()).unwrap_or(1).max(1);
        let rate = Rate { count: rate.count, per: rate.per * share };
        for part in parts.running.values() {
            // A part that has just ended needs none.
            let _ = part.send(PartOrder::Rate(Some(rate))).await;
        }
    }

    /// Chooses a chunk and lays it on the list; tells the parts.
    async fn choose(&mut self, parts: &mut Parts, checked: &Arc<Checked>) -> Result<(), String> {
        let chooser = Chooser {
            queries: self.shared.queries.clone(),
            log: Arc::clone(&self.shared.log),
            generation: self.shared.generation.load_full(),
            fetch: Arc::clone(&self.shared.fetch),
            checked: Arc::clone(checked),
            began: self.record.at,
            stop: self.shared.stop.clone(),
            only_which: false,
        };
        let cursor = self.record.cursor.clone();
        let chosen = tokio::task::spawn_blocking(move || chooser.chunk(cursor.as_deref())).await;
        let chosen = chosen.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let chunk = self.chunk(parts, chosen).await?;
        let (cursor, complete, gone) = (chunk.cursor.clone(), chunk.complete, chunk.gone);
        let fed = self.shared.keeper.with(move |state| state.feed_job(&chunk, Timestamp::now())).await;
        let (fed, counts) = match fed.map_err(|error| error.to_string())? {
            Ok(fed) => fed,
            Err(error) => {
                if matches!(error, WriteError::Sync(_)) {
                    self.shared.keeper.stop();
                }
                return Err(Chain(&error).to_string());
            }
        };
        if gone > 0 {
            info!(replay = %self.record.job, gone, "retention had taken some of what a replay looked for");
        }
        self.record.cursor = Some(cursor);
        self.record.complete = complete;
        self.live.counted(counts);
        let mut started = false;
        for (part, more) in fed {
            let Some(known) = parts.known.values().find(|known| known.part == part).cloned() else { continue };
            if let Some(running) = parts.running.get(&known.destination) {
                let _ = running.send(PartOrder::Fed(more, false)).await;
            } else {
                self.start(parts, PartRecord { left: more, ..known }, checked);
                started = true;
            }
        }
        if complete {
            for part in parts.running.values() {
                let _ = part.send(PartOrder::Fed(0, true)).await;
            }
        }
        if started {
            self.share_rate(parts, checked).await;
        }
        Ok(())
    }

    /// What was chosen, in rows of the state. New decisions are rows of ROUTED first.
    async fn chunk(&self, parts: &mut Parts, chosen: Chosen) -> Result<Chunk, String> {
        let mut rows = Vec::new();
        for thing in &chosen.things {
            if let What::Anew { event, generation, decision, enrichment, .. } = &thing.what {
                let row = RoutedRow {
                    event: event.position(),
                    job: self.record.job.0,
                    generation: *generation,
                    decision: decision.clone(),
                    enrichment: enrichment.clone(),
                };
                rows.push(NewRouted { row, event: Arc::clone(event) });
            }
        }
        let mut next_row = if rows.is_empty() { 0 } else { self.append(rows).await? };
        let mut planned = Vec::with_capacity(chosen.things.len());
        for thing in chosen.things {
            let row = next_row;
            next_row += u64::from(matches!(thing.what, What::Anew { .. }));
            planned.push(self.plan(parts, thing, row)?);
        }
        let named = parts.known.values().map(|part| (part.part, part.destination.clone())).collect();
        let Chosen { cursor, pin, complete, gone, .. } = chosen;
        Ok(Chunk { job: self.record.job, parts: named, planned, cursor, pin, complete, gone })
    }

    async fn append(&self, mut rows: Vec<NewRouted>) -> Result<Offset, String> {
        let (end, mut ended) = mpsc::channel(1);
        loop {
            rows = match self.shared.writer.append(vec![0], rows, &end) {
                Err((_, rows)) => rows,
                Ok(()) => match ended.recv().await {
                    Some(RowsEnd::Appended(_, first)) => return Ok(first),
                    Some(RowsEnd::NoRoom(_, rows)) => rows,
                    None => return Err("the log is not written any more".to_owned()),
                },
            };
            self.live.stuck(Some("the store has no room for new decisions".to_owned()));
            time::sleep(PAUSE).await;
        }
    }

    fn plan(&self, parts: &mut Parts, thing: Thing, new_row: Offset) -> Result<Planned, String> {
        let event = event_of(&thing);
        let origin = thing.origin.as_ref().map(|letter| {
            let row = &letter.row;
            (letter.lane.clone(), row.offset, row.route.clone())
        });
        let mut planned = Planned { origin, ..Planned::default() };
        let Some(event) = event else { return Ok(planned) };
        let was = thing.origin.map(|letter| letter.row);
        let now = Timestamp::now();
        let blank = |offset: Offset, route: Option<RouteName>, order: Option<OrderKey>, state| ShelfRow {
            offset,
            route,
            event,
            order,
            state,
            cause: was.as_ref().and_then(|row| row.cause),
            detail: was.as_ref().map(|row| row.detail.clone()).unwrap_or_default(),
            attempts: was.as_ref().map_or(0, |row| row.attempts),
            first_at: was.as_ref().map_or(now, |row| row.first_at),
            last_at: was.as_ref().map_or(now, |row| row.last_at),
            holds: false,
        };
        match thing.what {
            What::Nothing => {}
            What::Refused(cause, detail) => planned.refused = Some((cause, detail)),
            What::Stored(routed, sends) => {
                for send in sends {
                    let part = self.part_of(parts, &send.destination)?;
                    let state = ShelfState::Replaying(part);
                    let row = blank(routed.offset, Some(send.route), routed.event.order, state);
                    planned.items.push(NewItem { part, row, again: send.again, moved: false });
                }
            }
            What::Anew { event: whole, decision, again, .. } => {
                for (target, again) in decision.targets.into_iter().zip(again) {
                    let part = self.part_of(parts, &target.destination)?;
                    let row = blank(new_row, Some(target.route), whole.order, ShelfState::Replaying(part));
                    planned.items.push(NewItem { part, row, again, moved: true });
                }
                for dead in decision.dead {
                    let row = blank(new_row, dead.route, None, ShelfState::Dead);
                    planned.buried.push(ShelfRow { cause: Some(dead.cause), detail: dead.detail, last_at: now, ..row });
                }
            }
        }
        Ok(planned)
    }

    /// The part for a destination; a new one if there is none.
    fn part_of(&self, parts: &mut Parts, destination: &DestinationName) -> Result<ReplayJob, String> {
        if let Some(part) = parts.known.get(destination) {
            return Ok(part.part);
        }
        let index = u8::try_from(parts.known.len() + 1).map_err(|_| "it goes to too many destinations".to_owned())?;
        let part = self.record.job.part(index);
        let record = LaneRecord {
            lane: LaneName::Replay(part),
            partition: Partition(0),
            kind: destination.as_str().into(),
            progress: Progress { watermark: 1, ..Progress::default() },
            parked: Vec::new(),
            paused: false,
        };
        let known = PartRecord { part, destination: destination.clone(), record, left: 0 };
        parts.known.insert(destination.clone(), known);
        Ok(part)
    }

    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&crate::journal::sqlite::queries::Queries) -> Result<R, crate::journal::ReadError>
        + Send
        + 'static,
    ) -> Result<R, String> {
        let queries = self.shared.queries.clone();
        let answer = tokio::task::spawn_blocking(move || question(&queries)).await;
        answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}
