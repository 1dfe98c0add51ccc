//! The state keeper: one thread that makes settlements durable, all lanes' that wait in one transaction.
//!
//! Requests are carried out in the order they came: a shelf is read only after the settlements asked for before it.

use crate::{
    domain::{OrderKey, Partition},
    journal::{LaneName, LaneRecord, ReadError, Settlement, ShelfRow, State, WriteError},
};
use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};
use tokio::sync::oneshot;

/// Requests that wait for the keeper at most. Each lane has one settlement out at a time, and few loads.
const QUEUE: usize = 4_096;

/// The state is not kept any more: the process is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state is not kept any more")]
pub struct Gone;

/// How a settlement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is durable.
    Done,
    /// There was no room for it, or another write went on: to be tried again.
    NoRoom,
}

enum Request<S> {
    Settle(Settlement, oneshot::Sender<Settled>),
    Load(LaneName, Partition, OrderKey, usize, oneshot::Sender<Result<Vec<ShelfRow>, ReadError>>),
    With(Box<dyn FnOnce(&mut S) + Send>),
    Stop,
}

/// The way to the state keeper. Clones share it.
#[derive(Debug)]
pub struct Keeper<S> {
    sender: SyncSender<Request<S>>,
}

impl<S> Clone for Keeper<S> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<S: State + 'static> Keeper<S> {
    /// Starts the keeper's thread. It ends with an error when the state cannot be kept: then the process must stop.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(state: S) -> std::io::Result<(Self, JoinHandle<Result<(), WriteError>>)> {
        let (sender, receiver) = sync_channel(QUEUE);
        let join = thread::Builder::new().name("state".into()).spawn(move || run(state, &receiver))?;
        Ok((Self { sender }, join))
    }

    /// Hands a settlement over. The receiver fails when the keeper is gone.
    pub fn settle(&self, settlement: Settlement) -> oneshot::Receiver<Settled> {
        let (end, ended) = oneshot::channel();
        // A keeper that is gone drops the sender: the caller hears it from the receiver.
        let _ = self.sender.send(Request::Settle(settlement, end));
        ended
    }

    /// Asks for the first rows of a parked key.
    pub fn load(
        &self,
        lane: LaneName,
        partition: Partition,
        order: OrderKey,
        rows: usize,
    ) -> oneshot::Receiver<Result<Vec<ShelfRow>, ReadError>> {
        let (end, ended) = oneshot::channel();
        let _ = self.sender.send(Request::Load(lane, partition, order, rows, end));
        ended
    }

    /// Does something with the state between two transactions, and waits for the result.
    ///
    /// # Errors
    /// [`Gone`] when the keeper has ended.
    pub async fn with<R: Send + 'static>(&self, work: impl FnOnce(&mut S) -> R + Send + 'static) -> Result<R, Gone> {
        let (end, ended) = oneshot::channel();
        let work = Box::new(move |state: &mut S| drop(end.send(work(state))));
        self.sender.send(Request::With(work)).map_err(|_| Gone)?;
        ended.await.map_err(|_| Gone)
    }

    /// Registers lanes that are new.
    ///
    /// # Errors
    /// [`Gone`] when the keeper has ended; the inner [`WriteError`] when they could not be written.
    pub async fn register(&self, lanes: Vec<LaneRecord>) -> Result<Result<(), WriteError>, Gone> {
        self.with(move |state| state.register(&lanes)).await
    }

    /// Lets the keeper finish what was asked for and end.
    pub fn stop(&self) {
        let _ = self.sender.send(Request::Stop);
    }
}

fn run<S: State>(mut state: S, receiver: &Receiver<Request<S>>) -> Result<(), WriteError> {
    let mut settlements = Vec::new();
    let mut ends = Vec::new();
    while let Ok(request) = receiver.recv() {
        let mut next = Some(request);
        while let Some(request) = next {
            if let Request::Settle(settlement, end) = request {
                settlements.push(settlement);
                ends.push(end);
            } else {
                settle(&mut state, &mut settlements, &mut ends)?;
                match request {
                    Request::Load(lane, partition, order, rows, end) => {
                        drop(end.send(state.parked(&lane, partition, order, rows)));
                    }
                    Request::With(work) => work(&mut state),
                    Request::Stop => return Ok(()),
                    Request::Settle(..) => {}
                }
            }
            next = receiver.try_recv().ok();
        }
        settle(&mut state, &mut settlements, &mut ends)?;
    }
    Ok(())
}

fn settle<S: State>(
    state: &mut S,
    settlements: &mut Vec<Settlement>,
    ends: &mut Vec<oneshot::Sender<Settled>>,
) -> Result<(), WriteError> {
    if settlements.is_empty() {
        return Ok(());
    }
    let end = match state.settle(settlements) {
        Ok(()) => Settled::Done,
        Err(WriteError::Full(why)) => {
            tracing::warn!(%why, "receipts cannot be stored now: lanes wait");
            Settled::NoRoom
        }
        Err(error) => return Err(error),
    };
    settlements.clear();
    // A lane that is gone does not wait.
    for sender in ends.drain(..) {
        let _ = sender.send(end);
    }
    Ok(())
}
