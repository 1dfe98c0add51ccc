//! What goes wrong on purpose, call by call, and how often each endpoint was called.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Every call of both vendors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `GET /v1/conversations/{conv_id}`
    Conversation,
    /// `GET /v1/conversations`
    ConversationsV1,
    /// `GET /v2/conversations`
    Conversations,
    /// `GET /v2/clients`
    ClientsCreated,
    /// `GET /v2/clients/updated`
    ClientsUpdated,
    /// `GET /unified-api/datagateway/v1/reports/agent_online_stats`
    AgentOnlineStats,
    /// `GET /unified-api/datagateway/v1/reports/agent_service`
    AgentService,
    /// `POST …/accessToken`
    AccessToken,
    /// `GET …/agents`
    Agents,
    /// `POST …/agent`
    CreateAgent,
    /// `PUT …/agent`
    UpdateAgent,
    /// `DELETE …/agent`
    DeleteAgent,
    /// `PUT …/agent/disable`
    DisableAgent,
    /// `PUT …/agent/enable`
    EnableAgent,
    /// `PUT …/agent/password`
    Password,
    /// `GET …/roles`
    Roles,
    /// `GET …/serviceSessionHistorys`
    Sessions,
    /// Anything else.
    Unknown,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Conversation,
        Self::ConversationsV1,
        Self::Conversations,
        Self::ClientsCreated,
        Self::ClientsUpdated,
        Self::AgentOnlineStats,
        Self::AgentService,
        Self::AccessToken,
        Self::Agents,
        Self::CreateAgent,
        Self::UpdateAgent,
        Self::DeleteAgent,
        Self::DisableAgent,
        Self::EnableAgent,
        Self::Password,
        Self::Roles,
        Self::Sessions,
        Self::Unknown,
    ];

    /// The word for it in `/_sandbox/…`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::ConversationsV1 => "conversations-v1",
            Self::Conversations => "conversations",
            Self::ClientsCreated => "clients",
            Self::ClientsUpdated => "clients-updated",
            Self::AgentOnlineStats => "agent-online",
            Self::AgentService => "agent-service",
            Self::AccessToken => "token",
            Self::Agents => "agents",
            Self::CreateAgent => "agent-create",
            Self::UpdateAgent => "agent-update",
            Self::DeleteAgent => "agent-delete",
            Self::DisableAgent => "agent-disable",
            Self::EnableAgent => "agent-enable",
            Self::Password => "agent-password",
            Self::Roles => "roles",
            Self::Sessions => "sessions",
            Self::Unknown => "unknown",
        }
    }

    /// Reads what [`Endpoint::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.as_str() == text)
    }

    /// Whether it is Laigu's.
    #[must_use]
    pub const fn is_laigu(self) -> bool {
        matches!(
            self,
            Self::Conversation
                | Self::ConversationsV1
                | Self::Conversations
                | Self::ClientsCreated
                | Self::ClientsUpdated
                | Self::AgentOnlineStats
                | Self::AgentService
        )
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A Laigu errno, with HTTP 200.
    Errno(i64),
    /// An Easemob code such as `API_400`.
    Code(&'static str),
    /// An HTTP status with a body that says nothing.
    Status(u16),
    /// A status, a content type and a body as given.
    Raw(u16, &'static str, String),
    /// No answer, ever.
    Hang,
    /// The right answer, this much later.
    Late(Duration),
    /// A proxy's page, with HTTP 200.
    Html,
    /// Half an answer, then the connection ends.
    Truncated,
    /// A byte a second.
    Drip,
    /// A gigabyte.
    Huge,
    /// `Content-Encoding: gzip` over something that is not.
    Garbled,
    /// The right answer, in gzip.
    Gzip,
    /// Gzip of 400 KiB that becomes 64 MiB.
    Bomb,
    /// JSON that nests too deep.
    Deep,
    /// A redirect to this URL.
    Redirect(String),
    /// `result: null`, as Laigu answers now and then.
    NullResult,
}

/// When the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strikes {
    /// Before anything is done.
    Instead,
    /// After the call was carried out: what changes something has changed it.
    AfterDoing,
}

#[derive(Debug)]
struct Planned {
    endpoint: Option<Endpoint>,
    times: u32,
    strikes: Strikes,
    fault: Fault,
}

/// The plan of what goes wrong, and the counters. Shared by the server and whoever tests against it.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<VecDeque<Planned>>,
    calls: Mutex<BTreeMap<Endpoint, u64>>,
}

impl Faults {
    /// The next `times` calls of `endpoint` (or of any) end in `fault`. Plans queue up; the first that fits is taken.
    pub fn plan(&self, endpoint: impl Into<Option<Endpoint>>, times: u32, fault: Fault) {
        let endpoint = endpoint.into();
        lock(&self.plan).push_back(Planned { endpoint, times, strikes: Strikes::Instead, fault });
    }

    /// The same, but the calls are carried out first.
    pub fn plan_after_doing(&self, endpoint: impl Into<Option<Endpoint>>, times: u32, fault: Fault) {
        let endpoint = endpoint.into();
        lock(&self.plan).push_back(Planned { endpoint, times, strikes: Strikes::AfterDoing, fault });
    }

    /// Forgets what was planned.
    pub fn clear(&self) {
        lock(&self.plan).clear();
    }

    /// How often an endpoint was called, failed calls included.
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        lock(&self.calls).get(&endpoint).copied().unwrap_or(0)
    }

    /// All endpoints that were called, with how often.
    #[must_use]
    pub fn all_calls(&self) -> BTreeMap<Endpoint, u64> {
        lock(&self.calls).clone()
    }

    /// Counts a call, and hands out what goes wrong with it.
    pub(super) fn next(&self, endpoint: Endpoint) -> Option<(Strikes, Fault)> {
        *lock(&self.calls).entry(endpoint).or_default() += 1;
        let mut plan = lock(&self.plan);
        let fits = |planned: &Planned| planned.endpoint.is_none_or(|wanted| wanted == endpoint);
        let index = plan.iter().position(fits)?;
        let planned = plan.get_mut(index)?;
        let struck = (planned.strikes, planned.fault.clone());
        planned.times = planned.times.saturating_sub(1);
        if planned.times == 0 {
            plan.remove(index);
        }
        Some(struck)
    }
}

/// A panic of another thread leaves plain data as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Fault, Faults, Strikes};

    #[test]
    fn plans_are_taken_in_order_by_the_calls_they_fit() {
        let faults = Faults::default();
        faults.plan(Endpoint::Agents, 2, Fault::Html);
        faults.plan_after_doing(None, 1, Fault::Hang);
        assert_eq!(faults.next(Endpoint::Roles), Some((Strikes::AfterDoing, Fault::Hang)));
        assert_eq!(faults.next(Endpoint::Roles), None);
        assert_eq!(faults.next(Endpoint::Agents), Some((Strikes::Instead, Fault::Html)));
        assert_eq!(faults.next(Endpoint::Agents), Some((Strikes::Instead, Fault::Html)));
        assert_eq!(faults.next(Endpoint::Agents), None);
        assert_eq!((faults.calls(Endpoint::Agents), faults.calls(Endpoint::Roles)), (3, 2));
        assert_eq!(faults.all_calls().len(), 2);
    }

    #[test]
    fn every_endpoint_has_a_word_of_its_own() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::parse(endpoint.as_str()), Some(endpoint));
        }
    }
}
