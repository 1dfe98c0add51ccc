//! Wires the program together, starts it, and stops it.
//!
//! What runs, and what happens when it ends:
//!
//! | what | on stop | when it ends by itself |
//! | --- | --- | --- |
//! | webhook listener | finishes requests in hand | the process stops |
//! | admin listener | cut | the process stops |
//! | router | stores how far it came | the process stops |
//! | enricher | ends: who waits for a record is not answered | the process stops |
//! | reloader | ends | the process stops |
//! | reader of the vendors' lists, with its feeds and back-fills | cut: what is not stored is read again | the process stops |
//! | a replay | as a lane; the next start goes on with it | it is over |
//! | a destination's lane, the morgue | waits up to 3 s for answers, stores them | the process stops |
//! | an outlet | ends when its lane drops it | its lane sees it gone, and tries again with a reload |
//! | upkeep (thread): seals segments, removes old ones | gets 1 s to finish its step; the next start does what is left | with an error only on a failed sync: the process stops |
//! | writer (thread) | writes what it has | with an error only on a failed sync: the process stops |
//! | state keeper (thread) | writes what it has | the same |
//!
//! The order of a stop: not ready, still accepting for `shutdown_delay`; accept no more, answer what is in hand; lanes and
//! router; the writing threads. All but the delay takes at most 10 s, whatever the brokers do.

pub mod descriptors;
pub mod feeds;
pub mod fleet;
pub mod generation;
pub mod reload;
pub mod replays;
pub mod upkeep;

use crate::{
    admin::{self, AdminState, lockout::Lockout},
    app::{
        descriptors::ConnectionsMax,
        fleet::{Fleet, ONLY},
        generation::Generation,
        reload::Reloader,
        replays::{JOBS_MAX, Replays, Shared},
        upkeep::Upkeep,
    },
    core::{
        intake::Intake,
        router::{self, Router},
    },
    destinations::{OutletTask, message::TypePrefixes},
    domain::{Offset, Timestamp},
    enrich::{self, Enricher, gates::Gates, setup::Setup},
    ingress::{
        Accept,
        door::Door,
        hooks::Hooks,
        listen::PassedSockets,
        serve::{self, Ceiling, Server},
        tls::Certificates,
    },
    journal::{
        Entry, LaneName, LaneRecord, Log, ReadLimit, State, Wanted, WriteError,
        sqlite::{self, log::SqliteLog, queries::Queries, state::SqliteState},
        tail::{TAIL_BYTES_MAX, Tail, TailAppender},
    },
    lanes::{
        keeper::Keeper,
        router::RouterTask,
        view::SharedView,
        writer::{self, Writer},
    },
    metrics::Metrics,
    reconcile::{jobs::Jobs, schedule::Schedule},
};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long requests in hand get when the listener closes.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// Tasks of a reload that wait to be spawned at most; the loop that spawns them does little else.
const SPAWNS: usize = 64;
/// How long router and lanes get to store what they have.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(7);

/// How long upkeep gets to finish its step: it may write a whole file of ids, or delete a million rows.
const LAST_STEP: Duration = Duration::from_secs(1);
const UPKEEP: &str = "upkeep";

/// A program that runs.
pub struct Running {
    /// Where webhooks arrive.
    pub hooks: SocketAddr,
    /// Where the admin API is.
    pub admin: SocketAddr,
    /// What the admin API works on.
    pub state: Arc<AdminState>,
    parts: Parts,
}

