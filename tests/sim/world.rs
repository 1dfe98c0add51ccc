//! The world of one seed: a clock, everything that is on its way, one process at a time, and what outlives it.

use crate::{
    broker::{Broker, Meets, failed},
    client::Clients,
    plan::{Plan, SimRoute, destination, route},
    process::{ForKeeper, ForWriter, LaneInput, Process, Writing, lane_records, some_park},
    routes::SimRoutes,
};
use fastrand::Rng;
use laigu_router::{
    core::{
        intake::Done,
        lane::{Effect as LaneEffect, Input, Lane},
        router::{Effect as RouterEffect, Input as RouterInput},
    },
    destinations::{Outcome, OutletState},
    domain::{
        Delivery, DestinationName, EnrichmentPart, EnrichmentStatus, FailureKind, Partition, StopReason, Timestamp,
    },
    ingress::Answer,
    journal::{
        Appender, LaneName, Log, ReadLimit, Settlement, ShelfState, State, WriteError,
        memory::{CommitOutcome, MemoryJournal},
    },
    lanes::payload::{self, Part, Payload},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Something that happens at a time. Those of an earlier run do not happen any more, but for what is on a wire.
pub enum Happening {
    /// A client may post.
    Client,
    WriterWakes(u16),
    WriterTells(u16),
    KeeperWakes,
    /// The keeper tells whether settlements are durable, and what it loaded.
    KeeperTells(Vec<(LaneName, u16, LaneInput)>),
    Router(u16, RouterInput),
    Lane(u16, LaneName, LaneInput),
    /// A delivery arrives at a broker, sent over a connection of it.
    Arrives(DestinationName, u16, u64, Box<Delivery>, u32),
    /// Something goes wrong, or right again.
    Fate,
}

pub struct World {
    pub seed: u64,
    pub rng: Rng,
    pub now: Timestamp,
    pub plan: Plan,
    pub journal: MemoryJournal,
    pub process: Option<Process>,
    pub epoch: u32,
    pub brokers: BTreeMap<DestinationName, Broker>,
    pub generations: Vec<Arc<SimRoutes>>,
    pub clients: Clients,
    /// What is on its way: (time, order) to (run, what).
    coming: BTreeMap<(Timestamp, u64), (u32, Happening)>,
    order: u64,
    pub healed: bool,
    pub hits: BTreeMap<&'static str, u64>,
    /// For each crash: what each destination's consumer had by then.
    pub crashes: Vec<(u32, BTreeMap<DestinationName, usize>)>,
    pub reload_pending: bool,
    told_at: Timestamp,
}

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// After so long without faults everything must have arrived.
const PATIENCE: Duration = Duration::from_secs(3_000);

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let routes = Arc::new(SimRoutes { generation: 1, routes: plan.routes.clone() });
        let journal = MemoryJournal::new(plan.partitions);
        let mut brokers = BTreeMap::new();
        for number in 0..3 {
            brokers.insert(destination(number), Broker { refuses_kind_5: plan.poison, ..Broker::default() });
        }
        let clients = Clients::new(&plan);
        let mut world = Self {
            seed,
            rng,
            now: START,
            plan,
            journal,
            process: None,
            epoch: 0,
            brokers,
            generations: vec![routes],
            clients,
            coming: BTreeMap::new(),
            order: 0,
            healed: false,
            hits: BTreeMap::new(),
            crashes: Vec::new(),
            reload_pending: false,
            told_at: START,
        };
        world.boot();
        world.soon(1, Happening::Client);
        world.soon(5, Happening::Fate);
        world
    }

    pub fn hit(&mut self, what: &'static str) {
        *self.hits.entry(what).or_default() += 1;
    }

    /// Lets something happen after up to so many milliseconds.
    fn soon(&mut self, up_to: u64, what: Happening) {
        let at = self.now.plus(Duration::from_millis(self.rng.u64(0..=up_to)));
        self.at(at, what);
    }

    fn at(&mut self, at: Timestamp, what: Happening) {
        self.order += 1;
        self.coming.insert((at, self.order), (self.epoch, what));
    }

    /// Starts a process on what the disk holds.
    fn boot(&mut self) {
        self.epoch += 1;
        let routes = Arc::clone(self.generations.last().expect("there is one from the start"));
        let process = Process::start(self.epoch, self.seed, &self.plan, routes, &self.journal, some_park());
        self.process = Some(process);
        for number in 0..self.plan.partitions {
            let heads = self.journal.log().heads(Partition(number));
            self.soon(3, Happening::Router(number, RouterInput::Grown(heads.events)));
            let names = self.lane_names(number);
            for name in names {
                self.soon(3, Happening::Lane(number, name.clone(), Input::Grown(heads.routed)));
                if let LaneName::Destination(destination) = &name {
                    let state = self.outlet_state(destination);
                    self.soon(5, Happening::Lane(number, name, Input::Outlet(state)));
                }
            }
        }
    }

    fn lane_names(&self, number: u16) -> Vec<LaneName> {
        let run = self.process.as_ref().and_then(|process| process.partitions.get(usize::from(number)));
        run.map(|run| run.lanes.keys().cloned().collect()).unwrap_or_default()
    }

    /// What a lane's outlet says: of a destination that no route names any more, there is none.
    fn outlet_state(&self, destination: &DestinationName) -> OutletState {
        let routes = self.process.as_ref().map(|process| Arc::clone(&process.routes));
        let named = routes.is_some_and(|routes| routes.routes.iter().any(|route| route.destination == *destination));
        if !named {
            return OutletState::Stopped(StopReason::Misconfigured, "orphaned".into());
        }
        self.brokers.get(destination).map_or(OutletState::Up, Broker::state)
    }

    /// Runs until everything posted has come to its end, or patience has.
    pub fn run(&mut self) -> Result<(), String> {
        let mut steps = 0_u64;
        let mut healed_at = None;
        loop {
            let Some(((at, _), (epoch, what))) = self.coming.pop_first() else {
                let healed = if self.healed { "" } else { ", before the healing" };
                return Err(format!("nothing happens any more{healed}: {}", self.backlog()));
            };
            self.now = self.now.max(at);
            steps += 1;
            if steps > 3_000_000 {
                return Err("it never comes to rest".to_owned());
            }
            let on_a_wire = matches!(what, Happening::Arrives(..));
            if epoch != self.epoch && !on_a_wire && !matches!(what, Happening::Client | Happening::Fate) {
                continue;
            }
            self.happen(what, epoch);
            if !self.healed && self.clients.finished(&self.plan) && self.rng.u32(..20) == 0 {
                self.heal();
                healed_at = Some(self.now);
            }
            if let Some(since) = healed_at {
                if self.at_rest() {
                    return Ok(());
                }
                if self.now.since(since) > PATIENCE {
                    return Err(format!("not drained {PATIENCE:?} after the last fault: {}", self.backlog()));
                }
            }
        }
    }

    fn happen(&mut self, what: Happening, epoch: u32) {
        match what {
            Happening::Client => self.client(),
            Happening::Fate => self.fate(),
            Happening::WriterWakes(number) => self.writer_wakes(number),
            Happening::WriterTells(number) => self.writer_tells(number),
            Happening::KeeperWakes => self.keeper_wakes(),
            Happening::KeeperTells(inputs) => self.keeper_tells(inputs),
            Happening::Router(number, input) => self.router(number, input),
            Happening::Lane(number, name, input) => self.lane(number, &name, input),
            Happening::Arrives(name, number, ticket, delivery, connection) => {
                self.arrives(&name, number, ticket, &delivery, (connection, epoch));
            }
        }
    }

    fn client(&mut self) {
        // While nothing runs the connection is refused: nobody posts.
        if let Some(process) = &mut self.process
            && let Some((number, event, token)) = self.clients.next(&mut self.rng, &self.plan, self.now)
            && let Some(run) = process.partitions.get_mut(usize::from(number))
        {
            run.queue.push_back(ForWriter::Push(event, token));
            self.soon(2, Happening::WriterWakes(number));
        }
        if !self.clients.finished(&self.plan) {
            let pause = if self.rng.u32(..30) == 0 { 300 } else { 6 };
            self.soon(pause, Happening::Client);
        }
    }

    fn writer_wakes(&mut self, number: u16) {
        let fault = self.rng.u32(..1_000) < self.plan.commit_fault && !self.healed;
        let outcome = match self.rng.u32(..10) {
            _ if !fault => CommitOutcome::Ok,
            0 => CommitOutcome::Failed,
            1 => CommitOutcome::Lost,
            2 => CommitOutcome::Resurrected,
            _ => CommitOutcome::Full,
        };
        let roll = self.rng.u32(..25) == 0;
        let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        if !matches!(run.writing, Writing::Idle) {
            return;
        }
        let mut known = Vec::new();
        while let Some(message) = run.queue.pop_front() {
            match message {
                ForWriter::Push(event, token) => known.extend(run.intake.offer(event, token)),
                ForWriter::Rows(tickets, rows) => run.intake.add_rows(rows, tickets),
            }
        }
        let empty = run.intake.is_empty();
        if !empty {
            let batch = run.intake.take_batch();
            self.journal.next_append(Partition(number), outcome);
            run.writing = Writing::Ended(run.appender.append(&batch).map_err(|error| (error, batch)));
        }
        for (token, answer) in known {
            self.clients.answered(token, answer);
        }
        if empty {
            return;
        }
        if roll {
            self.journal.roll(Partition(number));
            self.hit("roll");
        }
        self.soon(4, Happening::WriterTells(number));
    }

    fn writer_tells(&mut self, number: u16) {
        let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        let mut done = Vec::new();
        match std::mem::replace(&mut run.writing, Writing::Idle) {
            Writing::Idle => return,
            Writing::Ended(Ok(appended)) => {
                run.intake.committed(appended, &mut done);
                let segment = run.appender.segment_start();
                if segment != run.segment {
                    run.segment = segment;
                    run.intake.rolled(segment);
                }
            }
            Writing::Ended(Err((WriteError::Full(_), batch))) => {
                if !batch.events.is_empty() {
                    *self.hits.entry("rollback").or_default() += 1;
                }
                run.intake.no_room(batch, &mut done);
            }
            Writing::Ended(Err((WriteError::Sync(_) | WriteError::Fenced, _))) => {
                self.hit("sync error");
                self.crash();
                return;
            }
        }
        for done in done {
            match done {
                Done::Answer(token, answer) => self.clients.answered(token, answer),
                Done::Appended(tickets, first) => self.in_order(number, RouterInput::Appended(tickets, first)),
                Done::NoRoom(tickets, rows) => self.in_order(number, RouterInput::NoRoom(tickets, rows)),
            }
        }
        let heads = self.journal.log().heads(Partition(number));
        self.soon(2, Happening::Router(number, RouterInput::Grown(heads.events)));
        for name in self.lane_names(number) {
            self.soon(2, Happening::Lane(number, name, Input::Grown(heads.routed)));
        }
        self.soon(1, Happening::WriterWakes(number));
    }

    /// What the writer tells the router comes in the order of commits, however late.
    fn in_order(&mut self, number: u16, input: RouterInput) {
        self.told_at = self.told_at.max(self.now.plus(Duration::from_millis(self.rng.u64(0..=3))));
        self.at(self.told_at, Happening::Router(number, input));
    }

    fn keeper_wakes(&mut self) {
        let fault = self.rng.u32(..1_000) < self.plan.commit_fault && !self.healed;
        let outcome = match self.rng.u32(..8) {
            _ if !fault => CommitOutcome::Ok,
            0 => CommitOutcome::Lost,
            1 => CommitOutcome::Resurrected,
            _ => CommitOutcome::Full,
        };
        let Some(process) = &mut self.process else { return };
        if process.keeper_busy || process.keeper_queue.is_empty() {
            return;
        }
        process.keeper_busy = true;
        let mut settlements: Vec<Settlement> = Vec::new();
        let mut inputs = Vec::new();
        let mut broken = false;
        while let Some(request) = process.keeper_queue.pop_front() {
            match request {
                ForKeeper::Settle(settlement) => settlements.push(settlement),
                ForKeeper::Load(name, number, order, rows) => {
                    if !settlements.is_empty() {
                        process.keeper_queue.push_front(ForKeeper::Load(name, number, order, rows));
                        break;
                    }
                    let rows =
                        process.state.parked(&name, Partition(number), order, rows).expect("the model can be read");
                    let Some((_, part)) =
                        process.partitions.get(usize::from(number)).and_then(|run| run.lanes.get(&name))
                    else {
                        continue;
                    };
                    let items = load(&self.journal, part, Partition(number), rows, &process.on_dead);
                    inputs.push((name, number, Input::Shelf { order, items }));
                }
            }
        }
        if !settlements.is_empty() {
            self.journal.next_settle(outcome);
            let result = process.state.settle(&settlements);
            broken = matches!(result, Err(WriteError::Sync(_) | WriteError::Fenced));
            for settlement in settlements {
                let end = if result.is_ok() { 0 } else { 1 };
                inputs.push((
                    settlement.lane,
                    settlement.partition.0,
                    if end == 0 { Input::Settled } else { Input::SettleFailed },
                ));
            }
        }
        if broken {
            self.hit("sync error");
            self.crash();
            return;
        }
        self.soon(4, Happening::KeeperTells(inputs));
    }

    fn keeper_tells(&mut self, inputs: Vec<(LaneName, u16, LaneInput)>) {
        if let Some(process) = &mut self.process {
            process.keeper_busy = false;
        }
        for (name, number, input) in inputs {
            if name == LaneName::Router {
                let input =
                    if matches!(input, Input::Settled) { RouterInput::Settled } else { RouterInput::SettleFailed };
                self.router(number, input);
            } else {
                self.lane(number, &name, input);
            }
        }
        self.soon(1, Happening::KeeperWakes);
    }

    fn keep(&mut self, request: ForKeeper) {
        if let Some(process) = &mut self.process {
            process.keeper_queue.push_back(request);
        }
        self.soon(2, Happening::KeeperWakes);
    }

    fn router(&mut self, number: u16, input: RouterInput) {
        let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        let mut effects = Vec::new();
        let watched = trace(&format!("Router/{number}"));
        if watched {
            eprintln!("{} run {} <- {}", self.now, self.epoch, brief(&format!("{input:?}")));
        }
        run.router.step(self.now, input, &mut effects);
        for effect in effects.iter().filter(|_| watched) {
            eprintln!("      -> {}", brief(&format!("{effect:?}")));
        }
        let wake = run.router.wake_at();
        for effect in effects {
            match effect {
                RouterEffect::Read { from, rows } => {
                    let limit = ReadLimit { rows: rows.min(self.rng.usize(1..20)), bytes: usize::MAX };
                    let page =
                        self.journal.log().events(Partition(number), from, limit).expect("the model can be read");
                    self.soon(2, Happening::Router(number, RouterInput::Page { next: page.next, rows: page.rows }));
                }
                RouterEffect::Append(tickets, rows) => {
                    if let Some(run) =
                        self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number)))
                    {
                        run.queue.push_back(ForWriter::Rows(tickets, rows));
                    }
                    self.soon(2, Happening::WriterWakes(number));
                }
                RouterEffect::Fetch(ticket, _, needs) => {
                    let part = |what| EnrichmentPart {
                        what,
                        status: EnrichmentStatus::Failed,
                        reason: Some("planned".into()),
                        fetched_at: None,
                        record: None,
                    };
                    let parts = needs.into_iter().map(|need| part(need.what)).collect();
                    self.soon(80, Happening::Router(number, RouterInput::Fetched(ticket, parts)));
                }
                RouterEffect::Settle(settling) => self.keep(ForKeeper::Settle(Settlement {
                    lane: LaneName::Router,
                    partition: Partition(number),
                    progress: settling.progress.clone(),
                    receipts: Vec::new(),
                    shelf: Vec::new(),
                })),
            }
        }
        if let Some(at) = wake {
            self.at(at.max(self.now.plus(Duration::from_millis(1))), Happening::Router(number, RouterInput::Tick));
        }
    }

    fn lane(&mut self, number: u16, name: &LaneName, input: LaneInput) {
        let tick = matches!(input, Input::Tick);
        let now = self.now;
        let Some((lane, part)) = self.lane_mut(number, name) else { return };
        if tick && lane.wake_at().is_none_or(|at| at > now) {
            return;
        }
        let part = part.clone();
        let epoch_of = self.epoch;
        let Some((lane, _)) = self.lane_mut(number, name) else { return };
        let mut effects = Vec::new();
        let watched = trace(&format!("{name:?}/{number}"));
        if watched {
            eprintln!("{now} run {epoch_of} <- {}", brief(&format!("{input:?}")));
        }
        lane.step(now, input, &mut effects);
        for effect in effects.iter().filter(|_| watched) {
            eprintln!("      -> {}", brief(&format!("{effect:?}")));
        }
        let wake = lane.wake_at();
        for effect in effects {
            self.carry_out(number, name, &part, effect);
        }
        if let Some(at) = wake {
            self.at(at.max(now.plus(Duration::from_millis(1))), Happening::Lane(number, name.clone(), Input::Tick));
        }
    }

    pub fn lane_mut(&mut self, number: u16, name: &LaneName) -> Option<(&mut Lane<Payload>, &Part)> {
        let run = self.process.as_mut()?.partitions.get_mut(usize::from(number))?;
        run.lanes.get_mut(name).map(|(lane, part)| (lane, &*part))
    }

    fn carry_out(&mut self, number: u16, name: &LaneName, part: &Part, effect: LaneEffect<Payload>) {
        match effect {
            LaneEffect::Read { from, rows } => {
                let limit = ReadLimit { rows: rows.min(self.rng.usize(1..20)), bytes: usize::MAX };
                let page = self.journal.log().routed(Partition(number), from, &part.wanted(), limit);
                let page = page.expect("the model can be read");
                let on_dead = some_park();
                let input = Input::Page { next: page.next, items: part.items(Partition(number), page, &on_dead) };
                self.soon(2, Happening::Lane(number, name.clone(), input));
            }
            LaneEffect::Publish { ticket, payload: Payload::Dead(cause, detail), .. } => {
                let outcome = payload::refused(cause, detail);
                self.soon(1, Happening::Lane(number, name.clone(), Input::Outcomes(vec![(ticket, outcome)])));
            }
            LaneEffect::Publish { ticket, payload: Payload::Delivery(delivery), .. } => {
                let LaneName::Destination(destination) = name else { return };
                let destination = destination.clone();
                let Some(broker) = self.brokers.get_mut(&destination) else { return };
                broker.out.insert((number, ticket));
                let connection = broker.connection;
                self.soon(6, Happening::Arrives(destination, number, ticket, Box::new(delivery), connection));
            }
            LaneEffect::Settle(settling) => self.keep(ForKeeper::Settle(Settlement {
                lane: name.clone(),
                partition: Partition(number),
                progress: settling.progress.clone(),
                receipts: settling.receipts.clone(),
                shelf: settling.shelf.clone(),
            })),
            LaneEffect::LoadShelf { order, rows } => {
                let rows = rows.min(self.rng.usize(1..5));
                self.keep(ForKeeper::Load(name.clone(), number, order, rows));
            }
        }
    }

    fn arrives(
        &mut self,
        name: &DestinationName,
        number: u16,
        ticket: u64,
        delivery: &Delivery,
        (connection, epoch): (u32, u32),
    ) {
        let faults = if self.healed { 0 } else { self.plan.broker_fault / 4 };
        let Some(broker) = self.brokers.get_mut(name) else { return };
        if connection != broker.connection {
            // Late data of a dead connection: some of it the broker had in its socket already.
            if self.rng.u32(..3) == 0 {
                broker.consume(delivery, epoch);
                broker.unsure.insert(delivery.id().as_str().to_owned());
                self.hit("late data");
            }
            return;
        }
        let outcome = match broker.meets(&mut self.rng, delivery, faults) {
            Meets::Taken => {
                broker.consume(delivery, epoch);
                Outcome::Taken { answer: "ack".into() }
            }
            Meets::TakenSilently => {
                broker.consume(delivery, epoch);
                broker.unsure.insert(delivery.id().as_str().to_owned());
                failed(FailureKind::Unknown)
            }
            Meets::Lost => failed(FailureKind::Unknown),
            Meets::Answer(kind) => failed(kind),
        };
        broker.out.remove(&(number, ticket));
        let lane = LaneName::Destination(name.clone());
        self.soon(8, Happening::Lane(number, lane, Input::Outcomes(vec![(ticket, outcome)])));
    }

    /// A destination's connection ends or comes back: what was out is not known; then the state is reported.
    fn report(&mut self, name: &DestinationName) {
        let state = self.outlet_state(name);
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.connection += 1;
        let out = std::mem::take(&mut broker.out);
        for number in 0..self.plan.partitions {
            let lane = LaneName::Destination(name.clone());
            let unknown = out.iter().filter(|(partition, _)| *partition == number);
            let unknown: Vec<_> = unknown.map(|(_, ticket)| (*ticket, failed(FailureKind::Unknown))).collect();
            // An answer that was on its way comes before the state that ends it; so one happening carries both.
            let at = self.now.plus(Duration::from_millis(9));
            if state == OutletState::Up {
                self.at(at, Happening::Lane(number, lane.clone(), Input::Outcomes(unknown)));
                self.at(at, Happening::Lane(number, lane, Input::Outlet(state.clone())));
            } else {
                self.at(at, Happening::Lane(number, lane.clone(), Input::Outlet(state.clone())));
                self.at(at, Happening::Lane(number, lane, Input::Outcomes(unknown)));
            }
        }
    }

    fn fate(&mut self) {
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
        if self.rng.u32(..1_000) < self.plan.crash * 3 {
            self.crash();
            return;
        }
        if self.rng.u32(..1_000) < self.plan.reload * 3 {
            self.reload();
            return;
        }
        if self.rng.u32(..1_000) < self.plan.broker_fault * 3 {
            self.broker_fate();
        }
    }

    fn broker_fate(&mut self) {
        let name = destination(self.rng.usize(..3));
        let key = self.clients.any_key(&mut self.rng);
        let roll = self.rng.u32(..9);
        let Some(broker) = self.brokers.get_mut(&name) else { return };
        let mut reconnect = true;
        match roll {
            0 => broker.stopped = Some(StopReason::Down),
            1 => broker.stopped = Some(StopReason::Blocked),
            2 => broker.stopped = Some(StopReason::Misconfigured),
            3 => {
                broker.unbound.insert(key);
                reconnect = false;
            }
            4 => {
                broker.nacked = route("twice", 1, &[]).name.into();
                reconnect = false;
            }
            5 => {
                broker.nothing_bound = !broker.nothing_bound;
                reconnect = false;
            }
            _ => {
                broker.stopped = None;
                broker.unbound.clear();
                broker.nacked = None;
                broker.nothing_bound = false;
            }
        }
        if roll == 4 && name == destination(1) {
            self.hit("two routes to one destination, one stuck");
        }
        if reconnect {
            self.report(&name);
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
        let names = |routes: &[SimRoute]| {
            routes.iter().map(|route| route.destination.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        let (old, new) = (names(&before), names(&routes));
        if new.difference(&old).next().is_some() {
            self.hit("reload adds a destination");
            self.reload_pending = true;
        }
        if old.difference(&new).next().is_some() {
            self.hit("reload removes a destination");
        }
        let routes = Arc::new(SimRoutes { generation, routes });
        let Some(process) = &mut self.process else { return };
        // A generation takes force only when the start of each new destination is durable.
        let missing = lane_records(&process.state, &routes, &self.journal, self.plan.partitions);
        if process.state.register(&missing).is_err() {
            return;
        }
        process.routes = Arc::clone(&routes);
        for record in &missing {
            let LaneName::Destination(name) = &record.lane else { continue };
            let lane = Lane::new(self.plan.lane(self.seed), record);
            if let Some(run) = process.partitions.get_mut(usize::from(record.partition.0)) {
                run.lanes.insert(record.lane.clone(), (lane, Part::Destination(name.clone())));
            }
        }
        for run in &mut process.partitions {
            run.router.use_routes(Arc::clone(&routes));
        }
        self.generations.push(routes);
        for name in old.union(&new) {
            self.report(name);
        }
        for number in 0..self.plan.partitions {
            let head = self.journal.log().heads(Partition(number)).routed;
            for name in self.lane_names(number) {
                self.soon(2, Happening::Lane(number, name, Input::Grown(head)));
            }
        }
    }

    fn crash(&mut self) {
        let Some(process) = self.process.take() else { return };
        if std::mem::take(&mut self.reload_pending) {
            self.hit("reload adds a destination, then a crash");
        }
        let image = self.journal.state_image();
        for number in 0..self.plan.partitions {
            let partition = Partition(number);
            let rows = self.journal.log().heads(partition).routed - 1;
            let router = image
                .lanes()
                .into_iter()
                .find(|record| record.lane == LaneName::Router && record.partition == partition);
            if router.is_some_and(|record| record.progress.reflects < rows) {
                self.hit("crash between ROUTED and the router's progress");
            }
        }
        drop(process);
        let had = self.brokers.iter().map(|(name, broker)| (name.clone(), broker.consumed.len())).collect();
        self.crashes.push((self.epoch, had));
        self.journal.crash();
        for broker in self.brokers.values_mut() {
            broker.connection += 1;
            broker.out.clear();
        }
        self.clients.process_died();
        self.hit("crash");
        if self.healed {
            self.soon(40, Happening::Fate);
        }
    }

    /// No fault happens any more, and what was wrong is right again.
    fn heal(&mut self) {
        self.healed = true;
        for broker in self.brokers.values_mut() {
            broker.stopped = None;
            broker.unbound.clear();
            broker.nacked = None;
            broker.nothing_bound = false;
        }
        if self.process.is_none() {
            self.boot();
        }
        for number in 0..3 {
            self.report(&destination(number));
        }
        self.now = self.now.plus(Duration::from_millis(1));
        for number in 0..self.plan.partitions {
            self.soon(1, Happening::WriterWakes(number));
        }
    }

    /// Whether every row is settled by every lane, and nothing waits on a shelf that may still be published.
    fn at_rest(&self) -> bool {
        self.clients.nothing_open() && self.backlog().is_empty()
    }

    /// What is left to do, in words.
    fn backlog(&self) -> String {
        let image = self.journal.state_image();
        let mut left = Vec::new();
        for record in image.lanes() {
            let heads = self.journal.log().heads(record.partition);
            let head = if record.lane == LaneName::Router { heads.events } else { heads.routed };
            let orphan =
                matches!(&record.lane, LaneName::Destination(name) if self.outlet_state(name) != OutletState::Up);
            if record.progress.watermark < head && !orphan {
                left.push(format!(
                    "{:?}/{} at {} of {head}",
                    record.lane, record.partition.0, record.progress.watermark
                ));
            }
            let waiting = record.parked.iter().filter(|key| key.rows > 0 && !key.held).count();
            if waiting > 0 && !orphan {
                left.push(format!("{:?}/{} has {waiting} parked keys", record.lane, record.partition.0));
            }
        }
        left.join(", ")
    }
}

fn load(
    journal: &MemoryJournal,
    part: &Part,
    partition: Partition,
    rows: Vec<laigu_router::journal::ShelfRow>,
    on_dead: &payload::OnDeadOf,
) -> Vec<laigu_router::core::lane::Item<Payload>> {
    let one = ReadLimit { rows: 1, bytes: usize::MAX };
    let mut items = Vec::new();
    for row in rows {
        assert_eq!(row.state, ShelfState::Parked, "only parked rows are the lane's own");
        let page = journal.log().routed(partition, row.offset, &part.wanted(), one).expect("the model can be read");
        let found = part.items(partition, page, on_dead).into_iter();
        let found = found.filter(|item| item.offset == row.offset && item.route == row.route);
        items.extend(found.map(|item| laigu_router::core::lane::Item { order: row.order, ..item }));
    }
    items
}

/// The answers that count as accepted.
pub fn is_accepted(answer: Answer) -> bool {
    matches!(answer, Answer::Stored | Answer::Duplicate)
}

/// Whether a machine is watched: `SIM_TRACE=Router/0` or `SIM_TRACE='"d1")/0'` prints its inputs and effects.
fn trace(machine: &str) -> bool {
    std::env::var("SIM_TRACE").is_ok_and(|watched| machine.contains(&watched))
}

fn brief(text: &str) -> String {
    text.split("payload: ").map(|piece| piece.chars().take(400).collect::<String>()).collect()
}
