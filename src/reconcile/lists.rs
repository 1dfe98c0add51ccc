//! One tenant's lists: a page of records, each made into an event in the shape of a push; or what went wrong.

use super::{Class, Place};
use crate::vendors::http::{Error as HttpError, Options};
use crate::{
    config::settings::{self, SourceKind, Tenant},
    core::reconcile::{Trouble, Window},
    domain::{Chain, Fingerprint, HashKeys, Headers, NewEvent, Origin, Timestamp, Version},
    vendors::{
        self,
        action::Action,
        easemob::{
            self,
            api::sessions::{PER_PAGE_DEFAULT, SessionFilter, SessionPull, Span},
        },
        laigu::{
            self,
            api::{
                error::classify_report,
                pull::Pull,
                records::{Client, Conversation},
                window::{Paging, Window as ApiWindow},
            },
        },
        record::{Batch, Record},
    },
};
use bytes::Bytes;
use std::time::Duration;

/// The lists of one tenant.
#[derive(Debug, Clone)]
pub struct Lists {
    kind: SourceKind,
    place: Place,
    token: Option<String>,
    keys: HashKeys,
    api: Api,
}

#[derive(Debug, Clone)]
enum Api {
    Laigu(laigu::api::Api),
    Easemob(easemob::api::Api),
}

/// A list that is being read.
#[derive(Debug)]
pub struct Reading {
    window: Window,
    list: List,
}

#[derive(Debug)]
enum List {
    Clients(Box<Pull<Client>>),
    Conversations(Box<Pull<Conversation>>),
    Sessions(Box<SessionPull>),
    AgentOnline,
    AgentService,
}

/// A record as an event.
#[derive(Debug, Clone)]
pub struct Found {
    /// The event.
    pub event: NewEvent,
    /// When the record became what it is.
    pub at: Option<Timestamp>,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its records.
    pub found: Vec<Found>,
    /// How many of it are no event: without key or version, not ended, or not to be read.
    pub passed_over: u64,
    /// Everything before this time in the window has been read with it.
    pub drained_to: Timestamp,
    /// Whether it ends the window.
    pub last: bool,
}

/// A page that could not be had.
#[derive(Debug)]
pub struct Failure {
    /// What it means for the schedule.
    pub trouble: Trouble,
    /// When the vendor wants to be asked again.
    pub retry_after: Option<Duration>,
    /// The vendor's number for it, or a word: of a closed set.
    pub errno: &'static str,
    /// All of it, in words.
    pub words: String,
}

impl Lists {
    /// The lists of a tenant that has an `api`.
    ///
    /// # Errors
    /// [`HttpError`] when the API may not be called as configured.
    pub fn new(place: Place, kind: SourceKind, tenant: &Tenant, keys: HashKeys) -> Result<Self, HttpError> {
        let missing = HttpError::Setup("the tenant has no `api`, or no number for it");
        let Some(settings) = &tenant.api else { return Err(missing) };
        let options = Options::configured();
        let api = match (kind, tenant.enterprise_id, &tenant.tenant_id) {
            (SourceKind::EasemobKefu, _, Some(id)) => Api::Easemob(easemob::api::Api::new(settings, id, options)?),
            (SourceKind::Laigu | SourceKind::Meiqia, Some(id), _) => Api::Laigu(laigu_api(settings, id, options)?),
            _ => return Err(missing),
        };
        Ok(Self { kind, place, token: tenant.enterprise_token.clone(), keys, api })
    }

    /// Whose they are.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Begins to read a list. `None` when this vendor has no such list.
    #[must_use]
    pub fn open(&self, class: Class, window: Window) -> Option<Reading> {
        let range = ApiWindow { from: window.from, to: window.to };
        let list = match (&self.api, class) {
            (Api::Laigu(api), Class::Clients) => List::Clients(Box::new(api.clients_updated(range))),
            (Api::Laigu(api), Class::Conversations) => List::Conversations(Box::new(api.conversations(range))),
            (Api::Laigu(_), Class::AgentOnline) => List::AgentOnline,
            (Api::Laigu(_), Class::AgentService) => List::AgentService,
            (Api::Easemob(api), Class::Sessions) => {
                let stopped = Span { from: Some(window.from), to: Some(window.to) };
                let filter = SessionFilter { stopped, ..SessionFilter::default() };
                List::Sessions(Box::new(api.sessions(filter, PER_PAGE_DEFAULT)))
            }
            (Api::Laigu(_), Class::Sessions) | (Api::Easemob(_), _) => return None,
        };
        Some(Reading { window, list })
    }