struct Parts {
    tasks: JoinSet<()>,
    /// Tasks that a reload adds.
    spawned: mpsc::Receiver<OutletTask>,
    hooks: serve::Control,
    admin: serve::Control,
    listener: tokio::task::JoinHandle<()>,
    admin_listener: tokio::task::JoinHandle<()>,
    lanes_stop: CancellationToken,
    writer: Writer,
    keeper: Keeper<SqliteState>,
    threads: Vec<(&'static str, JoinHandle<Result<(), WriteError>>)>,
    upkeep: Upkeep,
    ready: Arc<AtomicBool>,
}

/// Starts everything that a generation describes. When it returns, pushes are accepted.
///
/// # Errors
/// What could not be opened, and the way out; nothing runs then.
pub async fn start(mut generation: Generation) -> anyhow::Result<Running> {
    // Before the store is opened: it opens many files.
    let connections_max = ConnectionsMax::raise();
    let metrics = Arc::new(Metrics::default());
    let settings = generation.settings.clone();
    let options = sqlite::Options::new(&settings.storage.path, &settings.storage.retention, Timestamp::now())
        .context("the system gives no random numbers")?;
    let store = tokio::task::spawn_blocking(move || sqlite::open(&options)).await??;
    let sqlite::Store { appender, log, mut state, keys, sealer, retainer, sealed_ids, unsealed_ids, .. } = store;
    let tail = Arc::new(Tail::new(log, 1, TAIL_BYTES_MAX));
    let records = register(&mut state, &generation, &tail)?;
    generation.number = state.generation(generation.source.shown(), Timestamp::now())?;
    let back_fills = state.reconciles()?;
    let path = generation.source.path.clone();
    let mut intake = Intake::new(sealed_ids);
    for segment in unsealed_ids {
        if segment.start > 1 {
            intake.rolled(segment.start);
        }
        segment.pairs.iter().for_each(|pair| intake.restore(pair.id_hash, pair.body_hash));
    }
    let appender = TailAppender::new(appender, ONLY, Arc::clone(&tail));
    let upkeep = Upkeep::default();
    let wake = upkeep.clone();
    let (writer, writer_thread) = writer::start(appender, intake, move |_| wake.rolled(), Arc::clone(&metrics))?;
    let (keeper, keeper_thread) = Keeper::start(state)?;
    let upkeep_thread = upkeep.start(sealer, retainer, writer.clone())?;

    let door = Door::new(&settings, keys).context("cannot build the door")?;
    let generation = Arc::new(ArcSwap::from_pointee(generation));
    let lanes_stop = CancellationToken::new();
    let fleet = Arc::new(Fleet::new(
        Arc::clone(&tail),
        writer.heads(),
        keeper.clone(),
        Arc::clone(&metrics),
        Arc::clone(&generation),
        lanes_stop.clone(),
    ));
    let (routes, _) = watch::channel(generation.load_full());
    let mut tasks = JoinSet::new();
    let (enricher, asked) = Enricher::channel();
    let gates = Gates::default();
    let enriching = enrich::task::Task::new(asked, Setup::all(&settings), keys, gates.clone(), Arc::clone(&metrics));
    let stop = lanes_stop.clone();
    tasks.spawn(async move { enriching.run(stop).await });
    for record in records {
        match record.lane.clone() {
            LaneName::Router => {
                let task = router_task(&record, routes.subscribe(), &tail, &writer, &keeper, &enricher, &metrics)?;
                let stop = lanes_stop.clone();
                tasks.spawn(async move { task.run(stop).await });
            }
            LaneName::Morgue => {
                tasks.spawn(fleet.start_morgue(record));
            }
            LaneName::Destination(name) => {
                for task in fleet.start_lane(&name, record) {
                    tasks.spawn(task);
                }
            }
            LaneName::Replay(_) => {}
        }
    }

    let certificates = settings.server.tls.as_ref().map(Certificates::load).transpose().context("cannot load TLS")?;
    let mut sockets = PassedSockets::from_env();
    let listener = sockets.listen(0, settings.server.listen)?;
    let admin_listener = sockets.listen(1, settings.server.admin)?;
    let (hooks_at, admin_at) = (listener.local_addr()?, admin_listener.local_addr()?);
    reload::guarded(admin_at, &settings).map_err(anyhow::Error::msg)?;
    let hooks_control = serve::Control::new(settings.server.limits).below(Ceiling::new(connections_max.hooks));
    let admin_control = serve::Control::new(settings.server.limits).below(Ceiling::silent(connections_max.admin));
    let door = Arc::new(ArcSwap::from_pointee(door));
    let accept: Arc<dyn Accept> = Arc::new(writer.clone());
    let jobs = Jobs::new(back_fills, keeper.clone(), keys, Arc::clone(&accept), gates.clone());
    let schedule = Schedule::new(keys, accept, keeper.clone(), Arc::clone(&metrics), gates);
    tasks.spawn(feeds::read(schedule, jobs.clone(), routes.subscribe(), lanes_stop.clone()));
    let (spawn, spawned) = mpsc::channel(SPAWNS);
    let replays = Arc::new(Replays::new(Shared {
        queries: Queries::new(tail.engine().clone()),
        log: Arc::clone(&tail),
        writer: writer.clone(),
        keeper: keeper.clone(),
        fleet: Arc::clone(&fleet),
        metrics: Arc::clone(&metrics),
        generation: Arc::clone(&generation),
        fetch: Arc::new(enricher.clone()),
        prefixes: TypePrefixes::new(generation.load().prefixes()),
        spawn: spawn.clone(),
        permits: Arc::new(Semaphore::new(JOBS_MAX)),
        stop: lanes_stop.clone(),
    }));
    let taken_up = Arc::clone(&replays);
    tasks.spawn(async move { taken_up.take_up().await });
    let reloader = Reloader {
        path,
        admin: admin_at,
        keys,
        door: Arc::clone(&door),
        generation: Arc::clone(&generation),
        routes,
        enricher,
        fleet: Arc::clone(&fleet),
        keeper: keeper.clone(),
        tail: Arc::clone(&tail),
        certificates: certificates.clone(),
        listeners: vec![hooks_control.clone(), admin_control.clone()],
        replays: Arc::clone(&replays),
        spawn,
    };
    let (reloads, reloading) = reloader.start(lanes_stop.clone());
    tasks.spawn(reloading);
    let ready = Arc::new(AtomicBool::new(true));
    let hooks = Hooks::new(door, Arc::new(writer.clone()), Arc::clone(&metrics)).below(connections_max.hooks);
    let state = Arc::new(AdminState {
        metrics,
        ready: Arc::clone(&ready),
        lockout: Lockout::default(),
        refusing: hooks.refusing(),
        fleet,
        generation: Arc::clone(&generation),
        tail,
        keeper: keeper.clone(),
        reloads,
        jobs,
        replays,
    });
    let hooks = Server::new(listener, hooks_control.clone(), certificates.clone(), hooks);
    let admin = Server::new(admin_listener, admin_control.clone(), certificates, admin::service(Arc::clone(&state)));
    let parts = Parts {
        tasks,
        spawned,
        hooks: hooks_control,
        admin: admin_control,
        listener: tokio::spawn(hooks.run()),
        admin_listener: tokio::spawn(admin.run()),
        lanes_stop,
        writer,
        keeper,
        threads: vec![(UPKEEP, upkeep_thread), ("writer", writer_thread), ("state keeper", keeper_thread)],
        upkeep,
        ready,
    };
    info!(hooks = %hooks_at, admin = %admin_at, "accepting pushes");
    Ok(Running { hooks: hooks_at, admin: admin_at, state, parts })
}

impl Running {
    /// Runs until the token is cancelled, or until something ends that must not; then stops in order.
    ///
    /// # Errors
    /// What ended.
    pub async fn until(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut alive = time::interval(Duration::from_millis(200));
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                _ = alive.tick() => {
                    if let Some((name, _)) = self.parts.threads.iter().find(|(_, thread)| thread.is_finished()) {
                        break Some(*name);
                    }
                    if self.parts.listener.is_finished() || self.parts.admin_listener.is_finished() {
                        break Some("a listener");
                    }
                }
                Some(task) = self.parts.spawned.recv() => {
                    self.parts.tasks.spawn(task);
                }
                Some(task) = self.parts.tasks.join_next() => {
                    if let Err(error) = task {
                        error!(%error, "a task panicked");
                        break Some("a lane");
                    }
                }
            }
        };
        // What is in force now, not what was at the start.
        let delay = self.state.generation.load().settings.server.shutdown_delay;
        let delay = if ended.is_some() { Duration::ZERO } else { delay };
        let result = self.parts.stop(delay).await;
        match ended {
            Some(what) => {
                bail!("{what} ended by itself{}", result.err().map(|e| format!(": {e:#}")).unwrap_or_default())
            }
            None => result,
        }
    }
}

