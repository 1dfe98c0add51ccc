//! The schedule of lookups: which records are fetched from one tenant's API, in which calls, and what each event gets.
//!
//! Actors: the *router* wants a record for an event, by a deadline; the *shell* makes the calls it is told to and brings
//! the answers; the *gate* ([`crate::core::gate`]) says when a call may be made.
//!
//! What holds between any two steps:
//! - Every want is answered exactly once, at its deadline at the latest, whatever the API does.
//! - Of one record at most one call is out. Wants gather first, so that a burst of events about one record costs one call,
//!   and one about many that only a list can answer one walk over it ([`lists`]).
//! - A record older than the event is not given out while the API answers. Of a client the event's own version says how old
//!   it may be. Of all others (but agents, who hardly change) nothing in the event says it: there a record serves those
//!   events that had been received when the call for it was made ([`cache`]). Who comes while a call is out waits for the
//!   next one. What is older than the version that the event shows is never given out.
//! - At most [`WAITING_MAX`] events of a tenant wait; more are told at once that the schedule is busy.
//! - What the vendor's limits or failures keep back is told by a word of a closed set ([`Reason`]).
//!
//! Nothing survives a crash: an event that is not decided asks again.

mod cache;
mod calls;
mod lists;
mod tenant;
#[cfg(test)]
mod tests;

pub use lists::{GATHER_MAX, QUIET};
pub use tenant::Tenant;

use crate::domain::{Record, Timestamp};
use std::{sync::Arc, time::Duration};

/// Events of one tenant that wait at most.
pub const WAITING_MAX: usize = 1_024;

/// Events of all tenants that wait at most: a quarter of the router's window stays free for those that need nothing.
pub const WAITING_ALL_MAX: usize = 3 * WAITING_MAX;

/// A record larger than this is not passed on: with its push it must fit what brokers take by default.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// How long one try for a required record takes at most, once the event's own budget is over.
pub const TRY_MAX: Duration = Duration::from_secs(15);

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Laigu's customer.
    Client,
    /// Laigu's conversation.
    Conversation,
    /// An agent.
    Agent,
    /// Easemob's session.
    Session,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Client, Self::Conversation, Self::Agent, Self::Session];

    /// The word in `routes.yaml`, and for consumers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Conversation => "conversation",
            Self::Agent => "agent",
            Self::Session => "session",
        }
    }

    /// Reads what [`What::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.as_str() == text)
    }
}

/// A record that an event waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Names it; never used twice.
    pub ticket: u64,
    /// What.
    pub what: What,
    /// Whose.
    pub id: Box<str>,
    /// When the record is thought to have changed last: where a list is searched for it.
    pub at: Timestamp,
    /// The version that the event itself shows: an older record is not good.
    pub version: Option<Timestamp>,
    /// When the event was received.
    pub received_at: Timestamp,
    /// When it must be answered.
    pub deadline: Timestamp,
}

/// Until when an event waits for a record: its budget from acceptance on, and for a required one a try of its own.
#[must_use]
pub fn deadline(received_at: Timestamp, within: Duration, required: bool, now: Timestamp) -> Timestamp {
    let budget = received_at.plus(within);
    if required { budget.max(now.plus(within.min(TRY_MAX))) } else { budget }
}

/// A record that an answer held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub id: Box<str>,
    /// Its version.
    pub version: Option<Timestamp>,
    /// It; `None` when it is larger than [`RECORD_BYTES_MAX`].
    pub record: Option<Arc<Record>>,
}

/// How a want ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the record, and when it was asked for.
    Ok(Arc<Record>, Timestamp),
    /// The vendor said until the end that there is none.
    Missing,
    /// Without it.
    Failed(Reason),
}

/// Why there is no record: a closed set of words for consumers and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The tenant has no `api` in `routes.yaml`.
    NoApi,
    /// Too many events of the tenant wait already.
    Busy,
    /// The tenant's rate, or the vendor's limit, did not allow the call in time.
    RateLimited,
    /// No answer by the end of the budget.
    Timeout,
    /// The budget was over before the event was looked at: there was a backlog.
    TooLate,
    /// The API cannot be reached, or its connection broke.
    Unreachable,
    /// The vendor refuses the credentials.
    Credentials,
    /// The vendor says that it failed.
    VendorError,
    /// The vendor refuses the request.
    Refused,
    /// The answer cannot be read.
    BadAnswer,
    /// The record is larger than may be passed on.
    TooLarge,
    /// The API went on showing a record older than the event.
    Stale,
    /// The event's id is none that may be asked for.
    BadId,
    /// Customers are listed by when they changed, and this one did not change around the event.
    NotListed,
}

impl Reason {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoApi => "no_api",
            Self::Busy => "busy",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::TooLate => "too_late",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::VendorError => "vendor_error",
            Self::Refused => "refused",
            Self::BadAnswer => "bad_answer",
            Self::TooLarge => "too_large",
            Self::Stale => "stale",
            Self::BadId => "bad_id",
            Self::NotListed => "not_listed",
        }
    }

    /// Whether a word is one of those after which no later try brings the record.
    #[must_use]
    pub fn is_final(word: &str) -> bool {
        [Self::BadId, Self::NotListed].iter().any(|reason| reason.as_str() == word)
    }
}

/// What follows from a call that brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Ask again, with growing pauses.
    Again,
    /// Ask again twice, then it is final.
    Few,
    /// Ask slower; the vendor may say from when on.
    Slow(Option<Duration>),
    /// There is no such record, or not yet.
    NotFound,
    /// The list has gone back, or cut its window: go on at once.
    Anew,
    /// The credentials are refused.
    Closed,
    /// Never ask this again.
    Never,
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One record by its id.
    One(What, Box<str>),
    /// The list of those that changed in a time; of agents, all.
    List(What, Timestamp, Timestamp),
}

/// What the schedule is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An event wants a record; and how many events of other tenants wait.
    Want(Want, usize),
    /// Another event about this record has come, and will want it when the one before it has gone on.
    Coming(What, Box<str>),
    /// The call of a lookup was answered; whether its list has more pages.
    Answered {
        /// The lookup.
        lookup: u64,
        /// What the answer held.
        found: Vec<Found>,
        /// Whether there are more pages.
        more: bool,
    },
    /// It brought nothing.
    Failed(u64, Trouble, Reason),
    /// The tenant's settings changed: what was refused may be good now. With `true` the API is another one, and what is
    /// known is forgotten.
    Configured(bool),
    /// The tenant has no API any more: what is known is forgotten, and whoever waits is told.
    Removed,
    /// Time has come: see [`Tenant::wake_at`].
    Tick,
}

/// What the schedule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make one call for a lookup: of a list, the next page. One [`Input::Answered`] or [`Input::Failed`] comes back.
    Call(u64, Target),
    /// A lookup is over: forget its list.
    Close(u64),
    /// A want ended; whether without any call of its own.
    Done(u64, End, Source),
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It was known.
    Cache,
    /// It was asked for, or could not be.
    Asked,
}
