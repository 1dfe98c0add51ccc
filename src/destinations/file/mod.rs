//! The file destination: one CloudEvents object a line, written and synced before it counts as delivered.
//!
//! A task owns the destination; the writing happens on a blocking thread. Whatever waits is one batch: one write,
//! one sync, then every line of it is [`Taken`](crate::destinations::Outcome::Taken). Small batches do not follow each
//! other at once, for a sync costs as much for one line as for a hundred; what comes after a pause waits for nothing.
//! After an error nothing of the batch counts, what is not synced is taken back, and the folder is
//! tried every second. A crash in between leaves lines that are written again: the duplicates that the contract
//! allows, at most one window of them.
//!
//! A folder has one writer in a process. A replay's outlet writes through the one that its destination's lane has open:
//! batches of the two take turns.

pub mod folder;
pub mod line;
mod writer;

use crate::{
    config::settings::FileFolder,
    destinations::{Common, Order, Outlet, OutletState, OutletTask, Report, Socket, outlet},
    domain::{Attempt, DestinationName, StopReason, Timestamp},
};
use std::{
    collections::BTreeMap,
    panic,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::mpsc::error::SendError, task, time};
use tracing::{info, warn};
use writer::{Writer, Written};

/// How often a folder that cannot be written is tried.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A small batch begins no sooner than this after the one before began.
///
/// Measured at 40,000 events a second: without it 35 lines shared a sync, with it 280, which saves a tenth of all CPU.
const SMALL_BATCH_EVERY: Duration = Duration::from_millis(5);
/// A batch of so many lines is not small: a sync costs next to nothing a line.
const LINES_ENOUGH: usize = 256;
/// A disk that takes longer than this for a batch is reported; it is waited for all the same.
const STALL: Duration = Duration::from_secs(30);

/// Starts a file destination.
#[must_use]
pub fn start(common: Common, settings: &FileFolder) -> (Outlet, OutletTask) {
    let (outlet, socket) = outlet(common.window);
    let writer = Arc::new(Mutex::new(Writer::new(settings.path.clone(), common.prefixes)));
    open_writers().insert(settings.path.clone(), Arc::downgrade(&writer));
    let task = Task { name: common.name, socket, state: None };
    (outlet, Box::pin(async move { task.run(Way::Own(writer)).await.unwrap_or_default() }))
}

/// Starts a second outlet of a file destination that runs already: it writes through the writer of the first.
#[must_use]
pub fn start_beside(common: Common, settings: &FileFolder) -> (Outlet, OutletTask) {
    let (outlet, socket) = outlet(common.window);
    let task = Task { name: common.name, socket, state: None };
    let way = Way::Beside(settings.path.clone());
    (outlet, Box::pin(async move { task.run(way).await.unwrap_or_default() }))
}

/// The writers of this process by folder: the newest where a reload replaced one.
static WRITERS: Mutex<BTreeMap<PathBuf, Weak<Mutex<Writer>>>> = Mutex::new(BTreeMap::new());

fn open_writers() -> std::sync::MutexGuard<'static, BTreeMap<PathBuf, Weak<Mutex<Writer>>>> {
    let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
    writers.retain(|_, writer| writer.strong_count() > 0);
    writers
}

/// How an outlet comes to its writer.
#[derive(Clone)]
enum Way {
    Own(Arc<Mutex<Writer>>),
    Beside(PathBuf),
}

