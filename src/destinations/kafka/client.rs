//! One librdkafka producer with its threads, and the box where it leaves what it has to say.
//!
//! A [`Client`] never blocks its owner: making it, asking for metadata and taking it down happen on threads of
//! their own that nobody waits for, because each may take seconds when a broker does not answer. Delivery reports
//! gather in the [`Mailbox`] and are taken out all at once.

use crate::{
    destinations::kafka::{
        gauges::Gauges,
        verdict::{Verdict, judge, needs_someone},
    },
    domain::StopReason,
};
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig},
    types::RDKafkaErrorCode as Code,
};
use std::{
    mem, panic,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, error, trace};

/// How long one poll may take; also how long a producer lives on after its client is dropped.
const POLL: Duration = Duration::from_millis(50);

/// How long a cluster may take to answer before it matters whether it can be reached at all.
const FIRST_ASK: Duration = Duration::from_secs(1);

/// Why a session with the cluster cannot begin, or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it means for the lane.
    pub reason: StopReason,
    /// The words for the operator; no secret.
    pub detail: Box<str>,
}

impl Trouble {
    /// The cluster cannot be reached, or does not answer.
    pub fn down(detail: impl Into<Box<str>>) -> Self {
        Self { reason: StopReason::Down, detail: detail.into() }
    }

    /// Someone must act.
    pub fn misconfigured(detail: impl Into<Box<str>>) -> Self {
        Self { reason: StopReason::Misconfigured, detail: detail.into() }
    }

    /// What a code means that ends a session.
    #[must_use]
    pub fn of(code: Code, detail: impl Into<Box<str>>) -> Self {
        match judge(code) {
            Verdict::Session(reason) => Self { reason, detail: detail.into() },
            Verdict::Record(_) | Verdict::BatchTooLarge => Self::down(detail),
        }
    }
}

/// How the try of one ticket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Which one.
    pub ticket: u64,
    /// Partition and offset, or why not.
    pub end: Result<(i32, i64), Code>,
}

/// What a producer had to say since it was last asked.
#[derive(Debug, Default)]
pub struct Post {
    /// Delivery reports, in the order they came.
    pub delivered: Vec<Delivered>,
    /// Whether no broker can be reached.
    pub all_down: bool,
    /// An error after which the producer is of no use.
    pub fatal: Option<Trouble>,
}

/// Where a producer's own thread leaves its post. Bounded: there is one report a record in flight, and they are
/// as many as the window.
#[derive(Debug, Default)]
pub struct Mailbox {
    post: Mutex<Post>,
    last_error: Mutex<Option<(Code, Box<str>)>>,
    arrived: Notify,
}

impl Mailbox {
    /// Waits until there is post.
    ///
    /// # Cancel safety
    /// Nothing is lost: whoever comes next finds the post.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes out everything.
    #[must_use]
    pub fn take(&self) -> Post {
        mem::take(&mut *lock(&self.post))
    }

    /// The last error that librdkafka spoke of, such as a refused connection.
    #[must_use]
    pub fn last_error(&self) -> Option<(Code, Box<str>)> {
        lock(&self.last_error).clone()
    }

    /// Whether waiting on will not bring a broker: each refused the connection, or us.
    fn is_hopeless(&self) -> bool {
        lock(&self.post).all_down || self.last_error().is_some_and(|(code, _)| needs_someone(code))
    }

    fn leave(&self, leave: impl FnOnce(&mut Post)) {
        leave(&mut lock(&self.post));
        self.arrived.notify_one();
    }
}

/// Nothing is half done in these few lines, so that a panic elsewhere leaves nothing wrong behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears what librdkafka says, on the producer's own thread.
struct Context {
    mailbox: Arc<Mailbox>,
    gauges: Arc<Gauges>,
}

