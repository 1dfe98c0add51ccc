//! Fetches what routes ask for: the shell around [`crate::core::enrich`].
//!
//! Actors: whoever decides about events *asks* ([`Enricher::fetch`]); one task owns the schedules of all tenants, makes the
//! calls they want and carries answers back ([`task`]); [`subject`] reads from an event what to ask for; [`vendor`] speaks
//! the vendors' APIs; [`gates`] are shared with everybody else who asks the same APIs.
//!
//! A reload gives tenants other clients ([`Enricher::configure`]); what was fetched and who waits stays; who waits for a
//! tenant that has no API any more is told so at once. Nothing is kept on disk: after a crash an event that is not decided
//! asks again. When the task is gone, the process is stopping: what was
//! asked is then never answered, so that nothing is decided without what it waits for.

pub mod gates;
pub mod setup;
pub mod subject;
pub mod task;
pub mod vendor;

use crate::{
    core::router::{Need, WINDOW},
    domain::{EnrichmentPart, Event},
};
use setup::Setup;
use std::{future::Future, pin::Pin, sync::Arc};
use task::Message;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the task at most: an event in the router's window asks once, and reloads are rare.
const MESSAGES: usize = WINDOW + 64;

/// The way to the task. Clones share it.
#[derive(Debug, Clone)]
pub struct Enricher {
    sender: mpsc::Sender<Message>,
}

impl Enricher {
    /// The way to a task, and the task's end of it.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        (Self { sender }, receiver)
    }

    /// A part for each need, in their order, by the end of the event's budget. Never answered when the process is stopping.
    pub fn fetch(
        &self,
        event: Arc<Event>,
        needs: Vec<Need>,
    ) -> Pin<Box<dyn Future<Output = Vec<EnrichmentPart>> + Send>> {
        let (answer, answered) = oneshot::channel();
        let sender = self.sender.clone();
        Box::pin(async move {
            let asked = sender.send(Message::Ask { event, needs, answer }).await;
            match (asked, answered.await) {
                (Ok(()), Ok(parts)) => parts,
                _ => std::future::pending().await,
            }
        })
    }

    /// Tells that an event has come and waits behind another one of its key, which [`Enricher::fetch`] was asked about: so
    /// that one call serves both. Forgotten when the task is busy: then it costs another call.
    pub fn coming(&self, event: Arc<Event>) {
        let _ = self.sender.try_send(Message::Coming(event));
    }

    /// Takes the tenants of a generation into force; returns when calls are made by them.
    pub async fn configure(&self, setups: Vec<Setup>) {
        let (done, is_done) = oneshot::channel();
        if self.sender.send(Message::Configure(setups, done)).await.is_ok() {
            // A task that is gone makes no calls at all.
            let _ = is_done.await;
        }
    }
}