impl Way {
    fn with(&self, work: impl FnOnce(&mut Writer) -> Written) -> Option<Written> {
        let writer = match self {
            Self::Own(writer) => Some(Arc::clone(writer)),
            Self::Beside(path) => writer_of(path),
        };
        writer.map(|writer| work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn writer_of(path: &Path) -> Option<Arc<Mutex<Writer>>> {
    open_writers().get(path).and_then(Weak::upgrade)
}

/// The outlet ends: the lane is gone, or the runtime is.
#[derive(Debug)]
struct Ended;

impl From<SendError<Report>> for Ended {
    fn from(_: SendError<Report>) -> Self {
        Self
    }
}

/// What to do next.
enum Next {
    Write(Vec<Attempt>),
    Probe,
}

struct Task {
    name: DestinationName,
    socket: Socket,
    /// What was reported last; `None` before the first report.
    state: Option<OutletState>,
}

impl Task {
    async fn run(mut self, way: Way) -> Result<(), Ended> {
        let mut next = Next::Probe;
        loop {
            let small_from = time::Instant::now() + SMALL_BATCH_EVERY;
            let written = self.work(way.clone(), next).await?;
            if !written.outcomes.is_empty() {
                self.socket.reports.send(Report::Outcomes(written.outcomes)).await?;
            }
            self.report(written.state).await?;
            next = self.next(small_from).await?;
        }
    }

    /// Waits for work. Everything that lies ready becomes one batch: at most a window, by the lane's promise. Before
    /// `small_from` a small one waits for more.
    async fn next(&mut self, small_from: time::Instant) -> Result<Next, Ended> {
        let up = self.state == Some(OutletState::Up);
        let order = tokio::select! {
            order = self.socket.orders.recv() => order.ok_or(Ended)?,
            () = time::sleep(PROBE_EVERY), if !up => return Ok(Next::Probe),
        };
        let mut batch = Vec::new();
        let mut order = Some(order);
        loop {
            while let Some(found) = order {
                match found {
                    Order::Publish(attempts) if batch.is_empty() => batch = attempts,
                    Order::Publish(attempts) => batch.extend(attempts),
                    // A batch asks the disk as well as a probe does.
                    Order::Probe => {}
                }
                order = self.socket.orders.try_recv().ok();
            }
            if batch.is_empty() {
                return Ok(Next::Probe);
            }
            if batch.len() >= LINES_ENOUGH {
                break;
            }
            // A lane that is gone sends no more, and what it has sent is still written.
            order = time::timeout_at(small_from, self.socket.orders.recv()).await.ok().flatten();
            if order.is_none() {
                break;
            }
        }
        Ok(Next::Write(batch))
    }

    /// Lets a blocking thread do it. Not cancel safe: a batch that is dropped half-way loses its outcomes.
    async fn work(&mut self, way: Way, next: Next) -> Result<Written, Ended> {
        let mut work = task::spawn_blocking(move || match next {
            Next::Write(batch) => {
                way.with(|writer| writer.write(&batch, Timestamp::now())).unwrap_or_else(|| Written::nowhere(&batch))
            }
            Next::Probe => way.with(Writer::probe).unwrap_or_else(|| Written::nowhere(&[])),
        });
        let done = loop {
            match time::timeout(STALL, &mut work).await {
                Ok(done) => break done,
                Err(_) => {
                    let words = format!("the disk has not answered for {} s", STALL.as_secs());
                    self.report(OutletState::Stopped(StopReason::Down, words.into())).await?;
                }
            }
        };
        done.map_err(|error| match error.try_into_panic() {
            Ok(bug) => panic::resume_unwind(bug),
            Err(_cancelled) => Ended,
        })
    }

    /// Tells the lane if there is news.
    async fn report(&mut self, state: OutletState) -> Result<(), Ended> {
        if self.state.as_ref() == Some(&state) {
            return Ok(());
        }
        match &state {
            OutletState::Up => info!(destination = %self.name, "the folder can be written"),
            OutletState::Stopped(reason, words) => {
                warn!(destination = %self.name, reason = reason.as_str(), "{words}; trying every second");
            }
        }
        self.state = Some(state.clone());
        Ok(self.socket.reports.send(Report::State { state, since: Timestamp::now() }).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::start;
    use crate::{
        config::settings::FileFolder,
        destinations::{
            Common, Order, Outcome, Outlet, OutletState, Report,
            fixtures::{attempt, event},
            message::TypePrefixes,
        },
        domain::{DestinationName, FailureKind, StopReason},
    };
    use std::{fs, path::Path, time::Duration};

    fn open(path: &Path) -> Outlet {
        let name = DestinationName::parse("out").unwrap();
        let common = Common { name, window: 64, prefixes: TypePrefixes::default() };
        let (outlet, task) = start(common, &FileFolder { path: path.to_owned() });
        tokio::spawn(task);
        outlet
    }

    async fn next(outlet: &mut Outlet) -> Report {
        let wait = tokio::time::timeout(Duration::from_secs(20), outlet.reports.recv());
        wait.await.expect("a report within 20 s").expect("the outlet lives")
    }

    async fn expect_state(outlet: &mut Outlet, good: impl Fn(&OutletState) -> bool) {
        match next(outlet).await {
            Report::State { state, .. } if good(&state) => {}
            other => panic!("{other:?}"),
        }
    }

    async fn publish(outlet: &mut Outlet, tickets: std::ops::Range<u64>) {
        let batch = tickets.map(|ticket| attempt(event("{}"), ticket, Vec::new())).collect();
        outlet.orders.send(Order::Publish(batch)).await.unwrap();
    }

    fn lines(path: &Path) -> usize {
        let files = fs::read_dir(path).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        files.map(|text| text.lines().count()).sum()
    }

    #[tokio::test]
    async fn what_is_taken_stands_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/out");
        let mut outlet = open(&path);
        expect_state(&mut outlet, |state| *state == OutletState::Up).await;
        publish(&mut outlet, 1..4).await;
        let Report::Outcomes(outcomes) = next(&mut outlet).await else { panic!("no outcomes") };
        let tickets: Vec<u64> = outcomes.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, [1, 2, 3]);
        for (_, outcome) in outcomes {
            let Outcome::Taken { answer } = outcome else { panic!("{outcome:?}") };
            assert!(path.join(&*answer).is_file(), "{answer}");
        }
        assert_eq!(lines(&path), 3);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_stops_the_lane_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "in the way").unwrap();
        let mut outlet = open(&path);
        let down = |state: &OutletState| matches!(state, OutletState::Stopped(StopReason::Down, words) if words.contains("out"));
        expect_state(&mut outlet, down).await;
        publish(&mut outlet, 1..2).await;
        let Report::Outcomes(outcomes) = next(&mut outlet).await else { panic!("no outcomes") };
        let Some((1, Outcome::Failed(failure))) = outcomes.first() else { panic!("{outcomes:?}") };
        assert_eq!(failure.kind, FailureKind::Lane(StopReason::Down));
        fs::remove_file(&path).unwrap();
        expect_state(&mut outlet, |state| *state == OutletState::Up).await;
        publish(&mut outlet, 1..2).await;
        assert!(matches!(next(&mut outlet).await, Report::Outcomes(_)));
        assert_eq!(lines(&path), 1);
    }

    #[tokio::test]
    async fn two_destinations_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path());
        expect_state(&mut first, |state| *state == OutletState::Up).await;
        let mut second = open(folder.path());
        let taken = |state: &OutletState| matches!(state, OutletState::Stopped(StopReason::Misconfigured, _));
        expect_state(&mut second, taken).await;
        drop(first);
        expect_state(&mut second, |state| *state == OutletState::Up).await;
    }

