//! The writer: one thread that appends to both logs of a partition, everything that waits in one transaction.
//!
//! There is no timer: while one batch is synced, the next one gathers. A batch's events are visible to readers, then its
//! senders are answered. When a sync fails, nobody is answered 200 any more, and the caller is told to stop the process.

use crate::{
    core::intake::{Done, Intake},
    domain::{NewEvent, Offset},
    ingress::{Accept, Answer, Busy},
    journal::{Appender, Heads, Log, NewRouted, WriteError, ids::SealedIds, tail::TailAppender},
    metrics::Metrics,
};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Pushes and rows that wait for the writer at most; beyond, pushes are answered 503.
///
/// More than the connections that one box serves well, so that it is reached only when the disk stands still.
const QUEUE: usize = 16_384;

/// What became of a router's rows.
#[derive(Debug)]
pub enum RowsEnd {
    /// They stand in ROUTED, from this number on.
    Appended(Vec<u64>, Offset),
    /// They found no room and come back.
    NoRoom(Vec<u64>, Vec<NewRouted>),
}

/// The tries that a batch of rows answers, and who hears of it.
type RowsToken = (Vec<u64>, mpsc::Sender<RowsEnd>);

enum Message {
    Offer(NewEvent, oneshot::Sender<Answer>),
    Rows(Vec<NewRouted>, RowsToken),
    Sealed(Offset),
    Stop,
}

/// The way to the writer. Clones share it.
#[derive(Debug, Clone)]
pub struct Writer {
    sender: SyncSender<Message>,
    heads: watch::Receiver<Heads>,
}

impl Accept for Writer {
    fn offer(&self, event: NewEvent, answer: oneshot::Sender<Answer>) -> Result<(), Busy> {
        self.sender.try_send(Message::Offer(event, answer)).map_err(|_| Busy)
    }
}

impl Writer {
    /// Hands rows over; what becomes of them is sent to `end`. Gives them back when the queue is full or the writer gone.
    ///
    /// # Errors
    /// The rows.
    pub fn append(
        &self,
        tickets: Vec<u64>,
        rows: Vec<NewRouted>,
        end: &mpsc::Sender<RowsEnd>,
    ) -> Result<(), (Vec<u64>, Vec<NewRouted>)> {
        self.sender.try_send(Message::Rows(rows, (tickets, end.clone()))).map_err(|error| match error {
            TrySendError::Full(Message::Rows(rows, (tickets, _)))
            | TrySendError::Disconnected(Message::Rows(rows, (tickets, _))) => (tickets, rows),
            TrySendError::Full(_) | TrySendError::Disconnected(_) => (Vec::new(), Vec::new()),
        })
    }

    /// The segments before this event are sealed: their ids are found on disk.
    pub fn sealed(&self, first: Offset) {
        // If the writer is gone there is no map to shrink.
        let _ = self.sender.send(Message::Sealed(first));
    }

    /// Lets the writer finish what it has and end.
    pub fn stop(&self) {
        let _ = self.sender.send(Message::Stop);
    }

    /// The next row of each log: changes with every commit.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Heads> {
        self.heads.clone()
    }
}

/// Starts the writer of a partition. The thread ends with an error when the store cannot go on: then the process must stop.
///
/// # Errors
/// When the system gives no thread.
pub fn start<A, L, S>(
    appender: TailAppender<A, L>,
    intake: Intake<S, oneshot::Sender<Answer>, RowsToken>,
    rolled: impl FnMut(Offset) + Send + 'static,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Writer, JoinHandle<Result<(), WriteError>>)>
where
    A: Appender + 'static,
    L: Log + 'static,
    S: SealedIds + 'static,
{
    let (sender, receiver) = sync_channel(QUEUE);
    let (heads_out, heads) = watch::channel(appender.heads());
    let segment = appender.segment_start();
    let rolled = Box::new(rolled);
    let thread = WriterThread { appender, intake, heads: heads_out, segment, rolled, done: Vec::new(), metrics };
    let join = thread::Builder::new().name("writer".into()).spawn(move || thread.run(&receiver))?;
    Ok((Writer { sender, heads }, join))
}

struct WriterThread<A, L: Log, S> {
    appender: TailAppender<A, L>,
    intake: Intake<S, oneshot::Sender<Answer>, RowsToken>,
    heads: watch::Sender<Heads>,
    segment: Offset,
    rolled: Box<dyn FnMut(Offset) + Send>,
    done: Vec<Done<oneshot::Sender<Answer>, RowsToken>>,
    metrics: Arc<Metrics>,
}

impl<A: Appender, L: Log, S: SealedIds> WriterThread<A, L, S> {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<(), WriteError> {
        while let Ok(message) = receiver.recv() {
            let mut go_on = self.take(message);
            while go_on && !self.intake.is_full() {
                match receiver.try_recv() {
                    Ok(message) => go_on = self.take(message),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => go_on = false,
                }
            }
            self.write()?;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Takes a message into the open batch; says whether to go on.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Offer(event, answer) => {
                if let Some((answer, what)) = self.intake.offer(event, answer) {
                    self.metrics.duplicates.inc();
                    // Whoever asked is gone: the re-send will find it stored.
                    let _ = answer.send(what);
                }
            }
            Message::Rows(rows, token) => self.intake.add_rows(rows, token),
            Message::Sealed(first) => self.intake.sealed(first),
            Message::Stop => return false,
        }
        true
    }

    /// Appends what has gathered. After a lack of room the decisions are tried once more, alone.
    fn write(&mut self) -> Result<(), WriteError> {
        while !self.intake.is_empty() {
            let batch = self.intake.take_batch();
            let (events, conflicts) =
                (batch.events.len(), batch.events.iter().filter(|(_, conflict)| *conflict).count());
            let began = Instant::now();
            match self.appender.append(batch) {
                Ok(appended) => {
                    self.metrics.sync_seconds.observe(began.elapsed().as_secs_f64());
                    self.metrics.accepted.inc_by(events as u64);
                    self.metrics.id_conflicts.inc_by(conflicts as u64);
                    // First, so that the ids of a batch that begins a segment are kept as long as that segment's.
                    self.notice_roll();
                    self.intake.committed(appended, &mut self.done);
                    self.heads.send_replace(self.appender.heads());
                }
                Err((WriteError::Full(why), batch)) => {
                    tracing::warn!(%why, events, "the store has no room: pushes are answered 503");
                    self.intake.no_room(batch, &mut self.done);
                }
                Err((error @ (WriteError::Sync(_) | WriteError::Fenced), _)) => {
                    self.intake.stopped(&mut self.done);
                    self.tell();
                    return Err(error);
                }
            }
            self.tell();
        }
        Ok(())
    }

    fn notice_roll(&mut self) {
        let segment = self.appender.segment_start();
        if segment != self.segment {
            self.segment = segment;
            self.intake.rolled(segment);
            (self.rolled)(segment);
        }
    }

    fn tell(&mut self) {
        for done in self.done.drain(..) {
            match done {
                // Whoever asked may be gone: a re-send will find it stored.
                Done::Answer(sender, answer) => drop(sender.send(answer)),
                Done::Appended((tickets, end), first) => drop(end.try_send(RowsEnd::Appended(tickets, first))),
                Done::NoRoom((tickets, end), rows) => drop(end.try_send(RowsEnd::NoRoom(tickets, rows))),
            }
        }
    }
}
