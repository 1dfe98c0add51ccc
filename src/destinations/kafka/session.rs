//! The life of one producer: orders in, delivery reports out, until something ends it.

use crate::{
    destinations::{
        Order, Outcome, OutletState,
        kafka::{
            Ended, LaneEnd, Timing,
            client::{Client, Delivered, Post, Record, Trouble},
            failed, refused,
            verdict::{Verdict, judge},
        },
        message::{Message, TypePrefixes},
    },
    domain::{Attempt, DeadCause, FailureKind, StopReason, Timestamp},
};
use rdkafka::{
    message::{Header, OwnedHeaders},
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::{HashMap, VecDeque},
    future,
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task,
    time::{self, Instant},
};

/// The longest record key, bytes: it is taken from what senders write.
const KEY_BYTES_MAX: usize = 1 << 10;

/// How far a push's own time may lie ahead of its arrival to be the record's. Brokers refuse what lies more than an
/// hour ahead (`message.timestamp.after.max.ms`, since Kafka 4.0), and a sender's clock must not make dead letters.
const TIME_AHEAD_MAX: Duration = Duration::from_secs(1_800);

/// Headers of a record: all marks that a message can have.
const HEADERS: usize = 16;

/// Records handed to librdkafka before other tasks have their turn: about half a millisecond.
const TURN: usize = 128;

/// How often the age of what is out is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a session ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The producer is of no use any more.
    Trouble(Trouble),
    /// All is well and nothing is out, but batches must be smaller.
    SmallerBatches,
}

/// One record that is out.
struct Out {
    /// Its bytes without any framing: the least that it takes in a batch.
    bytes: usize,
    since: Instant,
}

/// Whether orders are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No broker is there; librdkafka tries again what is out.
    Faltering,
    /// What is out shall end, and then the session.
    Draining,
}

pub(super) struct Session {
    client: Client,
    topic: String,
    batch_bytes: usize,
    timing: Timing,
    prefixes: TypePrefixes,
    message: Message,
    phase: Phase,
    /// What librdkafka holds, by ticket.
    out: HashMap<u64, Out>,
    /// The last record handed over, if nothing else has been out since before it went.
    alone: Option<u64>,
    /// What it had no room for, in order; handed over as reports make room.
    waiting: VecDeque<Attempt>,
    /// When the last report came, or the first record after a pause went out.
    last_sign: Instant,
    /// A question whether the topic can be reached, while one is open.
    check: Option<oneshot::Receiver<Result<(), Trouble>>>,
    delivered_any: bool,
    /// After trouble one record goes ahead, and the others when it is taken: metadata do not show whether we may
    /// write, and what was never sent is in no doubt.
    careful: bool,
}

impl Session {
    pub(super) fn new(
        client: Client,
        topic: String,
        batch_bytes: usize,
        timing: Timing,
        prefixes: TypePrefixes,
        careful: bool,
    ) -> Self {
        Self {
            client,
            topic,
            batch_bytes,
            timing,
            prefixes,
            message: Message::default(),
            phase: Phase::Open,
            out: HashMap::new(),
            alone: None,
            waiting: VecDeque::new(),
            last_sign: Instant::now(),
            check: None,
            delivered_any: false,
            careful,
        }
    }

    /// Whether a record was delivered.
    pub(super) fn delivered_any(&self) -> bool {
        self.delivered_any
    }

