//! The RabbitMQ destination: persistent, mandatory publishes, each confirmed and not returned.
//!
//! **Who does what.** One supervisor task owns the connection, tells the state, and connects again. It spreads the
//! tries over [`CHANNELS`] workers by their ordering key; each worker owns one channel, and publishes batches of
//! [`BATCH`] or more on it, one after the other.
//!
//! **Why batches.** The client library hands a returned message to whatever confirm completes next, so a confirm
//! alone does not say *which* message was returned. A worker therefore waits for all confirms of a batch, collects
//! all returned messages, matches them by the header `x-delivery`, and only then counts the rest as taken.
//!
//! **What is lost when.** Nothing is counted before its confirm. When a connection fails, or says nothing for
//! [`Timing::silence`] while something is out on it, it is given up as a whole: what was out on it is *unknown*, and the lane sends it again. When a
//! channel fails because the exchange is missing or access is refused, the destination is misconfigured: nothing
//! more is sent, and the exchange is looked at on fresh channels until it takes messages again. When it fails
//! because of a message (the broker does not say which), those of the batch are published one by one next time,
//! so that the bad one fails alone. While the broker blocks us (memory or disk alarm) nothing times out: what is
//! out stays out, and is confirmed when the alarm is over.
//!
//! The library's own recovery stays off: it can leave confirms hanging for ever.

mod envelope;
mod exchange;
mod link;
mod patience;
mod session;
mod supervisor;
mod trouble;
mod verdict;
mod worker;

use crate::{
    config::settings::RabbitMq,
    destinations::{Common, Outlet, OutletTask, outlet},
};
use std::{sync::Arc, time::Duration};

pub use envelope::VALUE_BYTES_MAX;

/// How many channels a destination publishes on.
pub const CHANNELS: usize = 8;
/// How many messages a channel has out at most, in windows of the default size. Eight channels of 64 reach what one channel
/// with a window of 512 does, and RabbitMQ is the limit then.
pub const BATCH: usize = 64;
/// The same in the largest windows. Larger batches only wait longer for their last confirm.
const BATCH_MAX: usize = 256;
/// The broker is taken for dead when nothing came for twice this long.
pub(crate) const HEARTBEAT_SECONDS: u16 = 10;
/// A batch is full when it holds this much, whatever the count: what is out on a narrow line, and may have to be sent
/// again, is then a few MiB.
const BATCH_BYTES: usize = 1 << 20;
/// How long connecting may take, from the first packet to the open connection.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the broker may be silent while it owes an answer. Each confirm begins these anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The whole connection: more than two heartbeats, so that a dead one is noticed as such first.
    pub silence: Duration,
    /// One channel, while others hear something: what they have on the line goes before its own, but a queue that is
    /// dead must not hold up its keys for ever.
    pub channel: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), channel: Duration::from_secs(180) }
    }
}

/// What a channel has out at most: half of its share of the window, so that the next batch gathers meanwhile.
fn batch(window: usize) -> usize {
    (window / CHANNELS / 2).clamp(BATCH, BATCH_MAX)
}

/// Starts a RabbitMQ destination.
#[must_use]
pub fn start(common: Common, settings: &RabbitMq) -> (Outlet, OutletTask) {
    start_with(common, settings, Timing::default())
}

/// Starts one whose broker may be silent for as long as `timing` says.
#[must_use]
pub fn start_with(common: Common, settings: &RabbitMq, timing: Timing) -> (Outlet, OutletTask) {
    let (outlet, socket) = outlet(common.window);
    let sessions = Arc::clone(&outlet.vitals.sessions);
    let supervisor = supervisor::Supervisor::new(common, settings.clone(), timing, socket, sessions);
    (outlet, Box::pin(supervisor.run()))
}

#[cfg(test)]
mod tests {
    use super::batch;

    #[test]
    fn a_batch_grows_with_the_window() {
        for (window, expected) in [(1, 64), (1_024, 64), (2_048, 128), (4_096, 256), (65_536, 256)] {
            assert_eq!(batch(window), expected, "{window}");
        }
    }
}
