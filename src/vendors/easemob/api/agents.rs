//! Agents and roles: listing them, and changing them. Changes are for the command line alone, never for a route.

use super::{
    Api,
    error::{ApiError, Intent, Stopped, Trap, classify},
    records::{Agent, Role},
};
use crate::{
    domain::Secret,
    vendors::record::{Batch, Record},
};
use ::http::Method;
use serde_json::{Map, Value, json};

/// Agents a page; the vendor names no bound.
pub const SIZE_DEFAULT: u32 = 40;

/// The most pages of one pull.
const PAGES_MAX: u32 = 10_000;

/// A new agent; the vendor wants every field, though some may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAgent {
    /// Nickname; not empty.
    pub nicename: String,
    /// Mail address: what calls name the agent by.
    pub username: String,
    /// More than 7 characters.
    pub password: Secret,
    /// Real name.
    pub true_name: String,
    /// Phone; may be empty.
    pub mobile_phone: String,
    /// Staff number; may be empty.
    pub agent_number: String,
    /// One of [`Api::roles`].
    pub role_id: u64,
    /// Conversations at a time.
    pub max_service_session_count: u32,
}

/// What changes of an agent; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentChange {
    /// Nickname.
    pub nicename: Option<String>,
    /// Real name.
    pub true_name: Option<String>,
    /// Phone.
    pub mobile_phone: Option<String>,
    /// Staff number.
    pub agent_number: Option<String>,
    /// Role.
    pub role_id: Option<u64>,
    /// Conversations at a time.
    pub max_service_session_count: Option<u32>,
}

/// One page of agents.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentPage {
    /// Its records.
    pub records: Vec<Record<Agent>>,
    /// How many more it has that are no JSON objects.
    pub unreadable: usize,
    /// The size the vendor says it used.
    pub size: Option<u64>,
}

impl AgentPage {
    /// What it has, read and unreadable.
    #[must_use]
    pub fn into_batch(self) -> Batch<Agent> {
        Batch { records: self.records, unreadable: self.unreadable }
    }
}

/// A pull over agents; its pages begin at 0.
#[derive(Debug)]
pub struct AgentPull {
    api: Api,
    key_value: String,
    page: u32,
    size: u32,
    last_first: Option<String>,
    done: bool,
}

impl AgentPull {
    /// Whether every page was read.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.done
    }

    /// Makes one call for the next page; nothing when there are no more.
    ///
    /// # Errors
    /// [`Stopped`]; the same page is asked for by the next call.
    ///
    /// # Cancel safety
    /// A dropped call leaves the pull where it was.
    pub async fn next_page(&mut self) -> Result<Option<AgentPage>, Stopped> {
        if self.done {
            return Ok(None);
        }
        let outcome = self.api.agents_page(&self.key_value, self.page, self.size).await;
        let outcome = outcome.and_then(|page| {
            self.took(&page).map_err(ApiError::Paging)?;
            Ok(page)
        });
        match outcome {
            Ok(page) => Ok(Some(page)),
            Err(source) => Err(Stopped { list: "agents", action: classify(&source, Intent::Read), source }),
        }
    }

    /// The vendor's totals contradict each other, so only a short page is the end.
    fn took(&mut self, page: &AgentPage) -> Result<(), Trap> {
        let first = page.records.first().and_then(|record| record.typed.user_id.clone());
        if first.is_some() && first == self.last_first {
            return Err(Trap::PageRepeated);
        }
        let used = page.size.and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0);
        let size = used.map_or(self.size, |used| used.min(self.size));
        if page.records.len() + page.unreadable < size as usize {
            self.done = true;
            return Ok(());
        }
        if self.page >= PAGES_MAX {
            return Err(Trap::TooManyPages);
        }
        (self.size, self.last_first) = (size, first);
        self.page += 1;
        Ok(())
    }
}

impl Api {
    /// Pulls the agents whose mail address, real name, phone or staff number holds `key_value`; empty: all.
    #[must_use]
    pub fn agents(&self, key_value: &str, size: u32) -> AgentPull {
        let (api, key_value) = (self.clone(), key_value.to_owned());
        AgentPull { api, key_value, page: 0, size: size.max(1), last_first: None, done: false }
    }

