//! The world of one seed: a clock, everything that is on its way, one process at a time, and what outlives it.

use crate::{
    broker::{Broker, Kind, Try},
    client::Clients,
    enrich::{Mood, TENANTS},
    feed::{FeedRun, FeedStep},
    keeper::Told,
    plan::{DESTINATIONS, Plan, destination},
    process::{ForWriter, LaneInput, Process},
    routes::SimRoutes,
    store::Store,
    watch::Watch,
};
use fastrand::Rng;
use laigu_router::{
    core::{enrich::Input as EnrichInput, replay::Input as ReplayInput, router::Input as RouterInput},
    destinations::OutletState,
    domain::{Delivery, DestinationName, Offset, Partition, ReplayJob, RouteName, Timestamp},
    journal::{
        LaneName, Log,
        memory::{MemoryJournal, state::StateImage},
    },
    lanes::payload::Payload,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Something that happens at a time. Those of an earlier run do not happen any more, but for what is outside of it.
pub enum Happening {
    /// A client may post.
    Client,
    WriterWakes(u16),
    WriterTells(u16),
    KeeperWakes,
    /// The keeper tells whether settlements are durable.
    KeeperTells(Vec<Told>),
    /// Rows of a shelf that were read a while ago.
    Loaded(Told),
    Router(u16, RouterInput),
    /// The schedule of a tenant's lookups.
    Enrich(u16, usize, EnrichInput),
    /// A tenant's API answers a call.
    Api(u16, usize, u64),
    Lane(u16, LaneName, LaneInput),
    Replay(u16, ReplayJob, ReplayInput<Payload>),
    ReplayEnds(u16, ReplayJob),
    /// A delivery arrives at a broker, sent over a connection of it.
    Arrives(DestinationName, Try, Box<Delivery>, u32),
    /// A broker answers over a connection.
    Answers(DestinationName, u32),
    /// Segments are sealed, or go.
    Store(u16),
    Operator,
    /// Something goes wrong, or right again.
    Fate,
    /// A step of the feed that reads the vendor's list.
    Feed(FeedStep),
}

impl Happening {
    /// Whether it happens whatever became of the process that was running when it was set off.
    fn is_outside(&self) -> bool {
        matches!(self, Self::Client | Self::Fate | Self::Operator | Self::Store(_) | Self::Arrives(..))
    }
}

pub struct World {
    pub seed: u64,
    pub rng: Rng,
    pub now: Timestamp,
    pub plan: Plan,
    pub journal: MemoryJournal,
    pub stores: Vec<Store>,
    pub process: Option<Process>,
    pub epoch: u32,
    pub brokers: BTreeMap<DestinationName, Broker>,
    /// How each tenant's API is.
    pub moods: [Mood; TENANTS],
    pub generations: Vec<Arc<SimRoutes>>,
    pub clients: Clients,
    /// What is on its way: (time, order) to (run, what).
    coming: BTreeMap<(Timestamp, u64), (u32, Happening)>,
    order: u64,
    pub healed: bool,
    pub hits: BTreeMap<&'static str, u64>,
    pub watch: Watch,
    /// The first thing that was found wrong.
    pub first_wrong: Option<String>,
    /// For each crash: what each destination's consumer had by then.
    pub crashes: Vec<(u32, BTreeMap<DestinationName, usize>)>,
    /// Where lanes began.
    pub lane_starts: BTreeMap<(LaneName, u16), Offset>,
    /// Dead letters that the operator took off the shelves.
    pub discarded: BTreeSet<(DestinationName, u16, Offset, Option<RouteName>)>,
    /// Events that were spoiled on the disk.
    pub damaged: BTreeSet<(u16, Offset)>,
    /// Ids of the last batch that was rolled back, by the number its first event would have had.
    pub rolled_back: BTreeMap<(u16, Offset), Vec<(u64, u64)>>,
    pub reload_pending: bool,
    pub jobs: u64,
    pub full_until: Timestamp,
    /// Until when a wide seed leaves everything unbound.
    pub stands_until: Option<Timestamp>,
    pub told_at: Timestamp,
    /// Reads the vendor's list while a process runs.
    pub feed: Option<FeedRun>,
    /// When the lanes of the process that runs are woken.
    timers: BTreeSet<(Timestamp, u16, LaneName)>,
}

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// After so long without faults everything must have arrived.
const PATIENCE: Duration = Duration::from_secs(600);
/// More steps than this are no progress.
const STEPS_MAX: u64 = 1_000_000;

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let routes = Arc::new(SimRoutes { generation: 1, routes: plan.routes.clone(), patience: plan.patience });
        let mut brokers = BTreeMap::new();
        for number in 0..DESTINATIONS {
            let kind = if rng.bool() && !plan.wide { Kind::Kafka } else { Kind::Rabbit };
            // All of a hot key's deliveries die, one by one, most of them on the shelf.
            let exiled = (plan.hot && seed.is_multiple_of(3)).then(|| crate::client::order(0).0);
            brokers
                .insert(destination(number), Broker { kind, refuses_kind_5: plan.poison, exiled, ..Broker::default() });
        }
        let mut world = Self {
            seed,
            rng,
            now: START,
            journal: MemoryJournal::new(plan.partitions),
            stores: (0..plan.partitions).map(|_| Store::new()).collect(),
            process: None,
            epoch: 0,
            brokers,
            moods: [Mood::Good; TENANTS],
            generations: vec![routes],
            clients: Clients::new(&plan),
            plan,
            coming: BTreeMap::new(),
            order: 0,
            healed: false,
            hits: BTreeMap::new(),
            watch: Watch::default(),
            first_wrong: None,
            crashes: Vec::new(),
            lane_starts: BTreeMap::new(),
            discarded: BTreeSet::new(),
            damaged: BTreeSet::new(),
            rolled_back: BTreeMap::new(),
            reload_pending: false,
            jobs: 0,
            full_until: START,
            stands_until: None,
            told_at: START,
            feed: None,
            timers: BTreeSet::new(),
        };
        world.boot();
        world.soon(1, Happening::Client);
        world.soon(5, Happening::Fate);
        world.soon(5, Happening::Operator);
        for number in 0..world.plan.partitions {
            world.soon(30, Happening::Store(number));
        }
        world
    }

    pub fn hit(&mut self, what: &'static str) {
        *self.hits.entry(what).or_default() += 1;
    }

    /// Lets something happen after up to so many milliseconds, or on a slow machine many times that.
    pub fn soon(&mut self, up_to: u64, what: Happening) {
        let at = self.now.plus(Duration::from_millis(self.rng.u64(0..=up_to * self.plan.slowness)));
        self.at(at, what);
    }

    /// Lets a lane wake at a time, or at once if that is past. One timer a moment, as a shell has one sleep.
    pub fn wakes(&mut self, at: Timestamp, number: u16, lane: &LaneName) {
        let at = at.max(self.now.plus(Duration::from_millis(1)));
        self.timers.retain(|(at, ..)| *at > self.now);
        if self.timers.insert((at, number, lane.clone())) {
            self.at(
                at,
                match lane {
                    LaneName::Router => Happening::Router(number, RouterInput::Tick),
                    _ => Happening::Lane(number, lane.clone(), LaneInput::Tick),
                },
            );
        }
    }

    pub fn at(&mut self, at: Timestamp, what: Happening) {
        self.order += 1;
        self.coming.insert((at, self.order), (self.epoch, what));
    }

    /// Starts a process on what the disk holds.
    pub fn boot(&mut self) {
        self.epoch += 1;
        self.timers.clear();
        let routes = Arc::clone(self.generations.last().expect("there is one from the start"));
        let process = Process::start(self.epoch, self.seed, &self.plan, routes, &self.journal);
        for record in self.journal.inspect(StateImage::lanes) {
            let place = (record.lane, record.partition.0);
            self.lane_starts.entry(place).or_insert(record.progress.watermark);
        }
        if process.partitions.iter().any(|run| !run.replays.is_empty()) {
            self.hit("a replay is taken up again");
        }
        self.process = Some(process);
        for number in 0..self.plan.partitions {
            self.grown(number);
        }
        for name in Self::destinations() {
            self.tell_state(&name);
        }
        self.start_feed();
        if self.healed {
            self.resume_all();
        }
    }

    /// Runs until everything posted has come to its end, or patience has.
    ///
    /// # Errors
    /// What went wrong on the way, or what is left.
    pub fn run(&mut self) -> Result<(), String> {
        let mut healed_at = None;
        for step in 0..STEPS_MAX {
            let Some(((at, _), (epoch, what))) = self.coming.pop_first() else {
                return Err(format!("nothing happens any more: {}", self.backlog()));
            };
            self.now = self.now.max(at);
            if epoch == self.epoch || what.is_outside() {
                self.happen(what, epoch);
            }
            if let Some(wrong) = self.first_wrong.take() {
                return Err(wrong);
            }
            if !self.healed && self.may_heal() && self.rng.u32(..20) == 0 {
                self.heal();
                healed_at = Some(self.now);
            }
            let Some(since) = healed_at.filter(|_| step % 32 == 0) else { continue };
            if self.at_rest() {
                return Ok(());
            }
            if self.now.since(since) > PATIENCE {
                return Err(format!("not drained {PATIENCE:?} after the last fault: {}", self.backlog()));
            }
        }
        Err(format!("it never comes to rest: {}", self.backlog()))
    }

    fn may_heal(&self) -> bool {
        self.clients.finished(&self.plan) && self.stands_until.is_none_or(|until| self.now >= until)
    }

    fn happen(&mut self, what: Happening, epoch: u32) {
        match what {
            Happening::Client => self.client(),
            Happening::Fate => self.fate(),
            Happening::Feed(step) => self.feed(step),
            Happening::Operator => self.operator(),
            Happening::Store(number) => self.keep_store(number),
            Happening::WriterWakes(number) => self.writer_wakes(number),
            Happening::WriterTells(number) => self.writer_tells(number),
            Happening::KeeperWakes => self.keeper_wakes(),
            Happening::KeeperTells(told) => self.keeper_tells(told),
            Happening::Loaded(told) => self.loaded(told),
            Happening::Router(number, input) => self.router(number, input),
            Happening::Enrich(number, tenant, input) => self.lookup_answered(number, tenant, input),
            Happening::Api(number, tenant, lookup) => self.api_answers(number, tenant, lookup),
            Happening::Lane(number, name, input) => self.lane(number, &name, input),
            Happening::Replay(number, job, input) => self.replay(number, job, input),
            Happening::ReplayEnds(number, job) => self.replay_ends(number, job),
            Happening::Answers(name, connection) => self.answers(&name, connection),
            Happening::Arrives(name, place, delivery, connection) => {
                self.arrives(&name, place, &delivery, (connection, epoch));
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

    /// Whether every row is settled by every lane, and nothing waits on a shelf that may still be published.
    fn at_rest(&self) -> bool {
        self.clients.nothing_open() && self.process.is_some() && self.backlog().is_empty()
    }

    /// What is left to do, in words.
    fn backlog(&self) -> String {
        let mut left = Vec::new();
        for record in self.journal.inspect(StateImage::lanes) {
            let heads = self.journal.log().heads(Partition(record.partition.0));
            let head = match &record.lane {
                LaneName::Router => heads.events,
                LaneName::Morgue => heads.routed,
                LaneName::Destination(name) if self.outlet_state(name) != OutletState::Up => continue,
                LaneName::Destination(_) => heads.routed,
                LaneName::Replay(_) => Offset::MAX,
            };
            let what = format!("{:?}/{}", record.lane, record.partition.0);
            if record.progress.watermark < head {
                left.push(format!("{what} at {} of {head}", record.progress.watermark));
            }
            let waiting = record.parked.iter().filter(|key| key.rows > 0 && !key.held).count();
            if waiting > 0 {
                left.push(format!("{what} has {waiting} parked keys"));
            }
        }
        left.extend(self.feed_lacks());
        left.join(", ")
    }
}
