//! One connection's life: its workers, what is out on them, and what they have to say.

use crate::{
    config::settings::Exchange,
    destinations::{
        Report,
        message::{Message, TypePrefixes},
        rabbitmq::{
            CHANNELS, Timing, batch,
            exchange::{self, Mode},
            link::Link,
            patience::{Heard, Patience, Waited, wait},
            trouble::Trouble,
            worker::{Shared, Worker},
        },
    },
    domain::Attempt,
};
use lapin::types::ShortString;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

/// How many notes may wait. The supervisor reads them at once, and any of them says what the others say.
const NOTES: usize = 64;

/// What the workers must know of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It can be used.
    Open,
    /// The broker takes nothing at the moment.
    Blocked,
    /// It is given up.
    Ended,
}

/// What the supervisor must know of the workers and of probes.
#[derive(Debug)]
pub(super) enum Note {
    /// The connection is of no more use.
    Lost(Box<str>),
    /// The exchange is missing or access is refused; tried with these routing keys.
    Refused { words: Box<str>, keys: Vec<ShortString> },
    /// A look at the exchange has ended.
    Checked(Result<(), Trouble>),
}

/// Counts the tries that are not answered yet.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<(AtomicUsize, Notify)>);

impl InFlight {
    fn add(&self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn done(&self, count: usize) {
        if self.0.0.fetch_sub(count, Ordering::AcqRel) == count {
            self.0.1.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.0.load(Ordering::Acquire) == 0
    }

    /// Waits until everything is answered. Cancel safe.
    pub(super) async fn emptied(&self) {
        while !self.is_empty() {
            self.0.1.notified().await;
        }
    }
}

pub(super) struct Session {
    link: Link,
    queues: Vec<mpsc::Sender<Attempt>>,
    phase: watch::Sender<Phase>,
    notes: mpsc::Receiver<Note>,
    notes_in: mpsc::Sender<Note>,
    pub(super) in_flight: InFlight,
    timing: Timing,
    /// When anything was confirmed last.
    heard: Arc<Heard>,
    workers: JoinSet<()>,
    /// Looks at the exchange; ended with the session, unheard.
    checks: JoinSet<()>,
    /// For tries without a key: they go round.
    next: usize,
}

/// What a session needs of its destination.
pub(super) struct Needs {
    pub(super) exchange: ShortString,
    pub(super) mandatory: bool,
    pub(super) prefixes: TypePrefixes,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) window: usize,
    pub(super) timing: Timing,
}

impl Session {
    /// Starts the workers of a connection.
    pub(super) fn start(link: Link, needs: Needs) -> Self {
        let (notes_in, notes) = mpsc::channel(NOTES);
        let (phase, _) = watch::channel(Phase::Open);
        let (in_flight, timing, heard) = (InFlight::default(), needs.timing, Arc::new(Heard::now()));
        // One channel is left for looking at the exchange; 0 is no limit.
        let channels = match usize::from(link.connection.configuration().channel_max()) {
            0 => CHANNELS,
            limit => CHANNELS.min(limit.saturating_sub(1)).max(1),
        };
        let shared = Arc::new(Shared {
            connection: Arc::clone(&link.connection),
            exchange: needs.exchange,
            mandatory: needs.mandatory,
            prefixes: needs.prefixes,
            reports: needs.reports,
            notes: notes_in.clone(),
            in_flight: in_flight.clone(),
            batch: batch(needs.window),
            timing,
            heard: Arc::clone(&heard),
        });
        let mut workers = JoinSet::new();
        let mut queues = Vec::with_capacity(channels);
        for _ in 0..channels {
            // The lane has no more than a window out, so a queue of that length never fills.
            let (queue_in, queue) = mpsc::channel(needs.window.max(1));
            queues.push(queue_in);
            let worker = Worker {
                shared: Arc::clone(&shared),
                queue,
                phase: phase.subscribe(),
                channel: None,
                suspects: HashSet::new(),
                message: Message::default(),
            };
            workers.spawn(worker.run());
        }
        let checks = JoinSet::new();
        Self { link, queues, phase, notes, notes_in, in_flight, timing, heard, workers, checks, next: 0 }
    }

    /// Hands a try to the worker of its key; gives it back when that has no room, which the lane rules out.
    pub(super) fn publish(&mut self, attempt: Attempt) -> Result<(), Attempt> {
        let number = match attempt.delivery.event().order {
            Some(key) => usize::try_from(key.0 % self.queues.len() as u64).unwrap_or(0),
            None => {
                self.next = (self.next + 1) % self.queues.len();
                self.next
            }
        };
        let Some(queue) = self.queues.get(number) else { return Err(attempt) };
        self.in_flight.add();
        queue.try_send(attempt).map_err(|error| {
            self.in_flight.done(1);
            match error {
                mpsc::error::TrySendError::Full(attempt) | mpsc::error::TrySendError::Closed(attempt) => attempt,
            }
        })
    }

    /// Looks at the exchange beside everything else; the answer comes as a note.
    pub(super) fn check(&mut self, exchange: &Exchange, mode: Mode, keys: Vec<ShortString>) {
        let (connection, notes) = (Arc::clone(&self.link.connection), self.notes_in.clone());
        let (exchange, phase) = (exchange.clone(), self.phase.subscribe());
        let (timing, line) = (self.timing, Arc::clone(&self.heard));
        while self.checks.try_join_next().is_some() {}
        self.checks.spawn(async move {
            let channel = Heard::now();
            let patience = Patience { timing, line: &line, channel: &channel };
            let check = exchange::check(&connection, &exchange, mode, &keys);
            let checked = match wait(check, phase, patience).await {
                Waited::Done(checked) => checked,
                Waited::Late(_) => Err(Trouble::Connection("the broker does not answer".into())),
                Waited::Ended => return,
            };
            let _ = notes.send(Note::Checked(checked)).await;
        });
    }

    /// Takes the next note. Cancel safe.
    pub(super) async fn note(&mut self) -> Note {
        match self.notes.recv().await {
            Some(note) => note,
            // We hold a sender ourselves.
            None => Note::Lost("the session is over".into()),
        }
    }

    /// What the library tells of the connection itself.
    pub(super) fn events(&self) -> impl futures_util::Stream<Item = lapin::Event> + Send + 'static {
        self.link.connection.events_listener()
    }

    /// Whether the library still takes the connection for open.
    pub(super) fn is_connected(&self) -> bool {
        self.link.connection.status().connected()
    }

    /// Tells the workers whether the broker blocks us.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.phase.send_replace(if blocked { Phase::Blocked } else { Phase::Open });
    }

    /// Ends the workers, which answer for everything they have, and shuts the connection down.
    pub(super) async fn give_up(mut self) {
        self.phase.send_replace(Phase::Ended);
        self.link.shut();
        while self.workers.join_next().await.is_some() {}
    }

    /// Ends in peace: nobody waits for answers any more.
    pub(super) async fn close(self) {
        self.phase.send_replace(Phase::Ended);
        self.link.close().await;
    }
}