    /// One page of agents; pages begin at 0. [`AgentPull`] is the safer way.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn agents_page(&self, key_value: &str, page: u32, size: u32) -> Result<AgentPage, ApiError> {
        let (page, size) = (page.to_string(), size.to_string());
        let query = [("page", page.as_str()), ("size", &size), ("keyValue", key_value)];
        let answer = self.read(&["agents"], &query).await?;
        let envelope = self.open(&answer)?;
        let Batch { records, unreadable } = self.batch(envelope.entities()?);
        Ok(AgentPage { records, unreadable, size: envelope.number("size") })
    }

    /// All roles of the tenant.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn roles(&self) -> Result<Vec<Record<Role>>, ApiError> {
        let answer = self.read(&["roles"], &[]).await?;
        self.open(&answer)?.entities()?.into_iter().map(|raw| self.record(raw)).collect()
    }

    /// Makes an agent.
    ///
    /// # Errors
    /// [`ApiError`]; by [`classify`] with [`Intent::Change`], one that says
    /// [`LookFirst`](crate::vendors::action::Action::LookFirst) may have made it.
    pub async fn create_agent(&self, agent: &NewAgent) -> Result<Record<Agent>, ApiError> {
        let body = json!({
            "nicename": agent.nicename,
            "username": agent.username,
            "password": agent.password.expose(),
            "trueName": agent.true_name,
            "mobilePhone": agent.mobile_phone,
            "agentNumber": agent.agent_number,
            "roleId": agent.role_id,
            // A text, as in the vendor's sample; its table says int.
            "maxServiceSessionCount": agent.max_service_session_count.to_string(),
        });
        let answer = self.change(&Method::POST, &["agent"], &body).await?;
        self.record(self.open_with(&answer, Some(&agent.password))?.entity()?)
    }

    /// Changes an agent's details.
    ///
    /// # Errors
    /// As [`Api::create_agent`].
    pub async fn update_agent(&self, username: &str, change: &AgentChange) -> Result<(), ApiError> {
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let given = [
            ("nicename", text(&change.nicename)),
            ("trueName", text(&change.true_name)),
            ("mobilePhone", text(&change.mobile_phone)),
            ("agentNumber", text(&change.agent_number)),
            ("roleId", change.role_id.map(|id| json!(id))),
            ("maxServiceSessionCount", change.max_service_session_count.map(|count| json!(count.to_string()))),
        ];
        let mut body: Map<String, Value> =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        body.insert("username".into(), json!(username));
        self.change_without_result(&Method::PUT, &["agent"], &Value::Object(body), None).await
    }

    /// Deletes an agent. The call is a `DELETE` with a body, which some proxies drop.
    ///
    /// # Errors
    /// As [`Api::create_agent`].
    pub async fn delete_agent(&self, username: &str) -> Result<(), ApiError> {
        self.change_without_result(&Method::DELETE, &["agent"], &json!({"username": username}), None).await
    }

    /// Takes away an agent's right to sign in.
    ///
    /// # Errors
    /// As [`Api::create_agent`].
    pub async fn disable_agent(&self, username: &str) -> Result<(), ApiError> {
        let body = json!({"username": username});
        self.change_without_result(&Method::PUT, &["agent", "disable"], &body, None).await
    }

    /// Gives it back.
    ///
    /// # Errors
    /// As [`Api::create_agent`].
    pub async fn enable_agent(&self, username: &str) -> Result<(), ApiError> {
        let body = json!({"username": username});
        self.change_without_result(&Method::PUT, &["agent", "enable"], &body, None).await
    }

    /// Sets an agent's password.
    ///
    /// # Errors
    /// As [`Api::create_agent`].
    pub async fn set_password(&self, username: &str, password: &Secret) -> Result<(), ApiError> {
        let body = json!({"username": username, "password": password.expose()});
        self.change_without_result(&Method::PUT, &["agent", "password"], &body, Some(password)).await
    }

    async fn change_without_result(
        &self,
        method: &Method,
        path: &[&str],
        body: &Value,
        password: Option<&Secret>,
    ) -> Result<(), ApiError> {
        let answer = self.change(method, path, body).await?;
        self.open_with(&answer, password).map(drop)
    }
}
