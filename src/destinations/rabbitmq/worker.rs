//! One channel: takes batches, publishes them, waits for all their confirms, and answers for each message.

use crate::{
    destinations::{
        Outcome, Report,
        message::{Message, TypePrefixes},
        rabbitmq::{
            BATCH_BYTES, Timing,
            envelope::Envelope,
            patience::{Heard, Patience, Waited, wait},
            session::{InFlight, Note, Phase},
            trouble::Trouble,
            verdict::{Answer, failed, outcomes},
        },
    },
    domain::{Attempt, DeadCause, FailureKind, StopReason, records_bytes},
};
use futures_util::future::join_all;
use lapin::{
    Channel, Connection, Error,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::{mpsc, watch};

/// How many deliveries are remembered as possibly the one for which a channel was closed. Beyond it the oldest
/// doubts are dropped, and may cost another channel.
const SUSPECTS_MAX: usize = 1_024;

/// What all workers of a session share.
pub(super) struct Shared {
    pub(super) connection: Arc<Connection>,
    pub(super) exchange: ShortString,
    pub(super) mandatory: bool,
    pub(super) prefixes: TypePrefixes,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) in_flight: InFlight,
    /// How many messages a worker publishes before it waits for their confirms.
    pub(super) batch: usize,
    pub(super) timing: Timing,
    /// Told of each confirm, whichever channel it came on.
    pub(super) heard: Arc<Heard>,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Attempt>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Opened with the first batch, and again after it was closed.
    pub(super) channel: Option<Channel>,
    /// Deliveries that were in a batch for which the broker closed the channel: each is published alone.
    pub(super) suspects: HashSet<Box<str>>,
    pub(super) message: Message,
}

impl Worker {
    /// Works until the session ends. What it still has then is answered as not published.
    pub(super) async fn run(mut self) {
        loop {
            let mut phase = self.phase.clone();
            let first = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == Phase::Ended) => break,
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { break };
            let batch = fill(first, &mut self.queue, self.shared.batch);
            self.batch(batch).await;
        }
        self.refuse_queue(StopReason::Down, "the connection was given up").await;
    }

    async fn batch(&mut self, batch: Vec<Attempt>) {
        let prefixes = self.shared.prefixes.snapshot();
        let (mut together, mut alone, mut refused) = (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
        for attempt in &batch {
            match Envelope::new(attempt, &mut self.message, &prefixes) {
                Ok(envelope) if self.suspects.contains(&envelope.identity) => alone.push(envelope),
                Ok(envelope) => together.push(envelope),
                Err(failure) => refused.push((attempt.ticket, Outcome::Failed(failure))),
            }
        }
        drop(batch);
        self.answer(refused).await;
        if !together.is_empty() {
            self.publish(together).await;
        }
        for envelope in alone {
            self.publish(vec![envelope]).await;
        }
    }

    async fn publish(&mut self, mut batch: Vec<Envelope>) {
        let answers = match self.send(&mut batch).await {
            Waited::Done(Ok(answers)) => answers,
            Waited::Done(Err(trouble)) => return self.trouble(batch, trouble).await,
            Waited::Late(limit) => {
                let words = format!("no confirm within {} s", limit.as_secs_f64());
                return self.trouble(batch, Trouble::Connection(words.into())).await;
            }
            Waited::Ended => {
                let failed = failed(FailureKind::Unknown, "the connection was given up before the confirm");
                return self.answer_all(&batch, &failed).await;
            }
        };
        let identities: Vec<&str> = batch.iter().map(|envelope| &*envelope.identity).collect();
        let judged = outcomes(&identities, &answers);
        for identity in identities {
            self.suspects.remove(identity);
        }
        self.answer(batch.iter().map(|envelope| envelope.ticket).zip(judged).collect()).await;
    }

    /// Publishes all of a batch and waits for all its confirms. Afterwards its properties are gone.
    async fn send(&mut self, batch: &mut [Envelope]) -> Waited<Result<Vec<Answer>, Trouble>> {
        let (shared, phase) = (Arc::clone(&self.shared), self.phase.clone());
        let heard = Heard::now();
        let patience = Patience { timing: shared.timing, line: &shared.heard, channel: &heard };
        let open = &mut self.channel;
        let work = async {
            let channel = match open {
                Some(channel) => channel,
                None => open.insert(open_channel(&shared.connection).await?),
            };
            let channel = &*channel;
            let options = BasicPublishOptions { mandatory: shared.mandatory, ..Default::default() };
            // All at once: each future queues its frames when it is first polled. The first confirms may come while
            // the last frames still wait for the line.
            let confirmed = join_all(batch.iter_mut().map(|envelope| {
                let properties = std::mem::take(&mut envelope.properties);
                let (exchange, key) = (shared.exchange.clone(), envelope.routing_key.clone());
                let sent = channel.basic_publish(exchange, key, options, &envelope.value, properties);
                let (line, own) = (&shared.heard, &heard);
                async move {
                    let confirmation = sent.await?.await?;
                    line.hear();
                    own.hear();
                    Ok::<_, Error>(confirmation)
                }
            }));
            let results = confirmed.await;
            let mut answers = Vec::with_capacity(results.len());
            let mut worst: Option<Trouble> = None;
            for result in results {
                match result {
                    Ok(confirmation) => answers.push(Answer::from(confirmation)),
                    Err(error) => {
                        let trouble = Trouble::of(&error);
                        worst = Some(worst.map_or_else(|| trouble.clone(), |worst| worst.worse(trouble.clone())));
                    }
                }
            }
            worst.map_or(Ok(answers), Err)
        };
        wait(work, phase, patience).await
    }

    /// Answers for a batch that met trouble, and passes the trouble on to whom it concerns.
    async fn trouble(&mut self, batch: Vec<Envelope>, trouble: Trouble) {
        // Whatever it was, this channel is over.
        self.channel = None;
        let words = trouble.words();
        match &trouble {
            Trouble::Connection(_) => {
                let _ = self.shared.notes.try_send(Note::Lost(words.into()));
                self.answer_all(&batch, &failed(FailureKind::Unknown, words)).await;
                self.refuse_queue(StopReason::Down, words).await;
            }
            Trouble::Misconfigured(_) => {
                let mut keys: Vec<ShortString> = batch.iter().map(|envelope| envelope.routing_key.clone()).collect();
                keys.sort_unstable();
                keys.dedup();
                let _ = self.shared.notes.try_send(Note::Refused { words: words.into(), keys });
                let reason = StopReason::Misconfigured;
                self.answer_all(&batch, &failed(FailureKind::Lane(reason), words)).await;
                self.refuse_queue(reason, words).await;
            }
            Trouble::Message(_) if batch.len() == 1 => {
                let cause = if words.contains("size") { DeadCause::TooLarge } else { DeadCause::Rejected };
                for envelope in &batch {
                    self.suspects.remove(&envelope.identity);
                }
                self.answer_all(&batch, &failed(FailureKind::Rejected(cause), words)).await;
            }
            Trouble::Message(_) => {
                if self.suspects.len() > SUSPECTS_MAX {
                    self.suspects.clear();
                }
                self.suspects.extend(batch.iter().map(|envelope| envelope.identity.clone()));
                self.answer_all(&batch, &failed(FailureKind::Unknown, words)).await;
            }
            Trouble::Channel(_) => self.answer_all(&batch, &failed(FailureKind::Unknown, words)).await,
        }
    }

    /// Answers for everything that waits: it was not published.
    async fn refuse_queue(&mut self, reason: StopReason, words: &str) {
        let mut refused = Vec::new();
        while let Ok(attempt) = self.queue.try_recv() {
            refused.push((attempt.ticket, failed(FailureKind::Lane(reason), words)));
        }
        self.answer(refused).await;
    }

    async fn answer_all(&self, batch: &[Envelope], outcome: &Outcome) {
        self.answer(batch.iter().map(|envelope| (envelope.ticket, outcome.clone())).collect()).await;
    }

    async fn answer(&self, outcomes: Vec<(u64, Outcome)>) {
        let count = outcomes.len();
        if count > 0 {
            // A lane that is gone needs no answers.
            let _ = self.shared.reports.send(Report::Outcomes(outcomes)).await;
            self.shared.in_flight.done(count);
        }
    }
}