impl Parts {
    async fn stop(mut self, delay: Duration) -> anyhow::Result<()> {
        self.ready.store(false, Ordering::Release);
        if !delay.is_zero() {
            info!(?delay, "stopping: not ready any more, still accepting");
            time::sleep(delay).await;
        }
        self.hooks.stop();
        if time::timeout(LAST_REQUESTS, &mut self.listener).await.is_err() {
            warn!("some requests are still open: cut");
            self.listener.abort();
        }
        self.lanes_stop.cancel();
        let settled = async { while self.tasks.join_next().await.is_some() {} };
        if time::timeout(LAST_SETTLEMENTS, settled).await.is_err() {
            warn!("some lanes did not end in time: what they had out is sent again after the next start");
        }
        self.tasks.abort_all();
        self.admin.stop();
        self.admin_listener.abort();
        self.upkeep.stop();
        self.writer.stop();
        self.keeper.stop();
        for (name, thread) in self.threads {
            // A crash between any two of its steps loses nothing; nor does the end of the process.
            if name == UPKEEP && time::timeout(LAST_STEP, ended(&thread)).await.is_err() {
                warn!("upkeep did not end in time: the next start does what is left");
                continue;
            }
            let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
            match joined {
                Ok(Ok(())) => {}
                Ok(Err(error)) => bail!("the {name} cannot go on: {error}"),
                Err(_) => bail!("the {name} panicked"),
            }
        }
        info!("stopped");
        Ok(())
    }
}

