//! Keeps a feed running for each list that `routes.yaml` asks for.
//!
//! A reload leaves a feed alone whose settings are the same; one that has changed ends and begins again at its watermark.
//! A feed that is left out ends; its watermark stays, and it takes up there when it is asked for again.

use super::{
    Class, Place,
    feed::{Counts, FeedTask, Store, Stored},
    lists::Lists,
    pace::Pace,
};
use crate::{
    config::settings::{Api, Settings, SourceKind, Tenant},
    core::reconcile::{Feed, Rules, Span},
    domain::{HashKeys, Timestamp},
    enrich::gates::Gates,
    ingress::Accept,
    journal::{State, WriteError},
    lanes::keeper::Keeper,
    metrics::Metrics,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

/// How long a session or report must be over before it is asked for: as `reconcile.lag` by default.
const LAG: Duration = Duration::from_secs(120);
/// How far back the first poll for sessions begins: as `reconcile.lookback` by default.
const LOOKBACK: Duration = Duration::from_secs(86_400);
/// Sessions are read again for so long after their end: customers' marks come late, and make another event.
const SESSIONS_OVERLAP: Duration = Duration::from_secs(600);
/// A window that is opened at a time. The pull of Laigu's lists cuts it into its own slices.
const SLICE: Duration = Duration::from_secs(86_400);
/// The same for sessions, whose pages are counted from the window's beginning.
const SESSIONS_SLICE: Duration = Duration::from_secs(6 * 3600);

/// One feed, as the file asks for it.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    kind: SourceKind,
    tenant: Tenant,
    rules: Rules,
}

/// The feeds of one process.
pub struct Schedule<S> {
    /// The store's keys.
    pub keys: HashKeys,
    /// The writer.
    pub writer: Arc<dyn Accept>,
    /// Where watermarks are kept.
    pub keeper: Keeper<S>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The gates before the tenants' APIs.
    pub gates: Gates,
    running: BTreeMap<(Place, Class), (Wanted, AbortOnDropHandle<()>)>,
}

impl<S: State + 'static> Schedule<S> {
    /// No feeds yet.
    #[must_use]
    pub fn new(
        keys: HashKeys,
        writer: Arc<dyn Accept>,
        keeper: Keeper<S>,
        metrics: Arc<Metrics>,
        gates: Gates,
    ) -> Self {
        Self { keys, writer, keeper, metrics, gates, running: BTreeMap::new() }
    }

    /// Runs the feeds that the settings ask for, and no others; one that ended by itself begins again at its watermark.
    pub async fn apply(&mut self, settings: &Settings) {
        let wanted = wanted(settings);
        let ended: Vec<_> = self
            .running
            .iter()
            .filter(|(name, (running, task))| {
                task.is_finished() || wanted.get(name).is_none_or(|wanted| wanted != running)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            if let Some((_, task)) = self.running.remove(&name) {
                // Waited for, so that two feeds never share a watermark.
                task.abort();
                if task.await.is_err_and(|error| error.is_panic()) {
                    error!(feed = %name.0, list = name.1.as_str(), "a feed panicked: it begins again at its watermark");
                }
            }
        }
        for (name, wanted) in wanted {
            if !self.running.contains_key(&name) {
                self.start(name, wanted).await;
            }
        }
    }

    /// Ends all feeds.
    pub async fn stop(mut self) {
        for (_, (_, task)) in std::mem::take(&mut self.running) {
            task.abort();
            let _ = task.await;
        }
    }

    async fn start(&mut self, name: (Place, Class), wanted: Wanted) {
        let (place, class) = &name;
        let feed = format!("{}:{place}", class.as_str());
        let lists = match Lists::new(place.clone(), wanted.kind, &wanted.tenant, self.keys) {
            Ok(lists) => Arc::new(lists),
            Err(error) => return error!(feed, error = %crate::domain::Chain(&error), "a list cannot be read"),
        };
        let asked = feed.clone();
        let mark = match self.keeper.with(move |state| state.mark(&asked)).await {
            Ok(Ok(mark)) => mark,
            Ok(Err(error)) => return error!(feed, %error, "its watermark cannot be read: the list is not either"),
            // The process is stopping.
            Err(_) => return,
        };
        let rate = wanted.tenant.api.as_ref().map(|api: &Api| api.rate);
        let Some(rate) = rate else { return };
        let task = FeedTask {
            class: *class,
            feed: Feed::new(wanted.rules, mark, Timestamp::now()),
            lists,
            writer: Arc::clone(&self.writer),
            store: store(self.keeper.clone(), feed.clone()),
            pace: Pace::new(self.gates.of(&place.source, &place.tenant, rate), None),
            metrics: Some(Arc::clone(&self.metrics)),
            counts: Counts::default(),
            told: Box::new(|_, _| {}),
        };
        info!(feed, from = mark.map(|mark| mark.to_string()), "reading a list for pushes that never came");
        let running = AbortOnDropHandle::new(tokio::spawn(async move {
            task.run().await;
        }));
        self.running.insert(name, (wanted, running));
    }
}