async fn open_channel(connection: &Connection) -> Result<Channel, Trouble> {
    let open = async {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    // A channel that cannot be opened says nothing about a message.
    open.await.map_err(|error: Error| Trouble::Connection(Trouble::of(&error).words().into()))
}

/// A batch: `first`, and what waits behind it until there are `count` or [`BATCH_BYTES`].
fn fill(first: Attempt, queue: &mut mpsc::Receiver<Attempt>, count: usize) -> Vec<Attempt> {
    let mut bytes = weight(&first);
    let mut batch = Vec::with_capacity(count);
    batch.push(first);
    while batch.len() < count && bytes < BATCH_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += weight(&next);
        batch.push(next);
    }
    batch
}

/// About how many bytes of value a try has.
fn weight(attempt: &Attempt) -> usize {
    attempt.delivery.event().body.len() + records_bytes(attempt.delivery.enrichment())
}

#[cfg(test)]
mod tests {
    use super::fill;
    use crate::destinations::fixtures::{attempt, event};
    use tokio::sync::mpsc;

    /// How many of 100 tries with bodies of `bytes` make a batch of at most 64.
    fn filled(bytes: usize) -> usize {
        let (queue_in, mut queue) = mpsc::channel(100);
        for number in 0..100 {
            queue_in.try_send(attempt(event(&" ".repeat(bytes)), number, Vec::new())).unwrap();
        }
        let first = queue.try_recv().unwrap();
        let batch = fill(first, &mut queue, 64);
        assert!(batch.iter().map(|attempt| attempt.ticket).eq(0..batch.len() as u64));
        assert_eq!(queue.len() + batch.len(), 100);
        batch.len()
    }

    #[test]
    fn a_batch_is_full_by_count_or_by_bytes() {
        assert_eq!(filled(2), 64);
        assert_eq!(filled(16 << 10), 64);
        assert_eq!(filled(32 << 10), 32);
        assert_eq!(filled(300 << 10), 4);
        assert_eq!(filled(2 << 20), 1);
    }
}