    /// Publishes until it ends. What is out and what waits then is left for [`Session::abandon`].
    pub(super) async fn run(&mut self, lane: &mut LaneEnd) -> Result<Ending, Ended> {
        let mut look = time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let taking = self.waiting.is_empty() && self.phase != Phase::Draining;
            let ended = tokio::select! {
                () = self.client.mailbox().arrived() => self.read(lane).await?,
                order = lane.order(taking) => self.take(lane, order?).await?,
                answer = answered(&mut self.check) => self.checked(lane, answer).await?,
                _ = look.tick(), if !self.out.is_empty() || !self.waiting.is_empty() => self.look(lane).await?,
            };
            if let Err(trouble) = ended {
                return Ok(Ending::Trouble(trouble));
            }
            if self.phase == Phase::Draining && self.out.is_empty() && self.waiting.is_empty() {
                return Ok(Ending::SmallerBatches);
            }
        }
    }

    /// The ends of everything that the session leaves: not known where librdkafka had it, and else not sent.
    pub(super) fn abandon(&mut self, trouble: &Trouble) -> Vec<(u64, Outcome)> {
        let mut outcomes = Vec::with_capacity(self.out.len() + self.waiting.len());
        // What was reported in the last moment is known after all.
        for report in self.client.mailbox().take().delivered {
            if let Ok((partition, offset)) = report.end
                && self.out.remove(&report.ticket).is_some()
            {
                outcomes.push((report.ticket, taken(partition, offset)));
            }
        }
        outcomes.extend(self.out.drain().map(|(ticket, _)| (ticket, failed(FailureKind::Unknown, &trouble.detail))));
        outcomes.extend(refused(self.waiting.drain(..).collect(), trouble.reason, &trouble.detail));
        outcomes
    }

    async fn take(&mut self, lane: &LaneEnd, order: Order) -> Result<Result<(), Trouble>, Ended> {
        match order {
            Order::Publish(attempts) if self.phase == Phase::Open => {
                self.waiting.extend(attempts);
                self.hand_over(lane).await
            }
            order @ Order::Publish(_) => lane.refuse(order).await.map(Ok),
            Order::Probe => {
                self.ask();
                Ok(Ok(()))
            }
        }
    }

    /// Hands what waits to librdkafka, in order, until it has no more room.
    async fn hand_over(&mut self, lane: &LaneEnd) -> Result<Result<(), Trouble>, Ended> {
        let prefixes = self.prefixes.snapshot();
        let mut outcomes = Vec::new();
        let mut turn = 0;
        let mut ended = Ok(());
        if self.out.is_empty() {
            self.last_sign = Instant::now();
        }
        while let Some(attempt) = self.next() {
            self.message.render(&attempt, &prefixes);
            match self.send(&attempt) {
                Ok(bytes) => {
                    self.alone = self.out.is_empty().then_some(attempt.ticket);
                    self.out.insert(attempt.ticket, Out { bytes, since: Instant::now() });
                }
                Err(Code::QueueFull) => {
                    self.waiting.push_front(attempt);
                    break;
                }
                Err(Code::MessageSizeTooLarge) => {
                    let words = "larger than the producer's `message.max.bytes`";
                    outcomes.push((attempt.ticket, failed(FailureKind::Rejected(DeadCause::TooLarge), words)));
                }
                Err(Code::KeySerialization) => {
                    let words = format!("its key is longer than {KEY_BYTES_MAX} bytes");
                    outcomes.push((attempt.ticket, failed(FailureKind::Rejected(DeadCause::Rejected), &words)));
                }
                Err(code) => {
                    self.waiting.push_front(attempt);
                    ended = Err(Trouble::of(code, format!("topic `{}`: {code}", self.topic)));
                    break;
                }
            }
            turn += 1;
            if turn % TURN == 0 {
                task::yield_now().await;
            }
        }
        lane.outcomes(outcomes).await?;
        Ok(ended)
    }

    /// The next record that may go now.
    fn next(&mut self) -> Option<Attempt> {
        let ahead = self.careful && !self.delivered_any && !self.out.is_empty();
        if ahead { None } else { self.waiting.pop_front() }
    }

    /// Hands the rendered message over. librdkafka itself holds it against `message.max.bytes`, with its framing.
    fn send(&self, attempt: &Attempt) -> Result<usize, Code> {
        let event = attempt.delivery.event();
        let key = attempt.delivery.target().address.as_deref();
        if key.is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(Code::KeySerialization);
        }
        let mut bytes = key.map_or(0, str::len) + self.message.value().len();
        let mut headers = OwnedHeaders::new_with_capacity(HEADERS);
        for (mark, text) in self.message.marks() {
            bytes += mark.kafka_header().len() + text.len();
            headers = headers.insert(Header { key: mark.kafka_header(), value: Some(text) });
        }
        self.client.send(Record {
            topic: &self.topic,
            ticket: attempt.ticket,
            key,
            value: self.message.value(),
            timestamp: record_time(self.message.time(), event.received_at),
            headers,
        })?;
        Ok(bytes)
    }

    /// Takes the post out and tells the lane about it.
    async fn read(&mut self, lane: &mut LaneEnd) -> Result<Result<(), Trouble>, Ended> {
        let Post { delivered, all_down, fatal } = self.client.mailbox().take();
        let mut ended = fatal.map_or(Ok(()), Err);
        if !delivered.is_empty() {
            self.last_sign = Instant::now();
        }
        let mut outcomes = Vec::with_capacity(delivered.len());
        for report in delivered {
            let Some(out) = self.out.remove(&report.ticket) else { continue };
            let (outcome, trouble) = self.outcome(report, &out);
            outcomes.push((report.ticket, outcome));
            if let (Some(trouble), Ok(())) = (trouble, &ended) {
                ended = Err(trouble);
            }
        }
        if let Err(trouble) = &ended {
            lane.report(OutletState::Stopped(trouble.reason, trouble.detail.clone())).await?;
        }
        lane.outcomes(outcomes).await?;
        if ended.is_err() {
            return Ok(ended);
        }
        if all_down {
            self.no_broker(lane).await?;
        } else if self.phase == Phase::Faltering && self.out.is_empty() {
            self.phase = Phase::Open;
            lane.report(OutletState::Up).await?;
        }
        if self.waiting.is_empty() { Ok(Ok(())) } else { self.hand_over(lane).await }
    }

    /// What one report means, for the record and perhaps for the session.
    fn outcome(&mut self, report: Delivered, out: &Out) -> (Outcome, Option<Trouble>) {
        let code = match report.end {
            Ok((partition, offset)) => {
                self.delivered_any = true;
                return (taken(partition, offset), None);
            }
            Err(code) => code,
        };
        match judge(code) {
            Verdict::Record(kind) => (failed(kind, &code.to_string()), None),
            // A record that was out alone, or is as large as a batch may be, was alone in its batch.
            Verdict::BatchTooLarge if out.bytes >= self.batch_bytes || self.alone == Some(report.ticket) => {
                (failed(FailureKind::Rejected(DeadCause::TooLarge), "larger than the topic takes"), None)
            }
            Verdict::BatchTooLarge => {
                self.phase = Phase::Draining;
                (failed(FailureKind::Nacked, "its batch was larger than the topic takes"), None)
            }
            Verdict::Session(reason) => {
                let detail = format!("topic `{}`: {code}", self.topic);
                // Where someone must act the broker said no; else it may have said yes, unheard.
                let kind = match reason {
                    StopReason::Misconfigured => FailureKind::Lane(reason),
                    StopReason::Down | StopReason::Blocked => FailureKind::Unknown,
                };
                (failed(kind, &detail), Some(Trouble { reason, detail: detail.into() }))
            }
        }
    }

    /// No broker can be reached, or the last idle connection was closed: the one is told from the other by asking.
    async fn no_broker(&mut self, lane: &mut LaneEnd) -> Result<(), Ended> {
        if self.out.is_empty() {
            self.ask();
            return Ok(());
        }
        if self.phase == Phase::Open {
            self.phase = Phase::Faltering;
            let words = self.client.mailbox().last_error().map(|(_, words)| words);
            let words = words.unwrap_or_else(|| "no broker can be reached".into());
            lane.report(OutletState::Stopped(StopReason::Down, words)).await?;
        }
        Ok(())
    }

    fn ask(&mut self) {
        if self.check.is_none() {
            self.check = Some(self.client.check(self.topic.clone(), self.timing.open));
        }
    }

    /// What is out decides, where there is any: its reports come, or the silence ends the session.
    async fn checked(&mut self, lane: &mut LaneEnd, answer: Result<(), Trouble>) -> Result<Result<(), Trouble>, Ended> {
        self.check = None;
        match answer {
            Err(trouble) if self.out.is_empty() => return Ok(Err(trouble)),
            Err(trouble) if trouble.reason == StopReason::Down => self.no_broker(lane).await?,
            Err(_) | Ok(()) => {}
        }
        Ok(Ok(()))
    }

    /// Sees whether all goes on.
    async fn look(&mut self, lane: &LaneEnd) -> Result<Result<(), Trouble>, Ended> {
        match self.late() {
            Ok(()) if !self.waiting.is_empty() => self.hand_over(lane).await,
            ended => Ok(ended),
        }
    }

    /// Ends the session when reports have not come for too long.
    fn late(&self) -> Result<(), Trouble> {
        let records = self.out.len();
        let silence = self.last_sign.elapsed();
        if records > 0 && silence >= self.timing.silence {
            return Err(Trouble::down(format!("no report for {} s with {records} records out", silence.as_secs())));
        }
        let oldest = self.out.values().map(|out| out.since.elapsed()).max().unwrap_or_default();
        if oldest >= self.timing.record {
            return Err(Trouble::down(format!("a record has been out for {} s without a report", oldest.as_secs())));
        }
        Ok(())
    }
}

