//! Takes a changed `routes.yaml` into force while everything runs.
//!
//! One task reloads: on SIGHUP, on request, and when the file or a secret that it names has another content (its hash is
//! looked at every few seconds: right for Kubernetes, where files are swapped by links). A file with a mistake changes
//! nothing and is told of once.
//!
//! The order matters. A destination that is new gets a durable start in the log first; then the generation takes force
//! everywhere; then lanes get their new outlets. An event is decided once, by the generation in force when it is looked
//! at.

use crate::{
    app::fleet::{self, EmbeddedFleet, ONLY},
    app::generation::Generation,
    app::replays::Replays,
    config::{self, settings::Settings},
    destinations::OutletTask,
    domain::{HashKeys, Timestamp},
    enrich::{Enricher, setup::Setup},
    ingress::{
        door::Door,
        serve,
        tls::{Certificates, Renewed, TlsError},
    },
    journal::{
        LaneName, LaneRecord, Log, State,
        sqlite::{log::SqliteLog, state::SqliteState},
        tail::Tail,
    },
    lanes::keeper::Keeper,
};
use arc_swap::ArcSwap;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Requests that wait for the task at most.
const REQUESTS: usize = 16;

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// This generation is in force now.
    Now(u32),
    /// Nothing has changed; this one still is.
    Unchanged(u32),
}

/// Why nothing was taken: the mistakes of the file, or what could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReloadError(pub String);

/// Asks for reloads. Clones ask the same task.
#[derive(Debug, Clone)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Result<Reloaded, ReloadError>>>);

impl Reloads {
    /// Reloads now, whether the file has changed or not is looked at.
    ///
    /// # Errors
    /// [`ReloadError`]; what was in force stays in force.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (end, ended) = oneshot::channel();
        let stopping = || ReloadError("the process is stopping".to_owned());
        self.0.send(end).await.map_err(|_| stopping())?;
        ended.await.map_err(|_| stopping())?
    }
}

/// Everything that a reload touches.
pub struct Reloader {
    /// The file.
    pub path: PathBuf,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    /// The keys that the door hashes by.
    pub keys: HashKeys,
    /// The door in force.
    pub door: Arc<ArcSwap<Door>>,
    /// The generation in force.
    pub generation: Arc<ArcSwap<Generation>>,
    /// Tells the router.
    pub routes: watch::Sender<Arc<Generation>>,
    /// Fetches records.
    pub enricher: Enricher,
    /// The lanes.
    pub fleet: Arc<EmbeddedFleet>,
    /// The state.
    pub keeper: Keeper<SqliteState>,
    /// The logs.
    pub tail: Arc<Tail<SqliteLog>>,
    /// The listeners' certificates.
    pub certificates: Option<Certificates>,
    /// The listeners.
    pub listeners: Vec<serve::Control>,
    /// Replays.
    pub replays: Arc<Replays>,
    /// Where new tasks are spawned.
    pub spawn: mpsc::Sender<OutletTask>,
}

