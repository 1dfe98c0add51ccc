//! Reads the vendors' lists for what no push has brought, and puts it into EVENTS like a push.
//!
//! Who does what:
//! - [`lists`] asks the API for a page and makes an event of each record, in the shape of a push.
//! - [`feed`] carries out what the schedule of one list asks for ([`crate::core::reconcile`]): pages, appends, watermarks.
//! - [`schedule`] keeps one feed running for each list that `routes.yaml` asks for, through reloads.
//! - [`jobs`] read a stretch of history on request, once, by feeds of their own.
//! - [`pace`] takes turns at the tenant's gate, which lookups for events go through, too: reading has half of its rate.
//!
//! What is lost at which crash: nothing. Records are appended first, through the writer that also takes pushes; when they
//! are durable, the watermark is moved; when that is durable, the next page is asked for. A crash anywhere reads a stretch
//! again, and the intake knows what it has: by the fingerprint of a record's version, or by the event's id and body.
//!
//! Back-pressure: a feed has one page in hand at a time, and asks for no other before the log has that one.
//!
//! What no feed can see is in [`Class::unseen`]: the vendors' lists do not hold it.

pub mod feed;
pub mod jobs;
pub mod lists;
pub mod pace;
pub mod schedule;

use crate::{
    config::settings::SourceKind,
    domain::{SourceName, TenantName},
};
use std::fmt;

/// Whose records they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The source.
    pub source: SourceName,
    /// Its tenant.
    pub tenant: TenantName,
}

/// `source/tenant`
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.source, self.tenant)
    }
}

/// One list that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Laigu's customers, by the time they last changed.
    Clients,
    /// Laigu's conversations, by the time they ended.
    Conversations,
    /// Easemob's sessions, by the time they ended.
    Sessions,
    /// The report about agents' hours.
    AgentOnline,
    /// The report about agents' work.
    AgentService,
}

impl Class {
    /// The word for it, in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Conversations => "conversations",
            Self::Sessions => "sessions",
            Self::AgentOnline => "agent_online",
            Self::AgentService => "agent_service",
        }
    }

    /// The lists of a source's type that hold history.
    #[must_use]
    pub const fn of_history(kind: SourceKind) -> &'static [Self] {
        match kind {
            SourceKind::Laigu | SourceKind::Meiqia => &[Self::Clients, Self::Conversations],
            SourceKind::EasemobKefu => &[Self::Sessions],
            SourceKind::LaiguAutomation | SourceKind::Webhook => &[],
        }
    }

    /// What of a source's type no list shows: a push of it that is lost is lost.
    #[must_use]
    pub const fn unseen(kind: SourceKind) -> &'static [&'static str] {
        match kind {
            SourceKind::Laigu | SourceKind::Meiqia => &[
                "visitors who left neither phone number, WeChat id nor QQ number",
                "conversations that are still open (conversation.created, conversation.scheduled)",
                "changes after a conversation's end (conversation.updated)",
                "states of a client between two of its changes: only the last one is shown",
                "client.created, client.updated, client.deleted: their changes come as cus.upsert",
                "calls and tickets",
            ],
            SourceKind::EasemobKefu => &[
                "sessions that are still open",
                "messages and marks within a session (ServiceSessionMessageEvent, ServiceSessionEnquiryEvent)",
                "sessions that changed long after their end",
            ],
            SourceKind::LaiguAutomation | SourceKind::Webhook => &["anything: there is no API to ask"],
        }
    }
}