/// Stores a feed's watermark by its name.
fn store<S: State + 'static>(keeper: Keeper<S>, feed: String) -> Store {
    Box::new(move |mark, _| {
        let (keeper, feed) = (keeper.clone(), feed.clone());
        Box::pin(async move { stored(keeper.with(move |state| state.set_mark(&feed, mark)).await) })
    })
}

/// What became of a change of the state.
pub(super) fn stored<G>(outcome: Result<Result<(), WriteError>, G>) -> Stored {
    match outcome {
        Ok(Ok(())) => Stored::Done,
        Ok(Err(WriteError::Full(_))) => Stored::NoRoom,
        // The state is broken: its keeper ends the process.
        Ok(Err(WriteError::Sync(_) | WriteError::Fenced)) | Err(_) => Stored::Gone,
    }
}

fn wanted(settings: &Settings) -> BTreeMap<(Place, Class), Wanted> {
    let mut all = BTreeMap::new();
    for (source_name, source) in &settings.sources {
        for (tenant_name, tenant) in &source.tenants {
            let place = Place { source: source_name.clone(), tenant: tenant_name.clone() };
            for (class, rules) in rules_of(tenant) {
                let rules = Rules { seed: seed(&place, class), ..rules };
                let wanted = Wanted { kind: source.kind, tenant: relevant(tenant), rules };
                all.insert((place.clone(), class), wanted);
            }
        }
    }
    all
}

/// A tenant without what concerns its webhook and other feeds: a change there leaves this one alone.
fn relevant(tenant: &Tenant) -> Tenant {
    Tenant {
        secrets: Vec::new(),
        path_secret: None,
        allow_from: Vec::new(),
        reconcile: None,
        poll_sessions: None,
        reports: None,
        ..tenant.clone()
    }
}

fn rules_of(tenant: &Tenant) -> Vec<(Class, Rules)> {
    let mut all = Vec::new();
    let rules = |span, overlap, slice| Rules { span, overlap, slice, seed: 0 };
    if let Some(reconcile) = tenant.reconcile {
        let every = [(Class::Clients, reconcile.clients), (Class::Conversations, reconcile.conversations)];
        for (class, every) in every.into_iter().filter_map(|(class, every)| Some((class, every?))) {
            let span = Span::Ongoing { every, lag: reconcile.lag, lookback: reconcile.lookback };
            all.push((class, rules(span, reconcile.overlap, SLICE)));
        }
    }
    if let Some(every) = tenant.poll_sessions {
        let span = Span::Ongoing { every, lag: LAG, lookback: LOOKBACK };
        all.push((Class::Sessions, rules(span, SESSIONS_OVERLAP, SESSIONS_SLICE)));
    }
    if let Some(reports) = tenant.reports {
        let every = [(Class::AgentOnline, reports.agent_online), (Class::AgentService, reports.agent_service)];
        for (class, every) in every.into_iter().filter_map(|(class, every)| Some((class, every?))) {
            all.push((class, rules(Span::Periods { every, lag: LAG }, Duration::ZERO, every)));
        }
    }
    all
}

fn seed(place: &Place, class: Class) -> u64 {
    let name = format!("{}:{place}", class.as_str());
    name.bytes().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte))
}