impl Reloader {
    /// The task, and the way to ask it.
    #[must_use]
    pub fn start(self, stop: CancellationToken) -> (Reloads, OutletTask) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        (Reloads(sender), Box::pin(self.run(requests, stop)))
    }

    async fn run(
        self,
        mut requests: mpsc::Receiver<oneshot::Sender<Result<Reloaded, ReloadError>>>,
        stop: CancellationToken,
    ) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                error!(%error, "cannot listen to SIGHUP: reloads only by request and by a changed file");
                return;
            }
        };
        let mut look = time::interval(LOOK_EVERY);
        let mut told = None;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                request = requests.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
                _ = hangup.recv() => None,
                _ = look.tick() => None,
            };
            let result = self.reload().await;
            match &result {
                Ok(Reloaded::Unchanged(_)) => told = None,
                Ok(Reloaded::Now(generation)) => {
                    told = None;
                    info!(generation, "routes.yaml is taken into force");
                }
                Err(mistakes) if told.as_ref() == Some(mistakes) => {}
                Err(mistakes) => {
                    error!("routes.yaml is not taken, what was in force stays:\n{mistakes}");
                    told = Some(mistakes.clone());
                }
            }
            if let Some(asked) = asked {
                // Whoever asked may be gone.
                let _ = asked.send(result);
            }
        }
    }

    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let before = self.generation.load_full();
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path, &|name| std::env::var(name).ok())).await;
        let loaded = loaded.map_err(told)?.map_err(told)?;
        if loaded.hash == before.hash {
            return Ok(Reloaded::Unchanged(before.number));
        }
        let mut next = Generation::compile(0, loaded).map_err(told)?;
        guarded(self.admin, &next.settings).map_err(ReloadError)?;
        next.table.count_on(&before.table);
        let door = is_another_door(&before.settings, &next.settings)
            .then(|| Door::new(&next.settings, self.keys))
            .transpose()
            .map_err(told)?;
        let renewed = self.renewed(&before.settings, &next.settings).map_err(told)?;
        let known = self.keeper.with(|state| state.lanes()).await.map_err(told)?.map_err(told)?;
        fleet::same_kinds(&known, &next).map_err(ReloadError)?;
        let text = next.source.shown().to_owned();
        let number = self.keeper.with(move |state| state.generation(&text, Timestamp::now())).await;
        next.number = number.map_err(told)?.map_err(told)?;
        let new = fleet::missing(&known, &next, self.tail.heads(ONLY));
        self.keeper.register(new.clone()).await.map_err(told)?.map_err(told)?;
        // From here on nothing fails.
        let next = Arc::new(next);
        warn_of_what_waits(&before, &next);
        for warning in &next.warnings {
            warn!("{}", warning.message);
        }
        self.enricher.configure(Setup::all(&next.settings)).await;
        self.generation.store(Arc::clone(&next));
        if let (Some(certificates), Some(renewed)) = (&self.certificates, renewed) {
            certificates.renew(renewed);
        }
        if let Some(door) = door {
            self.door.store(Arc::new(door));
        }
        for listener in &self.listeners {
            listener.set_limits(next.settings.server.limits);
        }
        let mut tasks = self.fleet.reload(&before).await;
        for record in new {
            tasks.extend(self.lane(record));
        }
        for task in tasks {
            // The process is stopping if nobody spawns it.
            let _ = self.spawn.send(task).await;
        }
        self.routes.send_replace(Arc::clone(&next));
        self.replays.reloaded();
        Ok(Reloaded::Now(next.number))
    }

    /// The listeners' certificates, if they are others now.
    fn renewed(&self, before: &Settings, next: &Settings) -> Result<Option<Renewed>, TlsError> {
        let files =
            next.server.tls.as_ref().filter(|_| self.certificates.is_some() && before.server.tls != next.server.tls);
        files.map(Certificates::read).transpose()
    }

    fn lane(&self, record: LaneRecord) -> Vec<OutletTask> {
        match record.lane.clone() {
            LaneName::Destination(name) => self.fleet.start_lane(&name, record),
            LaneName::Router | LaneName::Morgue | LaneName::Replay(_) => Vec::new(),
        }
    }
}

/// Whether an admin API that listens there may go without tokens. The file may name another address than the one that is
/// bound: it takes force at the next start only, or a socket was passed in.
///
/// # Errors
/// Why not, and the way out.
pub fn guarded(admin: SocketAddr, settings: &Settings) -> Result<(), String> {
    if admin.ip().is_loopback() || !settings.server.admin_tokens.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the admin API listens on {admin}, and without `server.admin_tokens` anyone who reaches it could replay and \
         discard: name a token, or start anew with `server.admin` on loopback"
    ))
}

/// Whether a push may be judged differently by the new settings. Secrets are compared by what they say, wherever it stands.
fn is_another_door(before: &Settings, next: &Settings) -> bool {
    before.sources != next.sources
        || before.server.trusted_proxies != next.server.trusted_proxies
        || before.server.limits != next.server.limits
}

/// Says what of a new file takes force only at the next start.
fn warn_of_what_waits(before: &Generation, next: &Generation) {
    let (old, new) = (&before.settings, &next.settings);
    let waits = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.admin", old.server.admin != new.server.admin),
        ("server.tls", old.server.tls.is_some() != new.server.tls.is_some()),
        ("storage", old.storage != new.storage),
    ];
    for (key, _) in waits.iter().filter(|(_, changed)| *changed) {
        warn!("`{key}` has changed: that takes force at the next start");
    }
}

fn told(error: impl std::error::Error + 'static) -> ReloadError {
    ReloadError(crate::domain::Chain(&error).to_string())
}
