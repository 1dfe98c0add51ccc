//! What Laigu and Meiqia call the members of their pushes.
//!
//! The payload's own name changes with the topic: `body` in the sample of `cus.upsert`, `conversation` in that of
//! `conversation.updated`, unseen for most others. Source: <https://laigu.com/docs/webhooks/> and
//! <https://docs.laigu.com/guide/automation/webhook>.

use crate::vendors::envelope::{Dialect, KeyRule, TimeUnit, VersionRule};

/// The webhooks of Laigu and Meiqia.
pub const WEBHOOK: Dialect = Dialect {
    id: "id",
    event: "event",
    time: "created_at",
    unit: TimeUnit::Seconds,
    token: "enterprise_token",
    payloads: &["body", "conversation", "client", "ticket", "new_ticket", "cdr", "data"],
    key: KeyRule::Either("track_id", "conv_id"),
    // A closed conversation may come without its end; a client without `updated_on` is of no version.
    versions: Some([
        VersionRule { event: "cus.upsert", key: "track_id", time: "updated_on", stands_for_all: false },
        VersionRule { event: "conversation.closed", key: "conv_id", time: "conv_end_tm", stands_for_all: true },
    ]),
};

/// Laigu's automation node: every name differs, and the time is in milliseconds.
pub const AUTOMATION: Dialect = Dialect {
    id: "id",
    event: "eventType",
    time: "createdAt",
    unit: TimeUnit::Milliseconds,
    token: "",
    payloads: &["body"],
    key: KeyRule::Either("customerId", "customer_id"),
    versions: None,
};
