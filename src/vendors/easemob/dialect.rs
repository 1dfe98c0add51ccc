//! What Easemob KeFu calls the members of its webhook; polled sessions are put into the same envelope.
//!
//! Source: <http://docs.easemob.com/cs/400systemintegration/20webhook>.

use crate::vendors::envelope::{Dialect, KeyRule, TimeUnit};

/// The webhook of KeFu.
pub const WEBHOOK: Dialect = Dialect {
    id: "eventId",
    event: "event",
    time: "timestamp",
    unit: TimeUnit::Milliseconds,
    token: "",
    payloads: &["payload"],
    // A polled record is the session itself.
    key: KeyRule::Within { object: "serviceSession", member: "id", otherwise: "serviceSessionId" },
    versions: None,
};
