//! The lanes that run: one a destination, and the morgue. Starts them, steers them, tells how they are.

use crate::{
    app::generation::Generation,
    config::settings::Destination,
    core::lane::LaneConfig,
    destinations::{self, Common, Outlet, OutletTask, message::TypePrefixes},
    domain::{DestinationName, Partition, Timestamp},
    journal::{
        Heads, LaneName, LaneRecord, Log, Progress, State,
        sqlite::{log::SqliteLog, state::SqliteState},
        tail::Tail,
    },
    lanes::{
        destination::{CONTROLS, Control, LaneTask},
        keeper::Keeper,
        payload::{OnDeadOf, Part},
        view::{LaneView, SharedView},
    },
    metrics::Metrics,
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// An embedded store has one partition.
pub const ONLY: Partition = Partition(0);

/// Receipts that come within this time share a sync: it costs a delivery's place in the window that much longer.
const SETTLE_EVERY: Duration = Duration::from_millis(5);
/// Deliveries that a lane holds in memory, per place in its window.
const READ_AHEAD: usize = 4;

/// What a lane is steered by.
#[derive(Debug, Clone)]
pub struct Handle {
    /// How it is.
    pub view: SharedView,
    /// Its orders.
    pub controls: mpsc::Sender<Control>,
}

/// The embedded store's lanes.
pub type EmbeddedFleet = Fleet<SqliteLog, SqliteState>;

/// All lanes of a process, by destination.
pub struct Fleet<L: Log, S> {
    log: Arc<Tail<L>>,
    heads: watch::Receiver<Heads>,
    keeper: Keeper<S>,
    metrics: Arc<Metrics>,
    generation: Arc<ArcSwap<Generation>>,
    prefixes: TypePrefixes,
    stop: CancellationToken,
    lanes: Mutex<BTreeMap<DestinationName, Handle>>,
}

impl<L: Log + 'static, S: State + 'static> Fleet<L, S> {
    /// A fleet with no lanes yet.
    pub fn new(
        log: Arc<Tail<L>>,
        heads: watch::Receiver<Heads>,
        keeper: Keeper<S>,
        metrics: Arc<Metrics>,
        generation: Arc<ArcSwap<Generation>>,
        stop: CancellationToken,
    ) -> Self {
        let prefixes = TypePrefixes::new(generation.load().prefixes());
        Self { log, heads, keeper, metrics, generation, prefixes, stop, lanes: Mutex::default() }
    }

    /// How every lane is, by name.
    pub fn views(&self) -> Vec<LaneView> {
        self.locked().values().map(|handle| handle.view.get()).collect()
    }

    /// A destination's lane.
    pub fn handle(&self, name: &str) -> Option<Handle> {
        self.locked().get(name).cloned()
    }

    /// The morgue's lane, to be spawned.
    #[must_use]
    pub fn start_morgue(&self, record: LaneRecord) -> OutletTask {
        let mut config = LaneConfig { common_cause: false, ..lane_config(None, &self.generation.load(), 0) };
        // What is dead already does not get older: its cause stays.
        config.retry.max_age = Duration::MAX;
        let (_, controls) = mpsc::channel(1);
        let view = SharedView::new(LaneName::Morgue, "", false, Timestamp::now());
        let task = self.task(record, Part::Dead, None, config, controls, view);
        let stop = self.stop.clone();
        Box::pin(async move { task.run(stop).await })
    }

    /// A destination's lane where its record left off, and its outlet, to be spawned; an orphan if the settings do not name
    /// it.
    #[must_use]
    pub fn start_lane(&self, name: &DestinationName, record: LaneRecord) -> Vec<OutletTask> {
        let generation = self.generation.load_full();
        let settings = generation.settings.destinations.get(name);
        let outlet = settings.map(|settings| self.outlet(name, settings));
        let config = lane_config(settings, &generation, seed(name));
        let (sender, controls) = mpsc::channel(CONTROLS);
        let lane = LaneName::Destination(name.clone());
        let view = SharedView::new(lane, &record.kind, settings.is_none(), Timestamp::now());
        self.locked().insert(name.clone(), Handle { view: view.clone(), controls: sender });
        let mut tasks = Vec::new();
        let outlet = outlet.map(|(outlet, task)| {
            tasks.push(task);
            outlet
        });
        let task = self.task(record, Part::Destination(name.clone()), outlet, config, controls, view);
        let stop = self.stop.clone();
        tasks.push(Box::pin(async move { task.run(stop).await }));
        tasks
    }

    /// Lets running lanes take the settings of a new generation; those that it leaves as they are keep their connections.
    /// Gives back the outlets' tasks, to be spawned.
    pub async fn reload(&self, before: &Generation) -> Vec<OutletTask> {
        let generation = self.generation.load_full();
        self.prefixes.replace(generation.prefixes());
        let mut tasks = Vec::new();
        let handles: Vec<_> = self.locked().iter().map(|(name, handle)| (name.clone(), handle.clone())).collect();
        for (name, handle) in handles {
            let settings = generation.settings.destinations.get(&name);
            let old = before.settings.destinations.get(&name);
            if settings == old && generation.settings.retry == before.settings.retry {
                continue;
            }
            if connects_alike(old, settings) {
                let config = lane_config(settings, &generation, seed(&name));
                // A lane that is gone has nothing to reload.
                let _ = handle.controls.send(Control::Configure(config)).await;
                continue;
            }
            let outlet = settings.map(|settings| self.outlet(&name, settings)).map(|(outlet, task)| {
                tasks.push(task);
                outlet
            });
            let config = lane_config(settings, &generation, seed(&name));
            // A lane that is gone has nothing to reload.
            let _ = handle.controls.send(Control::Replace(outlet, config)).await;
        }
        tasks
    }

    fn outlet(&self, name: &DestinationName, settings: &Destination) -> (Outlet, OutletTask) {
        let common = Common { name: name.clone(), window: settings.window, prefixes: self.prefixes.clone() };
        destinations::start(common, &settings.kind)
    }

    fn task(
        &self,
        record: LaneRecord,
        part: Part,
        outlet: Option<Outlet>,
        config: LaneConfig,
        controls: mpsc::Receiver<Control>,
        view: SharedView,
    ) -> LaneTask<L, S> {
        let generation = Arc::clone(&self.generation);
        let on_dead: OnDeadOf = Arc::new(move |route| generation.load().on_dead(route));
        LaneTask {
            name: record.lane.clone(),
            partition: record.partition,
            part,
            outlet,
            config,
            record,
            log: Arc::clone(&self.log),
            heads: self.heads.clone(),
            keeper: self.keeper.clone(),
            on_dead,
            controls,
            view,
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<DestinationName, Handle>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a connection made by the one may stay with the other. What secrets and certificates say is part of both.
fn connects_alike(old: Option<&Destination>, new: Option<&Destination>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => (&old.kind, old.window) == (&new.kind, new.window),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether each destination is of the type that its lane in the state has; another one is refused in words.
///
/// # Errors
/// Which destination, and the way out.
pub fn same_kinds(known: &[LaneRecord], generation: &Generation) -> Result<(), String> {
    for record in known {
        let LaneName::Destination(name) = &record.lane else { continue };
        let Some(settings) = generation.settings.destinations.get(name) else { continue };
        let kind = settings.kind.as_str();
        if *record.kind != *kind {
            let was = &record.kind;
            return Err(format!(
                "destination `{name}` was a `{was}` and still has a place in the log: give the `{kind}` another name"
            ));
        }
    }
    Ok(())
}

/// The lanes that a generation needs and the state does not know: each starts at the head of ROUTED, the router and the
/// morgue at its beginning.
#[must_use]
pub fn missing(known: &[LaneRecord], generation: &Generation, heads: Heads) -> Vec<LaneRecord> {
    let record = |lane: LaneName, kind: &str, watermark| LaneRecord {
        lane,
        partition: ONLY,
        kind: kind.into(),
        progress: Progress { watermark, ..Progress::default() },
        parked: Vec::new(),
        paused: false,
    };
    let mut wanted = vec![record(LaneName::Router, "", 1), record(LaneName::Morgue, "", 1)];
    for (name, settings) in &generation.settings.destinations {
        wanted.push(record(LaneName::Destination(name.clone()), settings.kind.as_str(), heads.routed));
    }
    wanted.retain(|record| !known.iter().any(|known| known.lane == record.lane));
    wanted
}

fn lane_config(settings: Option<&Destination>, generation: &Generation, seed: u64) -> LaneConfig {
    let window = settings.map_or(1_024, |settings| settings.window);
    LaneConfig {
        window,
        read_ahead: (window * READ_AHEAD).clamp(1_024, crate::core::lane::SPAN_MAX),
        retry: generation.settings.retry,
        rate: settings.and_then(|settings| settings.rate),
        receipts: true,
        shelf: true,
        common_cause: true,
        settle_every: SETTLE_EVERY,
        seed,
    }
}

fn seed(name: &DestinationName) -> u64 {
    name.as_str().bytes().fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(byte))
}
