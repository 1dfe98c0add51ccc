//! The door: accepts connections, takes pushes, verifies, identifies, and answers when they are durable.

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
pub mod serve;
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
