//! The vendors' APIs as the schedule asks them: one call at a time, by record or by list.

use crate::{
    config::settings::{self, SourceKind},
    core::enrich::{Found, RECORD_BYTES_MAX, Reason, Target, Trouble, What},
    domain::{HashKeys, Record, Timestamp},
    vendors::{
        action::Action,
        easemob::{
            self,
            api::{
                agents::{AgentPull, SIZE_DEFAULT},
                error::Intent,
                sessions::{PER_PAGE_DEFAULT, SessionFilter, SessionPull, SortField, Span},
            },
        },
        http,
        laigu::{
            self,
            api::{
                pull::Pull,
                records::{Client, Listed},
                window::{Paging, Window},
            },
        },
        record,
    },
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// Laigu shows its agents only in a report over a time: over this one, up to now.
const AGENTS_SEEN_WITHIN: Duration = Duration::from_secs(86_400);

/// One tenant's API; cheap to clone.
#[derive(Debug, Clone)]
pub enum Vendor {
    /// Laigu's, and Meiqia's.
    Laigu(laigu::api::Api),
    /// Easemob KeFu's.
    Easemob(easemob::api::Api),
}

/// A list that is read page by page.
#[derive(Debug)]
pub enum List {
    /// Laigu's customers.
    Clients(Pull<Client>),
    /// Easemob's sessions.
    Sessions(Box<SessionPull>),
    /// Easemob's agents.
    Agents(AgentPull),
}

/// How one call ended.
#[derive(Debug)]
pub enum Ended {
    /// With records; whether there are more pages.
    Answered(Vec<Found>, bool),
    /// Without.
    Failed(Trouble, Reason),
}

impl Vendor {
    /// The client of a tenant.
    ///
    /// # Errors
    /// [`http::Error`] when it cannot be made.
    pub fn new(
        kind: SourceKind,
        api: &settings::Api,
        enterprise_id: Option<u64>,
        tenant_id: Option<&str>,
    ) -> Result<Self, http::Error> {
        let options = http::Options::configured();
        match kind {
            SourceKind::EasemobKefu => {
                easemob::api::Api::new(api, tenant_id.unwrap_or_default(), options).map(Self::Easemob)
            }
            _ => laigu::api::Api::new(api, enterprise_id.unwrap_or_default(), options, Paging::default())
                .map(Self::Laigu),
        }
    }

    /// Makes one call; a list that was begun before is gone on with, and given back.
    pub async fn call(
        &self,
        target: &Target,
        list: Option<List>,
        keys: &HashKeys,
        now: Timestamp,
    ) -> (Ended, Option<List>) {
        match (self, target) {
            (Self::Laigu(api), Target::One(_, id)) => (one(api, id, keys).await, None),
            (Self::Laigu(api), Target::List(What::Agent, ..)) => (agents_of_laigu(api, keys, now).await, None),
            (Self::Laigu(api), Target::List(_, from, to)) => {
                let fresh = || List::Clients(api.clients_updated(Window { from: *from, to: *to }));
                page(list.unwrap_or_else(fresh), keys).await
            }
            (Self::Easemob(api), Target::List(What::Agent, ..)) => {
                page(list.unwrap_or_else(|| List::Agents(api.agents("", SIZE_DEFAULT))), keys).await
            }
            (Self::Easemob(api), Target::List(_, from, to)) => {
                let fresh = || {
                    let created = Span { from: Some(*from), to: Some(*to) };
                    let filter = SessionFilter { created, sort_field: SortField::Created, ..SessionFilter::default() };
                    List::Sessions(Box::new(api.sessions(filter, PER_PAGE_DEFAULT)))
                };
                page(list.unwrap_or_else(fresh), keys).await
            }
            // Easemob has no call for one record.
            (Self::Easemob(_), Target::One(..)) => (Ended::Failed(Trouble::Never, Reason::Refused), None),
        }
    }
}

async fn one(api: &laigu::api::Api, id: &str, keys: &HashKeys) -> Ended {
    match api.conversation(id).await {
        Ok(record) => Ended::Answered(vec![found(id, record.typed.version(), record.raw, keys)], false),
        Err(error) => of_laigu(laigu::api::error::classify(&error), &error),
    }
}

async fn agents_of_laigu(api: &laigu::api::Api, keys: &HashKeys, now: Timestamp) -> Ended {
    let day = i64::try_from(AGENTS_SEEN_WITHIN.as_millis()).unwrap_or(0);
    let window = Window { from: Timestamp::from_millis(now.as_millis() - day), to: now };
    match api.agent_online_stats(window).await {
        Ok(agents) => Ended::Answered(all(agents.records, keys, |agent| (agent.agent_id.clone(), None)), false),
        Err(error) => of_laigu(laigu::api::error::classify_report(&error), &error),
    }
}

async fn page(mut list: List, keys: &HashKeys) -> (Ended, Option<List>) {
    let ended = match &mut list {
        List::Clients(pull) => match pull.next_page().await {
            Ok(page) => {
                let records = page.map(|page| page.records).unwrap_or_default();
                let found = all(records, keys, |client| (client.track_id.clone(), client.version()));
                Ended::Answered(found, !pull.is_drained())
            }
            Err(stopped) => of_laigu(stopped.action, &stopped.source),
        },
        List::Sessions(pull) => match pull.next_page().await {
            Ok(page) => {
                let records = page.map(|page| page.records).unwrap_or_default();
                let found = all(records, keys, |session| {
                    (session.service_session_id.clone(), session.stopped.as_ref().map(|moment| moment.instant))
                });
                Ended::Answered(found, !pull.is_drained())
            }
            Err(stopped) => of_easemob(stopped.action, &stopped.source),
        },
        List::Agents(pull) => match pull.next_page().await {
            Ok(page) => {
                let records = page.map(|page| page.records).unwrap_or_default();
                let found = all(records, keys, |agent| (agent.user_id.clone(), None));
                Ended::Answered(found, !pull.is_drained())
            }
            Err(stopped) => of_easemob(stopped.action, &stopped.source),
        },
    };
    (ended, Some(list))
}

fn all<T>(
    records: Vec<record::Record<T>>,
    keys: &HashKeys,
    of: impl Fn(&T) -> (Option<String>, Option<Timestamp>),
) -> Vec<Found> {
    let found_in = |record: record::Record<T>| {
        let (id, version) = of(&record.typed);
        Some(found(&id?, version, record.raw, keys))
    };
    records.into_iter().filter_map(found_in).collect()
}

fn found(id: &str, version: Option<Timestamp>, raw: Bytes, keys: &HashKeys) -> Found {
    let fits = raw.len() <= RECORD_BYTES_MAX;
    let record = fits.then(|| Arc::new(Record { hash: keys.body(&raw), bytes: raw }));
    Found { id: id.into(), version, record }
}

fn of_laigu(action: Action, error: &laigu::api::error::ApiError) -> Ended {
    use laigu::api::error::{ApiError, Errno};
    let (reason, retry_after) = match error {
        ApiError::Refused { errno, .. } => match errno {
            Errno::AuthenticationFailed => (Reason::Credentials, None),
            Errno::UrlWrong | Errno::LimitTooLarge | Errno::ParameterInvalid => (Reason::Refused, None),
            Errno::TooManyCalls => (Reason::RateLimited, None),
            Errno::Internal | Errno::Other(_) => (Reason::VendorError, None),
        },
        ApiError::Status { status, retry_after } => (of_status(*status), *retry_after),
        ApiError::NoResult => (Reason::VendorError, None),
        ApiError::NotFound => (Reason::Refused, None),
        ApiError::Shape(_) | ApiError::Paging(_) => (Reason::BadAnswer, None),
        ApiError::Http(error) => (of_http(error), None),
    };
    Ended::Failed(trouble(action, retry_after), reason)
}

fn of_easemob(action: Action, error: &easemob::api::error::ApiError) -> Ended {
    let (reason, retry_after) = easemob_reason(error);
    Ended::Failed(trouble(action, retry_after), reason)
}

fn easemob_reason(error: &easemob::api::error::ApiError) -> (Reason, Option<Duration>) {
    use easemob::api::error::{ApiError, classify};
    match error {
        ApiError::Refused { .. } => match classify(error, Intent::Read) {
            Action::RenewToken | Action::OpenCircuit => (Reason::Credentials, None),
            Action::Retry | Action::RetryAFew => (Reason::VendorError, None),
            _ => (Reason::Refused, None),
        },
        ApiError::Status { status, retry_after } => (of_status(*status), *retry_after),
        ApiError::Shape(_) | ApiError::Paging(_) => (Reason::BadAnswer, None),
        ApiError::Token(error) => easemob_reason(error),
        ApiError::Http(error) => (of_http(error), None),
    }
}

const fn of_status(status: u16) -> Reason {
    match status {
        401 | 403 => Reason::Credentials,
        429 => Reason::RateLimited,
        500..=599 => Reason::VendorError,
        _ => Reason::Refused,
    }
}

const fn of_http(error: &http::Error) -> Reason {
    match error {
        http::Error::NotSent(_) | http::Error::Broken(_) => Reason::Unreachable,
        http::Error::Deadline(_) => Reason::Timeout,
        http::Error::NotJson(_) | http::Error::Garbled(_) | http::Error::TooDeep => Reason::BadAnswer,
        http::Error::TooLarge => Reason::TooLarge,
        http::Error::Refused(_) | http::Error::Setup(_) | http::Error::Redirect(_) => Reason::Refused,
    }
}

const fn trouble(action: Action, retry_after: Option<Duration>) -> Trouble {
    match action {
        Action::Retry => Trouble::Again,
        Action::RetryAFew => Trouble::Few,
        Action::SlowDown => Trouble::Slow(retry_after),
        Action::AwaitThenMissing => Trouble::NotFound,
        Action::RestartWindow | Action::HalveWindow | Action::ShrinkPage => Trouble::Anew,
        // The client has bought a new token before it says so.
        Action::RenewToken | Action::OpenCircuit => Trouble::Closed,
        Action::GiveUp | Action::LookFirst => Trouble::Never,
    }
}