/// Waits for a thread without a thread that waits.
async fn ended<T>(thread: &JoinHandle<T>) {
    while !thread.is_finished() {
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes sure that every lane has a durable start; gives all lanes there are.
fn register(
    state: &mut SqliteState,
    generation: &Generation,
    tail: &Tail<SqliteLog>,
) -> anyhow::Result<Vec<LaneRecord>> {
    let known = state.lanes()?;
    fleet::same_kinds(&known, generation).map_err(anyhow::Error::msg)?;
    state.register(&fleet::missing(&known, generation, tail.heads(ONLY)))?;
    let waiting = known.iter().find(|record| record.lane == LaneName::Router && !record.parked.is_empty());
    if let Some(record) = waiting {
        let mut decided = Vec::new();
        decided_since(record, tail, |_, event| decided.extend(event))?;
        if let Some(settlement) = router::leave_shelf(record, decided.into_iter()) {
            state.settle(&[settlement])?;
        }
    }
    Ok(state.lanes()?)
}

fn router_task(
    record: &LaneRecord,
    mut routes: watch::Receiver<Arc<Generation>>,
    tail: &Arc<Tail<SqliteLog>>,
    writer: &Writer,
    keeper: &Keeper<SqliteState>,
    enricher: &Enricher,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<RouterTask<Generation, SqliteLog, SqliteState>> {
    let current = Arc::clone(&routes.borrow_and_update());
    let mut machine = Router::new(ONLY, current, Router::<Generation>::lane_config(), record);
    decided_since(record, tail, |routed, event| {
        // A replay's decision is not an event's first; no event has the number 0.
        machine.already_decided(routed, event.unwrap_or(0));
    })?;
    Ok(RouterTask {
        partition: ONLY,
        machine,
        routes,
        log: Arc::clone(tail),
        writer: writer.clone(),
        keeper: keeper.clone(),
        fetch: Arc::new(enricher.clone()),
        view: SharedView::new(LaneName::Router, "", false, Timestamp::now()),
        metrics: Arc::clone(metrics),
    })
}

/// Looks at every first decision after the row that the router's progress reflects: its row, and the event.
fn decided_since(
    record: &LaneRecord,
    tail: &Tail<SqliteLog>,
    mut look: impl FnMut(Offset, Option<Offset>),
) -> anyhow::Result<()> {
    let mut from = record.progress.reflects + 1;
    loop {
        let page = tail.routed(ONLY, from, &Wanted::All, ReadLimit { rows: 1_024, bytes: 8 << 20 })?;
        if page.next == from {
            return Ok(());
        }
        from = page.next;
        for entry in page.rows {
            match entry {
                Entry::Row(routed) => look(routed.offset, (routed.row.job == 0).then_some(routed.row.event.offset)),
                Entry::Damaged(damage) => match damage.event {
                    Some(event) => look(damage.offset, Some(event)),
                    None => {
                        let (row, detail) = (damage.offset, &damage.detail);
                        error!(row, %detail, "a decision is damaged: its event is decided again");
                    }
                },
            }
        }
    }
}
