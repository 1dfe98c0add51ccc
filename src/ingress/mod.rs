//! The door: accepts connections, takes pushes, verifies, identifies, and answers when they are durable.
//!
//! Who does what, from the socket inwards:
//!
//! - [`listen`] and [`tls`] have the socket and the certificates, [`serve`] the accept loop with its cap and its end.
//! - A connection is hyper's, between a [`guard`] that reads the framing along and a pulse that knows its deadlines.
//! - [`hooks`] answers a request: size, method and encoding, then where the URL leads in the [`door`]; the address
//!   ([`address`]); the body; then `admit` judges signature, JSON, tenant and id, in this order.
//! - What is admitted is offered to the store ([`Accept`]) and answered when the store says so ([`Answer`]). What is
//!   not is a [`problem`], counted by its reason.
//!
//! What a crash, a stop or a broken connection does to a push:
//!
//! - Before it was offered, nothing is left of it, and its sender got no answer, or one that is not 200.
//! - Once it was offered, it is stored whole or not at all, whether its sender still waits or not.
//! - 200 is written only after the store said it is durable, so a 200 is never wrong; a stored push whose answer was
//!   lost is known by its id when it is sent again.
//!
//! What the door does not do: it decides nothing about routes, remembers no ids, and keeps no queue of its own. Where
//! there is no room, it says 503 and the sender keeps the push.

pub mod address;
mod admit;
mod body;
mod connection;
pub mod door;
pub mod guard;
pub mod hooks;
pub mod kept;
pub mod listen;
pub mod problem;
mod pulse;
pub mod refusing;
pub mod serve;
mod share;
pub mod tls;
mod wire;

use crate::domain::NewEvent;
use std::time::Duration;
use tokio::sync::oneshot;

/// What became of an offered event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is durable: 200.
    Stored,
    /// It had come before and is durable: 200.
    Duplicate,
    /// There is no room: 503 with `Retry-After`.
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// The store stopped before it was durable: 503.
    Stopped,
}

/// Where the door hands events in: the writer of the store in production, a stub in tests.
pub trait Accept: Send + Sync + 'static {
    /// Hands an event over without waiting. The answer comes once, or the sender is dropped when the store stops.
    ///
    /// # Errors
    /// [`Busy`] when the queue before the store is full: 503, the event was not taken.
    fn offer(&self, event: NewEvent, answer: oneshot::Sender<Answer>) -> Result<(), Busy>;
}

/// The queue before the store is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many pushes wait for the store")]
pub struct Busy;