    #[tokio::test]
    async fn a_second_outlet_of_one_destination_takes_turns_with_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path());
        expect_state(&mut first, |state| *state == OutletState::Up).await;
        let common =
            Common { name: DestinationName::parse("out").unwrap(), window: 64, prefixes: TypePrefixes::default() };
        let (mut second, task) = super::start_beside(common, &FileFolder { path: folder.path().to_owned() });
        tokio::spawn(task);
        expect_state(&mut second, |state| *state == OutletState::Up).await;
        for round in 1..=3 {
            publish(&mut first, 1..4).await;
            publish(&mut second, 1..4).await;
            assert!(matches!(next(&mut first).await, Report::Outcomes(_)));
            assert!(matches!(next(&mut second).await, Report::Outcomes(_)));
            assert_eq!(lines(folder.path()), round * 6);
        }
        drop(first);
        let down = |state: &OutletState| matches!(state, OutletState::Stopped(StopReason::Down, _));
        tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                publish(&mut second, 1..2).await;
                if !matches!(next(&mut second).await, Report::Outcomes(outcomes) if matches!(outcomes[0].1, Outcome::Taken { .. })) {
                    break;
                }
            }
        })
        .await
        .expect("without the first there is no writer");
        expect_state(&mut second, down).await;
    }
}
