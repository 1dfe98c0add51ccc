//! One run of the process: the machines of every partition, and the queues before the two writing threads.

use crate::{enrich::Enriching, plan::Plan, routes::SimRoutes};
use laigu_router::{
    core::{
        intake::Intake,
        lane::{Input, Lane},
        replay::{Replay, ReplaySettling},
        router::{Router, leave_shelf},
    },
    domain::{DestinationName, Incarnation, NewEvent, Offset, OrderKey, Partition, ReplayJob},
    journal::{
        Appended, Appender, Batch, Entry, LaneName, LaneRecord, Log, NewRouted, Progress, ReadLimit, Settlement,
        ShelfState, State, Wanted, WriteError,
        memory::{
            MemoryJournal,
            ends::{MemoryAppender, MemorySealedIds, MemoryState},
        },
    },
    lanes::payload::{Part, Payload},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// What waits for the writer.
pub enum ForWriter {
    Push(NewEvent, u64),
    Rows(Vec<u64>, Vec<NewRouted>),
}

/// What waits for the state keeper.
pub enum ForKeeper {
    Settle(Settlement),
    Load(LaneName, u16, OrderKey, usize),
    /// A replay's settlement: it changes two lanes.
    Replay(LaneName, u16, Arc<ReplaySettling>),
}

/// What the writer is doing.
pub enum Writing {
    Idle,
    /// Its commit ended like this; nobody was told yet.
    Ended(Result<Appended, (WriteError, Batch)>),
}

pub struct PartitionRun {
    pub intake: Intake<MemorySealedIds, u64, Vec<u64>>,
    pub appender: MemoryAppender,
    pub segment: Offset,
    pub queue: VecDeque<ForWriter>,
    pub writing: Writing,
    pub router: Router<SimRoutes>,
    pub enriching: Enriching,
    pub lanes: BTreeMap<LaneName, (Lane<Payload>, Part)>,
    pub replays: BTreeMap<LaneName, (Replay<Payload>, DestinationName)>,
}

pub struct Process {
    pub partitions: Vec<PartitionRun>,
    pub state: MemoryState,
    pub keeper_queue: VecDeque<ForKeeper>,
    pub keeper_busy: bool,
    pub routes: Arc<SimRoutes>,
}

/// Marks and outlets that a start needs: the lanes of all destinations named now or ever before.
pub fn lane_records(
    state: &MemoryState,
    routes: &SimRoutes,
    journal: &MemoryJournal,
    partitions: u16,
) -> Vec<LaneRecord> {
    let known = state.lanes().expect("the model can be read");
    let mut missing = Vec::new();
    for number in 0..partitions {
        let partition = Partition(number);
        let head = journal.log().heads(partition).routed;
        let mut need = |lane: LaneName, watermark: Offset, kind: &str| {
            if !known
                .iter()
                .chain(&missing)
                .any(|record: &LaneRecord| record.lane == lane && record.partition == partition)
            {
                missing.push(LaneRecord {
                    lane,
                    partition,
                    kind: kind.into(),
                    progress: Progress { watermark, ..Progress::default() },
                    parked: Vec::new(),
                    paused: false,
                });
            }
        };
        need(LaneName::Router, 1, "");
        need(LaneName::Morgue, 1, "");
        for route in &routes.routes {
            need(LaneName::Destination(route.destination.clone()), head, "sim");
        }
    }
    missing
}

impl Process {
    pub fn start(epoch: u32, seed: u64, plan: &Plan, routes: Arc<SimRoutes>, journal: &MemoryJournal) -> Self {
        let mut state = journal.state();
        let missing = lane_records(&state, &routes, journal, plan.partitions);
        state.register(&missing).expect("a start has no planned fault");
        for record in state.lanes().expect("the model can be read") {
            if record.lane != LaneName::Router {
                continue;
            }
            let (_, rows) = journal.everything(record.partition);
            let decided = rows.iter().filter(|row| row.offset > record.progress.reflects);
            if let Some(settlement) = leave_shelf(&record, decided.map(|row| row.row.event.offset)) {
                state.settle(&[settlement]).expect("a start has no planned fault");
            }
        }
        let records = state.lanes().expect("the model can be read");
        let partitions = (0..plan.partitions)
            .map(|number| PartitionRun::start(Partition(number), epoch, seed, plan, &routes, journal, &records))
            .collect();
        Self { partitions, state, keeper_queue: VecDeque::new(), keeper_busy: false, routes }
    }
}

impl PartitionRun {
    fn start(
        partition: Partition,
        epoch: u32,
        seed: u64,
        plan: &Plan,
        routes: &Arc<SimRoutes>,
        journal: &MemoryJournal,
        records: &[LaneRecord],
    ) -> Self {
        let appender = journal.appender(partition, Incarnation(epoch));
        let mut intake = Intake::new(journal.sealed_ids(partition));
        for segment in journal.unsealed_ids(partition) {
            if segment.start > 1 {
                intake.rolled(segment.start);
            }
            for pair in segment.pairs {
                intake.restore(pair.id_hash, pair.body_hash);
            }
        }
        let mine = || records.iter().filter(|record| record.partition == partition);
        let record = mine().find(|record| record.lane == LaneName::Router).expect("registered at start");
        let mut config = Router::<SimRoutes>::lane_config();
        config.window = plan.window;
        config.read_ahead = plan.window * 3;
        let mut router = Router::new(partition, Arc::clone(routes), config, record);
        tell_decided(&mut router, partition, record.progress.reflects, journal);
        let lanes = mine()
            .filter_map(|record| {
                let part = match &record.lane {
                    LaneName::Destination(name) => Part::Destination(name.clone()),
                    LaneName::Morgue => Part::Dead,
                    LaneName::Router | LaneName::Replay(_) => return None,
                };
                let mut config = plan.lane(seed);
                if part_is_dead(&part) {
                    config.common_cause = false;
                    // What is dead already does not get older.
                    config.retry.max_age = Duration::MAX;
                }
                Some((record.lane.clone(), (Lane::new(config, record), part)))
            })
            .map(|(name, (lane, part))| match part {
                Part::Dead => (name, (lane.always_up(), part)),
                Part::Destination(_) => (name, (lane, part)),
            })
            .collect();
        let replays = mine()
            .filter_map(|record| {
                let LaneName::Replay(job) = record.lane else { return None };
                let (replay, destination) = replay(job, record, seed, plan, journal);
                Some((record.lane.clone(), (replay, destination)))
            })
            .collect();
        let segment = appender.segment_start();
        let (queue, writing, enriching) = (VecDeque::new(), Writing::Idle, Enriching::new());
        Self { intake, appender, segment, queue, writing, router, enriching, lanes, replays }
    }
}

/// A replay, with what is left of it on the shelf; its record's kind says whose shelf.
pub fn replay(
    job: ReplayJob,
    record: &LaneRecord,
    seed: u64,
    plan: &Plan,
    journal: &MemoryJournal,
) -> (Replay<Payload>, DestinationName) {
    let destination = DestinationName::parse(&record.kind).expect("written by this simulator");
    let shelf = journal.state_image().shelf(&LaneName::Destination(destination.clone()), record.partition);
    let left = shelf.iter().filter(|row| row.state == ShelfState::Replaying(job)).count() as u64;
    (Replay::new(job, plan.lane(seed), record, left), destination)
}

fn part_is_dead(part: &Part) -> bool {
    matches!(part, Part::Dead)
}

/// Every ROUTED row after the one that the progress reflects marks its event as done.
fn tell_decided(router: &mut Router<SimRoutes>, partition: Partition, reflects: Offset, journal: &MemoryJournal) {
    let limit = ReadLimit { rows: usize::MAX, bytes: usize::MAX };
    let page = journal.log().routed(partition, reflects + 1, &Wanted::All, limit).expect("the model can be read");
    for entry in page.rows {
        match entry {
            Entry::Row(routed) => router.already_routed(routed.offset, &routed.row),
            // The decision can be read though its event cannot.
            Entry::Damaged(damage) => {
                router.already_decided(damage.offset, damage.event.expect("the model spoils events alone"));
            }
        }
    }
}

/// On the router's and the lanes' inputs.
pub type LaneInput = Input<Payload>;