fn taken(partition: i32, offset: i64) -> Outcome {
    Outcome::Taken { answer: format!("partition {partition} offset {offset}").into() }
}

/// The push's own time, unless it lies so far ahead that brokers would refuse it.
fn record_time(time: Timestamp, received_at: Timestamp) -> i64 {
    let time = if time.since(received_at) > TIME_AHEAD_MAX { received_at } else { time };
    // 0 means now to librdkafka, and nothing before the epoch is a time to a broker.
    time.as_millis().max(1)
}

/// The answer to an open question; never, while there is none. Cancel safe.
async fn answered(check: &mut Option<oneshot::Receiver<Result<(), Trouble>>>) -> Result<(), Trouble> {
    match check {
        Some(answer) => answer.await.unwrap_or_else(|_| Err(Trouble::down("cannot start a thread"))),
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::record_time;
    use crate::domain::Timestamp;

    #[test]
    fn a_record_is_as_old_as_its_push_but_never_far_ahead_of_it() {
        let received = Timestamp::from_millis(1_726_824_223_000);
        for (sent, expected) in [
            (1_726_824_222_989, 1_726_824_222_989),
            (1_726_824_223_000 + 1_800_000, 1_726_824_223_000 + 1_800_000),
            (1_726_824_223_000 + 1_800_001, 1_726_824_223_000),
            (-5, 1),
        ] {
            assert_eq!(record_time(Timestamp::from_millis(sent), received), expected);
        }
    }
}