impl ClientContext for Context {
    /// One failure is one line, where the outlet reports it; librdkafka's own lines repeat it every second.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility, "{line}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                debug!(target: "librdkafka", facility, "{line}")
            }
            RDKafkaLogLevel::Debug => trace!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        self.gauges.take(json);
    }

    /// Called twice for each error, so that nothing here may count.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, "{reason}");
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) => self.mailbox.leave(|post| post.all_down = true),
            // What it was follows: a fatal error is asked for by the thread that polls.
            Some(Code::Fatal) | None => {}
            Some(code) => *lock(&self.mailbox.last_error) = Some((code, steady(reason).into())),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let end = match result {
            Ok(record) => Ok((record.partition(), record.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        self.mailbox.leave(|post| post.delivered.push(Delivered { ticket: ticket as u64, end }));
    }
}

/// A record, borrowed for as long as it takes to hand it over.
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Names the try.
    pub ticket: u64,
    /// Decides the partition; `None` is any.
    pub key: Option<&'a str>,
    /// The value.
    pub value: &'a [u8],
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The headers.
    pub headers: OwnedHeaders,
}

/// A producer of our own. Dropping it purges what it holds and takes it down in the background.
pub struct Client {
    /// `None` only while it is being dropped.
    producer: Option<Arc<BaseProducer<Context>>>,
    mailbox: Arc<Mailbox>,
    stop: Arc<AtomicBool>,
    gauges: Arc<Gauges>,
}

impl Client {
    /// Makes a producer and waits until it knows the topic, `patience` at most, on a thread of its own.
    pub fn open(
        config: ClientConfig,
        topic: String,
        patience: Duration,
        gauges: Arc<Gauges>,
    ) -> oneshot::Receiver<Result<Self, Trouble>> {
        apart(move || {
            let client = Self::make(&config, gauges)?;
            client.known(&topic, patience)?;
            client.hurry(&topic);
            Ok(client)
        })
    }

    /// Asks whether the topic can be reached, `patience` at most, on a thread of its own.
    pub fn check(&self, topic: String, patience: Duration) -> oneshot::Receiver<Result<(), Trouble>> {
        let client = Self {
            producer: self.producer.clone(),
            mailbox: Arc::clone(&self.mailbox),
            // Not the producer's own: what is dropped after the question must not stop it.
            stop: Arc::default(),
            gauges: Arc::clone(&self.gauges),
        };
        apart(move || client.known(&topic, patience))
    }

    /// Where its post lies.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Hands a record to librdkafka, which copies it; never blocks.
    ///
    /// # Errors
    /// The code; the record is then not in the producer, and there will be no report of it.
    pub fn send(&self, record: Record<'_>) -> Result<(), Code> {
        let Ok(ticket) = usize::try_from(record.ticket) else { return Err(Code::InvalidArgument) };
        let mut base = BaseRecord::<str, [u8], usize>::with_opaque_to(record.topic, ticket)
            .payload(record.value)
            .timestamp(record.timestamp)
            .headers(record.headers);
        base.key = record.key;
        let sent = self.producer().send(base);
        sent.map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::InvalidArgument))
    }

    fn make(config: &ClientConfig, gauges: Arc<Gauges>) -> Result<Self, Trouble> {
        let mailbox = Arc::new(Mailbox::default());
        let context = Context { mailbox: Arc::clone(&mailbox), gauges: Arc::clone(&gauges) };
        let producer = BaseProducer::from_config_and_context(config, context)
            .map_err(|error| Trouble::misconfigured(words(&error)))?;
        let producer = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        gauges.producers_total.fetch_add(1, Ordering::Relaxed);
        let client = Self { producer: Some(Arc::clone(&producer)), mailbox, stop: Arc::clone(&stop), gauges };
        let mailbox = Arc::clone(&client.mailbox);
        thread::Builder::new()
            .name("kafka-poll".into())
            .spawn(move || poll(&producer, &mailbox, &stop))
            .map_err(|error| Trouble::down(format!("cannot start a thread: {error}")))?;
        Ok(client)
    }

    fn known(&self, topic: &str, patience: Duration) -> Result<(), Trouble> {
        let ask = |patience| self.producer().client().fetch_metadata(Some(topic), patience);
        let metadata = ask(patience.min(FIRST_ASK)).or_else(|error| match patience.checked_sub(FIRST_ASK) {
            Some(rest) if !self.mailbox.is_hopeless() => ask(rest),
            _ => Err(error),
        });
        let metadata = metadata.map_err(|error| self.unreachable(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Err(Trouble::down(format!("no broker speaks of topic `{topic}`")));
        };
        match found.error().map(Code::from) {
            None => Ok(()),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                Err(Trouble::misconfigured(format!("topic `{topic}` does not exist; create it")))
            }
            Some(Code::TopicAuthorizationFailed) => {
                Err(Trouble::misconfigured(format!("not allowed to see topic `{topic}`")))
            }
            Some(code) => Err(Trouble::of(code, format!("topic `{topic}`: {code}"))),
        }
    }

    /// Lets the producer get its id now, without which it sends nothing. librdkafka asks for it when metadata come, if
    /// it is connected to a broker by then; the first metadata come over a connection that it gives up at once. Left
    /// alone, it connects after half a second, and asks after another.
    fn hurry(&self, topic: &str) {
        // Whatever the answer is: then it takes that second.
        let _ = self.producer().client().fetch_metadata(Some(topic), FIRST_ASK);
    }

    /// Says why there was no answer: what librdkafka last complained about tells more than "timed out".
    fn unreachable(&self, error: &KafkaError) -> Trouble {
        match self.mailbox.last_error() {
            Some((code, reason)) if needs_someone(code) => Trouble::misconfigured(reason),
            Some((_, reason)) => Trouble::down(reason),
            None => Trouble::down(format!("no broker answers: {error}")),
        }
    }

    fn producer(&self) -> &BaseProducer<Context> {
        self.producer.as_ref().expect("a client that is not being dropped has its producer")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // In this order: the thread that polls, or one that still asks, then holds the last handle and takes the
        // producer down; here it would block for half a second and more.
        self.producer = None;
        self.stop.store(true, Ordering::Release);
    }
}

