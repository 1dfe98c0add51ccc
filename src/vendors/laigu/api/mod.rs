//! A client for Laigu's API (and Meiqia's: the same code behind another name).
//!
//! Seven calls: a conversation by id; conversations by end (V1 with an offset, V2 with a page token); customers by
//! creation and by update (V2); two agents' reports. The lists are pulled page by page ([`Pull`]), sliced by time.
//! One call is one attempt: [`classify`](error::classify) says what a failure means, the caller decides and paces.
//!
//! Not here: a customer by id (the vendor has no such call), pacing ([`crate::core::rate`]), caches.

pub mod envelope;
pub mod error;
pub mod pull;
pub mod records;
pub mod walk;
pub mod window;

use crate::{
    config::settings::{self, Credentials},
    vendors::{
        http::{self, Answer, Call, Http},
        record::{Batch, FromFields, Record},
    },
};
use ::http::Method;
use error::{ApiError, Asked};
use pull::{Page, Pull};
use records::{AgentOnline, AgentService, Client, Conversation, Listed};
use std::{fmt, sync::Arc};
use window::{Paging, Window};

/// A paged list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listing {
    /// `GET /v1/conversations`: by offset. Shifts while conversations close; kept for tenants without V2.
    ConversationsV1,
    /// `GET /v2/conversations`: by the time they ended.
    Conversations,
    /// `GET /v2/clients`: by the time they were created.
    ClientsCreated,
    /// `GET /v2/clients/updated`: by the time they last changed.
    ClientsUpdated,
}

impl Listing {
    /// The path below the base URL.
    #[must_use]
    pub const fn path(self) -> &'static [&'static str] {
        match self {
            Self::ConversationsV1 => &["v1", "conversations"],
            Self::Conversations => &["v2", "conversations"],
            Self::ClientsCreated => &["v2", "clients"],
            Self::ClientsUpdated => &["v2", "clients", "updated"],
        }
    }
}

/// The path with slashes, such as `/v2/clients/updated`.
impl fmt::Display for Listing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().iter().try_for_each(|segment| write!(out, "/{segment}"))
    }
}

/// Where `app_id` and `sign` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Into the query.
    V1,
    /// Into headers.
    V2,
}

/// The client of one tenant; cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    enterprise_id: String,
    credentials: Credentials,
    paging: Paging,
}

impl Api {
    /// Makes the client of a tenant.
    ///
    /// # Errors
    /// [`http::Error`] when the base URL may not be called or the credentials are not Laigu's.
    pub fn new(
        api: &settings::Api,
        enterprise_id: u64,
        options: http::Options,
        paging: Paging,
    ) -> Result<Self, http::Error> {
        match &api.credentials {
            Credentials::Bearer(_) | Credentials::AppSign { .. } => {}
            Credentials::Client { .. } => {
                return Err(http::Error::Setup("Laigu's API takes `access_token`, or `app_id` and `sign`"));
            }
        }
        let http = Http::new(&api.base_url, options)?;
        let enterprise_id = enterprise_id.to_string();
        let inner = Inner { http, enterprise_id, credentials: api.credentials.clone(), paging: paging.clamped() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How this client reads lists.
    #[must_use]
    pub fn paging(&self) -> Paging {
        self.inner.paging
    }

    /// `GET /v1/conversations/{conv_id}`: one conversation, open or ended.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] right after it began may mean "not yet". For an id that cannot be in a path no call is
    /// made.
    pub async fn conversation(&self, conv_id: &str) -> Result<Record<Conversation>, ApiError> {
        let path = ["v1", "conversations", conv_id];
        // The id is wanted in the query again.
        let answer = self.get(Version::V1, &path, &[("conv_id", conv_id)]).await?;
        let raw = envelope::one(&answer, "conv_id", &self.secrets())?;
        self.record(raw)
    }

    /// Pulls ended conversations, oldest windows first.
    #[must_use]
    pub fn conversations(&self, range: Window) -> Pull<Conversation> {
        Pull::new(self.clone(), Listing::Conversations, range)
    }

    /// Pulls ended conversations by offset, for tenants without V2.
    #[must_use]
    pub fn conversations_v1(&self, range: Window) -> Pull<Conversation> {
        Pull::new(self.clone(), Listing::ConversationsV1, range)
    }

    /// Pulls customers by the time they were created.
    #[must_use]
    pub fn clients_created(&self, range: Window) -> Pull<Client> {
        Pull::new(self.clone(), Listing::ClientsCreated, range)
    }

    /// Pulls customers by the time they last changed.
    #[must_use]
    pub fn clients_updated(&self, range: Window) -> Pull<Client> {
        Pull::new(self.clone(), Listing::ClientsUpdated, range)
    }

    /// One page of a V2 list, of 1 to 20 records; `page_token` is empty for the first. [`Pull`] is the safer way.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn page<T: Listed>(
        &self,
        listing: Listing,
        window: Window,
        limit: u32,
        page_token: &str,
    ) -> Result<Page<T>, ApiError> {
        let (from, to) = self.inner.paging.bounds(window);
        let limit = limit.to_string();
        let query = [("limit", limit.as_str()), ("from_tm", &from), ("to_tm", &to), ("page_token", page_token)];
        let answer = self.get(Version::V2, listing.path(), &query).await?;
        let asked = if page_token.is_empty() { Asked::Window } else { Asked::WithToken };
        self.read_page(&answer, asked, window)
    }

    /// One page of `GET /v1/conversations`, of 1 to 20 records. [`Pull`] is the safer way.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn offset_page<T: Listed>(&self, window: Window, limit: u32, offset: u64) -> Result<Page<T>, ApiError> {
        let (from, to) = self.inner.paging.bounds(window);
        let (offset, limit) = (offset.to_string(), limit.to_string());
        let query =
            [("offset", offset.as_str()), ("limit", &limit), ("conv_start_from_tm", &from), ("conv_start_to_tm", &to)];
        let answer = self.get(Version::V1, Listing::ConversationsV1.path(), &query).await?;
        self.read_page(&answer, Asked::Window, window)
    }

