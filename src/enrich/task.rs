//! The task that owns the schedules of all tenants.
//!
//! It carries effects out and answers in, and decides nothing. What is out when a reload brings other credentials comes
//! back under the old ones: a refusal of those says nothing of the new ones.

use super::{
    gates::{Gates, SharedGate},
    setup::Setup,
    subject::{self, Subject},
    vendor::{Ended, List, Vendor},
};
use crate::{
    config::settings,
    core::{
        enrich::{self, Effect, End, Input, Reason, Source, Target, Tenant, Trouble, Want, What},
        router::Need,
    },
    domain::{Chain, EnrichmentPart, EnrichmentStatus, Event, HashKeys, SourceName, TenantName, Timestamp},
    metrics::{Metrics, OfCalls, OfEnrichment, OfRecord, OfTenant},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// How long the task sleeps at most.
const LOOK: Duration = Duration::from_secs(1);

/// Whose API.
type Whose = (SourceName, TenantName);

/// What the task is told.
#[derive(Debug)]
pub enum Message {
    /// An event needs records.
    Ask {
        /// The event.
        event: Arc<Event>,
        /// The records; at least one.
        needs: Vec<Need>,
        /// Where the parts go.
        answer: oneshot::Sender<Vec<EnrichmentPart>>,
    },
    /// An event has come that waits behind another one of its key, which needs records.
    Coming(Arc<Event>),
    /// The tenants of a new generation, and who waits until they are in force.
    Configure(Vec<Setup>, oneshot::Sender<()>),
}

/// One tenant at work.
#[derive(Debug)]
struct Run {
    setup: Setup,
    /// `None`: no API, or none that can be called.
    vendor: Option<(Vendor, SharedGate)>,
    schedule: Tenant,
    lists: BTreeMap<u64, List>,
    /// Counts changes of the client.
    version: u32,
    label: OfTenant,
    /// Whether the last call brought no answer.
    failing: bool,
    /// Whether a report is refused to this tenant.
    report_refused: bool,
}

/// An event that waits for its parts.
#[derive(Debug)]
struct Asked {
    parts: Vec<Option<EnrichmentPart>>,
    answer: oneshot::Sender<Vec<EnrichmentPart>>,
}

/// A call that ended.
struct Landed {
    whose: Whose,
    version: u32,
    lookup: u64,
    ended: Ended,
    list: Option<List>,
    took: Duration,
}

type Call = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// Everything the task works with.
pub struct Task {
    messages: mpsc::Receiver<Message>,
    keys: HashKeys,
    gates: Gates,
    metrics: Arc<Metrics>,
    runs: BTreeMap<Whose, Run>,
    asked: BTreeMap<u64, Asked>,
    /// For each want: the event's number, the part, what it is and since when.
    wants: BTreeMap<u64, (u64, usize, What, Instant)>,
    next: u64,
    calls: FuturesUnordered<Call>,
}

impl Task {
    /// A task at its end of a channel, with the tenants of the first generation.
    #[must_use]
    pub fn new(
        messages: mpsc::Receiver<Message>,
        setups: Vec<Setup>,
        keys: HashKeys,
        gates: Gates,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut task = Self {
            messages,
            keys,
            gates,
            metrics,
            runs: BTreeMap::new(),
            asked: BTreeMap::new(),
            wants: BTreeMap::new(),
            next: 0,
            calls: FuturesUnordered::new(),
        };
        task.configure(setups);
        task
    }

    /// Works until the token is cancelled. Who waits then is not answered.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = Timestamp::now();
            let wake = self.runs.values().filter_map(|run| run.schedule.wake_at()).min();
            let wait = wake.map_or(LOOK, |at| at.since(now).min(LOOK));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(landed) = self.calls.next() => self.landed(landed),
                Some(message) = self.messages.recv() => match message {
                    Message::Ask { event, needs, answer } => self.ask(&event, needs, answer),
                    Message::Coming(event) => self.coming(&event),
                    Message::Configure(setups, done) => {
                        self.configure(setups);
                        // Whoever asked may be gone.
                        let _ = done.send(());
                    }
                },
                () = time::sleep(wait) => {}
            }
            let now = Timestamp::now();
            let due = |run: &Run| run.schedule.wake_at().is_some_and(|at| at <= now);
            let due: Vec<Whose> =
                self.runs.iter().filter(|(_, run)| due(run)).map(|(whose, _)| whose.clone()).collect();
            due.iter().for_each(|whose| self.step(whose, Input::Tick));
        }
    }

    fn configure(&mut self, setups: Vec<Setup>) {
        let mut removed = Vec::new();
        for (whose, run) in &mut self.runs {
            let is_there = |setup: &Setup| (&setup.source, &setup.tenant) == (&whose.0, &whose.1);
            if !setups.iter().any(is_there) {
                run.lists.clear();
                (run.vendor, run.setup.api) = (None, None);
                run.version += 1;
                removed.push(whose.clone());
            }
        }
        removed.iter().for_each(|whose| self.step(whose, Input::Removed));
        for setup in setups {
            let whose = (setup.source.clone(), setup.tenant.clone());
            let vendor = self.vendor(&setup);
            let run = self.runs.entry(whose.clone()).or_insert_with(|| Run {
                label: OfTenant { source: setup.source.to_string(), tenant: setup.tenant.to_string() },
                setup: Setup { api: None, ..setup.clone() },
                vendor: None,
                schedule: Tenant::default(),
                lists: BTreeMap::new(),
                version: 0,
                failing: false,
                report_refused: false,
            });
            if run.setup == setup {
                continue;
            }
            let elsewhere = run.setup.is_elsewhere(&setup);
            if let (Some((_, gate)), Some(api)) = (&vendor, &setup.api) {
                let before = run.setup.api.as_ref();
                let other = elsewhere || before.is_none_or(|before| before.credentials != api.credentials);
                gate.with(|gate| gate.configure(api.rate, other));
            }
            run.lists.clear();
            (run.vendor, run.setup, run.report_refused) = (vendor, setup, false);
            run.version += 1;
            let input = if run.vendor.is_some() { Input::Configured(elsewhere) } else { Input::Removed };
            self.step(&whose, input);
        }
    }

    fn vendor(&self, setup: &Setup) -> Option<(Vendor, SharedGate)> {
        let api = setup.api.as_ref()?;
        match Vendor::new(setup.kind, api, setup.enterprise_id, setup.tenant_id.as_deref()) {
            Ok(vendor) => Some((vendor, self.gates.of(&setup.source, &setup.tenant, api.rate))),
            Err(error) => {
                let error = Chain(&error);
                error!(source = %setup.source, tenant = %setup.tenant, %error, "this tenant's `api` cannot be used");
                None
            }
        }
    }

    fn ask(&mut self, event: &Event, needs: Vec<Need>, answer: oneshot::Sender<Vec<EnrichmentPart>>) {
        let number = self.take_number();
        self.asked.insert(number, Asked { parts: vec![None; needs.len()], answer });
        let whose = (event.source.clone(), event.tenant.clone());
        let now = Timestamp::now();
        let mut wants = Vec::new();
        for (index, need) in needs.iter().enumerate() {
            // The file's words are checked; any other is one that nobody has.
            let what = What::parse(&need.what);
            let run = self.runs.get(&whose);
            let subject = match (what, run) {
                (Some(what), Some(run)) => subject::of(event, run.setup.kind, what),
                _ => Subject::None(subject::NO_ID),
            };
            let has_api = run.is_some_and(|run| run.vendor.is_some());
            let part = match (subject, what) {
                (Subject::None(why), _) => part(&need.what, EnrichmentStatus::NotApplicable, Some(why)),
                (Subject::Refused(reason), _) => failed(&need.what, reason),
                (Subject::Record { .. }, _) if !has_api => failed(&need.what, Reason::NoApi),
                (Subject::Record { id, at, version }, Some(what)) => {
                    let deadline = enrich::deadline(event.received_at, need.within, need.required, now);
                    let ticket = self.take_number();
                    self.wants.insert(ticket, (number, index, what, Instant::now()));
                    let received_at = event.received_at;
                    wants.push(Want { ticket, what, id, at, version, received_at, deadline });
                    continue;
                }
                (Subject::Record { .. }, None) => failed(&need.what, Reason::BadId),
            };
            self.count(what, part.status);
            self.put(number, index, part);
        }
        let elsewhere = self.runs.iter().filter(|(other, _)| **other != whose).map(|(_, run)| run.schedule.waiting());
        let elsewhere = elsewhere.sum();
        for want in wants {
            self.step(&whose, Input::Want(want, elsewhere));
        }
    }

    /// Lists gather whoever comes; the call for one record alone must know who is still to come.
    fn coming(&mut self, event: &Event) {
        let whose = (event.source.clone(), event.tenant.clone());
        let Some(run) = self.runs.get(&whose) else { return };
        if let Subject::Record { id, .. } = subject::of(event, run.setup.kind, What::Conversation) {
            self.step(&whose, Input::Coming(What::Conversation, id));
        }
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Steps a tenant's schedule and carries out what it asks for.
    fn step(&mut self, whose: &Whose, input: Input) {
        let now = Timestamp::now();
        let Some(run) = self.runs.get_mut(whose) else { return };
        let mut effects = Vec::new();
        match &run.vendor {
            Some((_, gate)) => gate.with(|gate| run.schedule.step(now, input, gate, &mut effects)),
            None => {
                // Nothing is called any more, and nobody waits; what was out may still land.
                let mut closed = crate::core::gate::Gate::new(settings::Rate { count: 1, per: LOOK });
                closed.refused(now);
                run.schedule.step(now, input, &mut closed, &mut effects);
            }
        }
        let waiting = i64::try_from(run.schedule.waiting()).unwrap_or(i64::MAX);
        self.metrics.enrichment_waiting.get_or_create(&run.label).set(waiting);
        for effect in effects {
            match effect {
                Effect::Call(lookup, target) => self.call(whose, lookup, target, now),
                Effect::Close(lookup) => {
                    if let Some(run) = self.runs.get_mut(whose) {
                        run.lists.remove(&lookup);
                    }
                }
                Effect::Done(ticket, end, source) => self.done(ticket, end, source),
            }
        }
    }

    fn call(&mut self, whose: &Whose, lookup: u64, target: Target, now: Timestamp) {
        let Some(run) = self.runs.get_mut(whose) else { return };
        let (list, version, keys, whose) = (run.lists.remove(&lookup), run.version, self.keys, whose.clone());
        let Some((vendor, _)) = run.vendor.clone() else { return };
        self.calls.push(Box::pin(async move {
            let began = Instant::now();
            let (ended, list) = vendor.call(&target, list, &keys, now).await;
            Landed { whose, version, lookup, ended, list, took: began.elapsed() }
        }));
    }

    fn landed(&mut self, landed: Landed) {
        let Landed { whose, version, lookup, ended, list, took } = landed;
        let Some(run) = self.runs.get_mut(&whose) else { return };
        let current = run.version == version;
        if let Some(list) = list.filter(|_| current) {
            run.lists.insert(lookup, list);
        }
        self.metrics.api_seconds.get_or_create(&run.label).observe(took.as_secs_f64());
        let outcome = match &ended {
            Ended::Answered(..) => "ok",
            Ended::Failed(Trouble::NotFound, _) => "not_found",
            Ended::Failed(_, reason) => reason.as_str(),
        };
        let OfTenant { source, tenant } = run.label.clone();
        self.metrics.api_calls.get_or_create(&OfCalls { source, tenant, outcome }).inc();
        tell(run, &ended, took);
        let input = match ended {
            Ended::Answered(found, more) => Input::Answered { lookup, found, more },
            // A refusal of credentials that are not ours any more.
            Ended::Failed(Trouble::Closed, reason) if !current => Input::Failed(lookup, Trouble::Again, reason),
            Ended::Failed(trouble, reason) => Input::Failed(lookup, trouble, reason),
        };
        self.step(&whose, input);
        if let Some(run) = self.runs.get(&whose)
            && let Some((_, gate)) = &run.vendor
        {
            let share = gate.with(|gate| gate.share());
            self.metrics.api_rate_share.get_or_create(&run.label).set(share);
        }
    }

    fn done(&mut self, ticket: u64, end: End, source: Source) {
        let Some((number, index, what, since)) = self.wants.remove(&ticket) else { return };
        let word = what.as_str();
        let part = match end {
            End::Ok(record, fetched_at) => {
                if source == Source::Cache {
                    self.metrics.enrichment_cache_hits.get_or_create(&OfRecord { what: word }).inc();
                }
                EnrichmentPart {
                    fetched_at: Some(fetched_at),
                    record: Some(record),
                    ..part(word, EnrichmentStatus::Ok, None)
                }
            }
            End::Missing => part(word, EnrichmentStatus::Missing, None),
            End::Failed(reason) => failed(word, reason),
        };
        let seconds = self.metrics.enrichment_seconds.get_or_create(&OfRecord { what: word });
        seconds.observe(since.elapsed().as_secs_f64());
        drop(seconds);
        self.count(Some(what), part.status);
        self.put(number, index, part);
    }

    fn count(&self, what: Option<What>, status: EnrichmentStatus) {
        let Some(what) = what else { return };
        let label = OfEnrichment { what: what.as_str(), status: status.as_str() };
        self.metrics.enrichment.get_or_create(&label).inc();
    }

    /// Puts a part in its place, and answers the event when it was the last.
    fn put(&mut self, number: u64, index: usize, part: EnrichmentPart) {
        let Some(asked) = self.asked.get_mut(&number) else { return };
        if let Some(place) = asked.parts.get_mut(index) {
            *place = Some(part);
        }
        if asked.parts.iter().any(Option::is_none) {
            return;
        }
        if let Some(Asked { parts, answer }) = self.asked.remove(&number) {
            // The router may have laid the event on its shelf meanwhile.
            let _ = answer.send(parts.into_iter().flatten().collect());
        }
    }
}

