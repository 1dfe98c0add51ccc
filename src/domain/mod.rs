//! Plain values that every other module speaks: events, positions, decisions, deliveries, failures.
//!
//! Nothing here knows tokio, SQL, HTTP or a broker. A value is right because it exists: names are parsed
//! once at the border, positions and ids render and parse both ways.

mod delivery;
mod event;
mod failure;
mod hashing;
mod name;
mod position;
mod routed;
mod secret;
mod time;

pub use delivery::{Attempt, Delivery, DeliveryId, ReplayJob};
pub use event::{Defect, Event, Fingerprint, Headers, NewEvent, OrderKey, Origin, Version};
pub use failure::{Chain, DeadCause, Failure, FailureKind, StopReason};
pub use hashing::HashKeys;
pub use name::{DestinationName, NameError, RouteName, SourceName, TenantName};
pub use position::{EventId, EventIdError, Incarnation, Offset, Partition, Position};
pub use routed::{
    DeadRoute, Decision, EnrichmentPart, EnrichmentStatus, Parts, Record, Routed, RoutedRow, Target, records_bytes,
};
pub use secret::Secret;
pub use time::Timestamp;