    /// Makes one call for the next page.
    ///
    /// # Errors
    /// [`Failure`]; the next call asks for the same page again, or the reading has gone back where it must.
    ///
    /// # Cancel safety
    /// A dropped call leaves the reading where it was.
    pub async fn next(&self, reading: &mut Reading) -> Result<Page, Failure> {
        let window = reading.window;
        let range = ApiWindow { from: window.from, to: window.to };
        match (&mut reading.list, &self.api) {
            (List::Clients(pull), _) => {
                let page = pull.next_page().await.map_err(|stopped| laigu_failure(stopped.action, &stopped.source))?;
                let batch = page.map(|page| page.into_batch()).unwrap_or_default();
                let body = |record: &Record<Client>| laigu::found::client(record, self.token.as_deref());
                Ok(self.page(window, pull.drained_to(), &batch, body, Origin::Reconcile))
            }
            (List::Conversations(pull), _) => {
                let page = pull.next_page().await.map_err(|stopped| laigu_failure(stopped.action, &stopped.source))?;
                let batch = page.map(|page| page.into_batch()).unwrap_or_default();
                let body = |record: &Record<Conversation>| laigu::found::conversation(record, self.token.as_deref());
                Ok(self.page(window, pull.drained_to(), &batch, body, Origin::Reconcile))
            }
            (List::Sessions(pull), _) => {
                let page =
                    pull.next_page().await.map_err(|stopped| easemob_failure(stopped.action, &stopped.source))?;
                let batch = page.map(|page| page.into_batch()).unwrap_or_default();
                // Sessions come by their end, but a page says nothing of the ones of the same second.
                let drained_to = if pull.is_drained() { window.to } else { window.from };
                Ok(self.page(window, drained_to, &batch, easemob::found::session, Origin::Poll))
            }
            (List::AgentOnline, Api::Laigu(api)) => {
                let rows = api.agent_online_stats(range).await.map_err(|error| report_failure(&error))?;
                Ok(self.report(laigu::found::AGENT_ONLINE, range, rows))
            }
            (List::AgentService, Api::Laigu(api)) => {
                let rows = api.agent_service(range).await.map_err(|error| report_failure(&error))?;
                Ok(self.report(laigu::found::AGENT_SERVICE, range, rows))
            }
            (List::AgentOnline | List::AgentService, Api::Easemob(_)) => {
                Ok(Page { found: Vec::new(), passed_over: 0, drained_to: window.to, last: true })
            }
        }
    }

    fn page<T>(
        &self,
        window: Window,
        drained_to: Timestamp,
        batch: &Batch<T>,
        body: impl Fn(&Record<T>) -> Option<Bytes>,
        origin: Origin,
    ) -> Page {
        self.warn_of(batch.unreadable);
        let made = |record| self.found(body(record)?, origin, None);
        let found: Vec<Found> = batch.records.iter().filter_map(made).collect();
        let passed_over = (batch.records.len() - found.len() + batch.unreadable) as u64;
        Page { found, passed_over, drained_to, last: drained_to >= window.to }
    }

    /// A report is known by its period, not by what it says: one that was asked for twice is one event.
    fn report<T>(&self, event: &str, window: ApiWindow, batch: Batch<T>) -> Page {
        self.warn_of(batch.unreadable);
        let rows: Vec<Bytes> = batch.records.into_iter().map(|row| row.raw).collect();
        let body = laigu::found::report(event, window, &rows, self.token.as_deref());
        let version = Version { key: "".into(), at: Some(window.to), stands_for_all: false };
        let found: Vec<Found> = self.found(body, Origin::Report, Some(version)).into_iter().collect();
        let passed_over = u64::from(found.is_empty()) + batch.unreadable as u64;
        Page { found, passed_over, drained_to: window.to, last: true }
    }

    fn warn_of(&self, unreadable: usize) {
        if unreadable > 0 {
            tracing::warn!(place = %self.place, unreadable, "records of the API are no JSON objects: passed over");
        }
    }

    /// The event of a body that we made, read by the reader of pushes.
    fn found(&self, body: Bytes, origin: Origin, version: Option<Version>) -> Option<Found> {
        let headers = Headers("content-type: application/json".into());
        let identity = match vendors::identify(self.kind, None, &headers, &body) {
            Ok(identity) => identity,
            Err(defect) => {
                tracing::warn!(place = %self.place, %defect, "a record of the API makes no event: passed over");
                return None;
            }
        };
        let (source, tenant) = (self.place.source.as_str(), self.place.tenant.as_str());
        let version = version.or(identity.version);
        let at = version.as_ref().and_then(|version| version.at).or(identity.sent_at);
        let body_hash = self.keys.body(&body);
        let event = NewEvent {
            source: self.place.source.clone(),
            tenant: self.place.tenant.clone(),
            order: identity.key.as_deref().map(|key| self.keys.order(source, tenant, key)),
            id_hash: identity.id.as_deref().map_or(body_hash, |id| self.keys.id(source, tenant, id)),
            body_hash,
            fingerprint: Fingerprint::of(&self.keys, (source, tenant), &identity.kind, version.as_ref(), origin),
            superseded: false,
            kind: identity.kind,
            key: identity.key,
            vendor_id: identity.id,
            origin,
            sent_at: identity.sent_at,
            received_at: Timestamp::now(),
            headers,
            body,
            payload: identity.payload,
        };
        Some(Found { event, at })
    }
}

fn laigu_api(api: &settings::Api, id: u64, options: Options) -> Result<laigu::api::Api, HttpError> {
    laigu::api::Api::new(api, id, options, Paging::default())
}

const fn trouble(action: Action) -> Trouble {
    match action {
        Action::RestartWindow | Action::HalveWindow | Action::ShrinkPage => Trouble::GoneBack,
        Action::Retry => Trouble::Passing,
        // A list that is not found, or a token that is refused anew, may be right again by itself.
        Action::RetryAFew | Action::AwaitThenMissing | Action::RenewToken => Trouble::Unknown,
        Action::SlowDown => Trouble::TooOften,
        Action::OpenCircuit => Trouble::Barred,
        Action::GiveUp | Action::LookFirst => Trouble::Final,
    }
}

fn laigu_failure(action: Action, error: &laigu::api::error::ApiError) -> Failure {
    let words = Chain(error).to_string();
    Failure { trouble: trouble(action), retry_after: error.retry_after(), errno: error.word(), words }
}

fn report_failure(error: &laigu::api::error::ApiError) -> Failure {
    laigu_failure(classify_report(error), error)
}

fn easemob_failure(action: Action, error: &easemob::api::error::ApiError) -> Failure {
    let words = Chain(error).to_string();
    Failure { trouble: trouble(action), retry_after: error.retry_after(), errno: error.word(), words }
}