/// Says when a tenant's API begins to fail, and when it answers again; each call only to who looks closely.
fn tell(run: &mut Run, ended: &Ended, took: Duration) {
    let (source, tenant) = (&run.setup.source, &run.setup.tenant);
    match ended {
        Ended::Answered(..) | Ended::Failed(Trouble::NotFound | Trouble::Anew, _) => {
            if std::mem::take(&mut run.failing) {
                info!(%source, %tenant, "the vendor's API answers again");
            }
            debug!(%source, %tenant, ?took, "a call was answered");
        }
        Ended::Failed(Trouble::Never, Reason::Credentials) => {
            if !std::mem::replace(&mut run.report_refused, true) {
                warn!(%source, %tenant, "the vendor refuses a report about agents to this tenant: they are not fetched");
            }
        }
        Ended::Failed(trouble, reason) => {
            let reason = reason.as_str();
            debug!(%source, %tenant, ?took, reason, "a call failed");
            if std::mem::replace(&mut run.failing, true) {
                return;
            }
            match trouble {
                Trouble::Closed => error!(
                    %source, %tenant,
                    "the vendor refuses this tenant's API credentials: nothing is fetched until they change in routes.yaml"
                ),
                Trouble::Slow(_) => warn!(%source, %tenant, "the vendor is asked too often: its rate is lowered"),
                _ => warn!(%source, %tenant, reason, "the vendor's API fails"),
            }
        }
    }
}

fn part(what: &str, status: EnrichmentStatus, reason: Option<&str>) -> EnrichmentPart {
    EnrichmentPart { what: what.into(), status, reason: reason.map(Into::into), fetched_at: None, record: None }
}

fn failed(what: &str, reason: Reason) -> EnrichmentPart {
    part(what, EnrichmentStatus::Failed, Some(reason.as_str()))
}