    /// `agent_online_stats`: agents' hours in a window. Experimental: the vendor's page has neither host nor
    /// credentials for it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn agent_online_stats(&self, window: Window) -> Result<Batch<AgentOnline>, ApiError> {
        self.report("agent_online_stats", window).await
    }

    /// `agent_service`: agents' work in a window. Experimental, as [`Api::agent_online_stats`].
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn agent_service(&self, window: Window) -> Result<Batch<AgentService>, ApiError> {
        self.report("agent_service", window).await
    }

    async fn report<T: FromFields>(&self, name: &str, window: Window) -> Result<Batch<T>, ApiError> {
        let (from, to) = self.inner.paging.bounds(window);
        let path = ["unified-api", "datagateway", "v1", "reports", name];
        let answer = self.get(Version::V2, &path, &[("from_tm", &from), ("to_tm", &to)]).await?;
        let found = envelope::list(&answer, Asked::Once, &self.secrets())?;
        Ok(Batch::read(found.records, self.inner.paging.zone))
    }

    fn read_page<T: Listed>(&self, answer: &Answer, asked: Asked, window: Window) -> Result<Page<T>, ApiError> {
        let found = envelope::list(answer, asked, &self.secrets())?;
        let Batch { records, unreadable } = Batch::read(found.records, self.inner.paging.zone);
        Ok(Page { records, unreadable, next_page_token: found.next_page_token, window })
    }

    fn record<T: FromFields>(&self, raw: &str) -> Result<Record<T>, ApiError> {
        Record::parse(raw, self.inner.paging.zone).map_err(|_| ApiError::Shape("record that is an object"))
    }

    async fn get(&self, version: Version, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, ApiError> {
        let bearer;
        let mut parameters = vec![("enterprise_id", self.inner.enterprise_id.as_str())];
        let mut credentials = Vec::new();
        match (&self.inner.credentials, version) {
            (Credentials::Bearer(token), _) => {
                bearer = format!("Bearer {}", token.expose());
                credentials.push(("authorization", bearer.as_str()));
            }
            (Credentials::AppSign { app_id, sign }, Version::V2) => {
                credentials.extend([("x-app-id", app_id.expose()), ("x-sign", sign.expose())]);
            }
            (Credentials::AppSign { app_id, sign }, Version::V1) => {
                parameters.extend([("app_id", app_id.expose()), ("sign", sign.expose())]);
            }
            // `Api::new` takes no such credentials.
            (Credentials::Client { .. }, _) => {}
        }
        parameters.extend(query);
        let call = Call { method: &Method::GET, path, query: &parameters, credentials: &credentials, body: None };
        Ok(self.inner.http.send(call).await?)
    }

    /// What must be taken out of anything the vendor says before it is shown.
    fn secrets(&self) -> Vec<&str> {
        match &self.inner.credentials {
            Credentials::Bearer(token) => vec![token.expose()],
            Credentials::AppSign { app_id, sign } => vec![sign.expose(), app_id.expose()],
            Credentials::Client { .. } => Vec::new(),
        }
    }
}