/// Serves a producer until it is to stop; the caller's handle then goes, and with it the producer, purged.
fn poll(producer: &BaseProducer<Context>, mailbox: &Mailbox, stop: &AtomicBool) {
    let mut fatal_known = false;
    while !stop.load(Ordering::Acquire) {
        producer.poll(POLL);
        if fatal_known {
            continue;
        }
        if let Some((code, words)) = producer.client().fatal_error() {
            fatal_known = true;
            let words = format!("the producer gave up: {words}");
            mailbox.leave(|post| post.fatal = Some(Trouble::of(code, words)));
        }
    }
    // Not left to the drop: a question that is still open would put it off, and records would go out meanwhile.
    producer.purge(PurgeConfig::default().queue().inflight());
}

/// Cuts off what changes from one error to the next, such as `(after 1ms in state CONNECT)`, so that the same trouble
/// is said in the same words.
fn steady(reason: &str) -> &str {
    reason.split_once(" (after ").map_or(reason, |(steady, _)| steady)
}

/// What can be said of a configuration that librdkafka does not take: never a value, which may be a secret.
fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, property, _) => {
            format!("librdkafka does not take property `{property}` as it is")
        }
        other => other.to_string(),
    }
}

/// Runs something that may block on a thread that nobody waits for: a runtime's own blocking threads would hold
/// up the end of the process.
fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> oneshot::Receiver<Result<T, Trouble>> {
    let (answer, answered) = oneshot::channel();
    let work = move || {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(work));
        // Nobody waits any more: what was made is dropped here, on this thread.
        drop(answer.send(result.unwrap_or_else(|_| Err(Trouble::down("the Kafka client failed; see the log")))));
    };
    if let Err(error) = thread::Builder::new().name("kafka-ask".into()).spawn(work) {
        debug!(%error, "cannot start a thread");
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::steady;

    #[test]
    fn the_same_trouble_has_the_same_words() {
        let refused = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        for after in
            ["", " (after 0ms in state CONNECT)", " (after 1ms in state CONNECT, 3 identical error(s) suppressed)"]
        {
            assert_eq!(steady(&format!("{refused}{after}")), refused);
        }
    }
}
