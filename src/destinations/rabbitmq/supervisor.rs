//! Connects, watches one session after the other, and tells the lane in which state the destination is.

use crate::{
    config::settings::RabbitMq,
    destinations::{
        Common, Order, Outcome, OutletState, Report, Socket,
        rabbitmq::{
            Timing,
            envelope::short,
            exchange::Mode,
            link::Link,
            session::{Needs, Note, Session},
            trouble::Trouble,
            verdict::failed,
        },
    },
    domain::{Attempt, FailureKind, StopReason, Timestamp},
};
use futures_util::StreamExt;
use lapin::{Event, types::ShortString};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::error::SendError,
    time::{self, Instant},
};
use tracing::{info, warn};

/// Pauses between connections are drawn from zero to a limit that doubles from the first to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest pause when the broker is there and does not let us in: it logs every try.
const PAUSE_REFUSED_MAX: Duration = Duration::from_secs(15);
/// The pause before the first look at an exchange that was refused; it doubles up to the longest.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(10);
/// A session that was up for this long has shown that the broker is well.
const PROVEN: Duration = Duration::from_secs(10);
/// How many routing keys are tried when looking at an exchange that refused something.
const KEYS_MAX: usize = 64;

/// The lane is gone.
#[derive(Debug)]
struct Ended;

impl From<SendError<Report>> for Ended {
    fn from(_: SendError<Report>) -> Self {
        Self
    }
}

pub(super) struct Supervisor {
    common: Common,
    settings: RabbitMq,
    timing: Timing,
    socket: Socket,
    /// Counts connections.
    sessions: Arc<AtomicU64>,
    /// What was reported last; `None` before the first report.
    state: Option<OutletState>,
    /// Whether the exchange was declared since the start, or since somebody asked for it. Until it is, each look
    /// declares it; afterwards none does.
    declared: bool,
}

/// Where a session stands.
struct Stage {
    /// Why the exchange takes nothing, or has not been seen to take anything.
    refused: Option<Box<str>>,
    /// The exchange was seen since the session began, or since it was refused.
    seen: bool,
    blocked: Option<Box<str>>,
    /// Whether tries are handed to the workers.
    up: bool,
    checking: Option<Mode>,
    look_at: Instant,
    looks: u32,
    /// Somebody asked for a look that has not begun.
    asked: bool,
    /// Routing keys that were refused.
    keys: Vec<ShortString>,
}

impl Stage {
    fn refuse(&mut self, words: Option<Box<str>>) {
        self.seen = false;
        self.up = false;
        self.refused = words.or(self.refused.take()).or(Some("the broker refuses a publish to the exchange".into()));
        self.look_at = Instant::now() + doubled(LOOK_FIRST, self.looks, LOOK_MAX);
        self.looks += 1;
    }

    /// What the lane should know; `None` while there is nothing to say yet.
    fn state(&self) -> Option<OutletState> {
        if let Some(words) = &self.refused {
            return Some(OutletState::Stopped(StopReason::Misconfigured, words.clone()));
        }
        if let Some(words) = &self.blocked {
            return Some(OutletState::Stopped(StopReason::Blocked, words.clone()));
        }
        self.up.then_some(OutletState::Up)
    }
}

/// What woke a session up.
enum Woken {
    Order(Option<Order>),
    Note(Note),
    Event(Option<Event>),
    Look,
    Settled,
}

impl Supervisor {
    pub(super) fn new(
        common: Common,
        settings: RabbitMq,
        timing: Timing,
        socket: Socket,
        sessions: Arc<AtomicU64>,
    ) -> Self {
        Self { common, settings, timing, socket, sessions, state: None, declared: false }
    }

    /// Lives until the lane is gone.
    pub(super) async fn run(mut self) {
        let (mut failures, mut turn) = (0_u32, 0_usize);
        loop {
            let Ok((trouble, up_for)) = self.live_once(turn).await else { return };
            failures = if up_for >= PROVEN { 0 } else { failures.saturating_add(1) };
            turn = turn.wrapping_add(1);
            let max = match trouble {
                Trouble::Misconfigured(_) => PAUSE_REFUSED_MAX,
                _ => PAUSE_MAX,
            };
            let pause = doubled(PAUSE_FIRST, failures, max).mul_f64(fastrand::f64());
            if self.rest(pause).await.is_err() {
                return;
            }
        }
    }

    /// Connects to the broker whose turn it is, and stays as long as the connection does.
    async fn live_once(&mut self, turn: usize) -> Result<(Trouble, Duration), Ended> {
        let (trouble, up_for) = match self.connect(turn).await? {
            Ok((link, exchange)) => self.attend(link, exchange).await?,
            Err(trouble) => {
                self.report(stopped(&trouble)).await?;
                (trouble, Duration::ZERO)
            }
        };
        Ok((trouble, up_for))
    }

    async fn connect(&mut self, turn: usize) -> Result<Result<(Link, ShortString), Trouble>, Ended> {
        let exchange = match short("the exchange's name", &self.settings.exchange.name) {
            Ok(exchange) => exchange,
            Err(failure) => return Ok(Err(Trouble::Misconfigured(failure.detail))),
        };
        let (settings, name) = (self.settings.clone(), self.common.name.clone());
        let Some(url) = settings.urls.iter().cycle().nth(turn % settings.urls.len().max(1)) else {
            return Ok(Err(Trouble::Misconfigured("there is no url".into())));
        };
        let mut open = pin!(Link::open(url, &settings, &name));
        loop {
            tokio::select! {
                opened = &mut open => return Ok(opened.map(|link| (link, exchange))),
                order = self.socket.orders.recv() => self.refuse(order.ok_or(Ended)?).await?,
            }
        }
    }

    /// Pauses, unless the lane wants to know at once.
    async fn rest(&mut self, pause: Duration) -> Result<(), Ended> {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = time::sleep_until(until) => return Ok(()),
                order = self.socket.orders.recv() => match order.ok_or(Ended)? {
                    Order::Probe => {
                        self.declared = false;
                        return Ok(());
                    }
                    order @ Order::Publish(_) => self.refuse(order).await?,
                },
            }
        }
    }

    /// Attends to a connection until it is given up; says why, and how long it had been up.
    async fn attend(&mut self, link: Link, exchange: ShortString) -> Result<(Trouble, Duration), Ended> {
        let needs = Needs {
            exchange,
            mandatory: self.settings.mandatory,
            prefixes: self.common.prefixes.clone(),
            reports: self.socket.reports.clone(),
            window: self.common.window,
            timing: self.timing,
        };
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let mut session = Session::start(link, needs);
        match self.watch(&mut session).await {
            Err(Ended) => {
                session.close().await;
                Err(Ended)
            }
            Ok(trouble) => {
                // First the state, so that the lane hands nothing more over; then the answers.
                let told = self.report(stopped(&trouble)).await;
                session.give_up().await;
                told.map(|()| (trouble, began.elapsed()))
            }
        }
    }

    async fn watch(&mut self, session: &mut Session) -> Result<Trouble, Ended> {
        let mut events = pin!(session.events());
        let in_flight = session.in_flight.clone();
        let now = Instant::now();
        let mut stage = Stage {
            refused: None,
            seen: false,
            blocked: None,
            up: false,
            checking: None,
            look_at: now,
            looks: 0,
            asked: false,
            keys: Vec::new(),
        };
        self.look(session, &mut stage);
        loop {
            let may_look = (!stage.seen || stage.asked) && stage.blocked.is_none() && stage.checking.is_none();
            let look_at = if stage.asked { now } else { stage.look_at };
            let settles = stage.seen && stage.blocked.is_none() && !stage.up;
            let woken = tokio::select! {
                order = self.socket.orders.recv() => Woken::Order(order),
                note = session.note() => Woken::Note(note),
                event = events.next() => Woken::Event(event),
                () = time::sleep_until(look_at), if may_look => Woken::Look,
                () = in_flight.emptied(), if settles => Woken::Settled,
            };
            match woken {
                Woken::Order(None) => return Err(Ended),
                Woken::Order(Some(Order::Probe)) => (self.declared, stage.asked) = (false, true),
                Woken::Order(Some(Order::Publish(attempts))) if stage.up => self.hand_out(session, attempts).await?,
                Woken::Order(Some(order)) => self.refuse(order).await?,
                Woken::Note(Note::Lost(words)) => return Ok(Trouble::Connection(words)),
                Woken::Note(Note::Refused { words, keys }) => {
                    stage.keys.extend(keys);
                    stage.keys.sort_unstable();
                    stage.keys.dedup();
                    stage.keys.truncate(KEYS_MAX);
                    stage.refuse(Some(words));
                }
                Woken::Note(Note::Checked(checked)) => {
                    if let Some(trouble) = self.checked(&mut stage, checked) {
                        return Ok(trouble);
                    }
                }
                Woken::Event(Some(Event::ConnectionBlocked(words))) => {
                    (stage.up, stage.blocked) = (false, Some(words.into()));
                    session.set_blocked(true);
                }
                Woken::Event(Some(Event::ConnectionUnblocked)) => {
                    stage.blocked = None;
                    session.set_blocked(false);
                }
                // Also told of channels that were closed; those are the workers' concern.
                Woken::Event(Some(Event::Error(error))) if !session.is_connected() => {
                    return Ok(Trouble::Connection(Trouble::of(&error).words().into()));
                }
                Woken::Event(Some(_)) => {}
                Woken::Event(None) => return Ok(Trouble::Connection("the connection is gone".into())),
                Woken::Look => self.look(session, &mut stage),
                Woken::Settled => stage.up = true,
            }
            if let Some(state) = stage.state() {
                self.report(state).await?;
            }
        }
    }

    fn look(&self, session: &mut Session, stage: &mut Stage) {
        let mode = if self.declared { Mode::Look } else { Mode::Declare };
        (stage.checking, stage.asked) = (Some(mode), false);
        session.check(&self.settings.exchange, mode, stage.keys.clone());
    }

    /// Takes in what a look at the exchange brought; gives back what ends the connection.
    fn checked(&mut self, stage: &mut Stage, checked: Result<(), Trouble>) -> Option<Trouble> {
        let mode = stage.checking.take();
        match checked {
            Ok(()) => {
                // Asked for once more meanwhile: it may have gone since.
                self.declared |= mode == Some(Mode::Declare) && !stage.asked;
                (stage.seen, stage.refused, stage.looks) = (true, None, 0);
                stage.keys.clear();
            }
            Err(Trouble::Misconfigured(words) | Trouble::Message(words)) => stage.refuse(Some(words)),
            Err(Trouble::Channel(_)) => stage.refuse(None),
            // A broker that blocks us does not answer; that is no reason to leave it.
            Err(Trouble::Connection(_)) if stage.blocked.is_some() => stage.look_at = Instant::now() + LOOK_FIRST,
            Err(trouble @ Trouble::Connection(_)) => return Some(trouble),
        }
        None
    }

    async fn hand_out(&mut self, session: &mut Session, attempts: Vec<Attempt>) -> Result<(), Ended> {
        let refused: Vec<(u64, Outcome)> = attempts
            .into_iter()
            .filter_map(|attempt| session.publish(attempt).err())
            .map(|attempt| (attempt.ticket, failed(FailureKind::Nacked, "more tries are out than the window allows")))
            .collect();
        if !refused.is_empty() {
            self.socket.reports.send(Report::Outcomes(refused)).await?;
        }
        Ok(())
    }

    /// Answers an order that cannot be carried out now; a look that is asked for will come, and declare.
    async fn refuse(&mut self, order: Order) -> Result<(), Ended> {
        let Order::Publish(attempts) = order else {
            self.declared = false;
            return Ok(());
        };
        let (reason, words) = match &self.state {
            Some(OutletState::Stopped(reason, words)) => (*reason, words.clone()),
            Some(OutletState::Up) | None => (StopReason::Down, "not connected yet".into()),
        };
        let refused = |attempt: Attempt| (attempt.ticket, failed(FailureKind::Lane(reason), &words));
        let outcomes = attempts.into_iter().map(refused).collect();
        Ok(self.socket.reports.send(Report::Outcomes(outcomes)).await?)
    }

    /// Tells the lane if there is news.
    async fn report(&mut self, state: OutletState) -> Result<(), Ended> {
        if self.state.as_ref() == Some(&state) {
            return Ok(());
        }
        let name = &self.common.name;
        match &state {
            OutletState::Up => info!(destination = %name, "RabbitMQ takes messages"),
            OutletState::Stopped(reason, words) => {
                warn!(destination = %name, reason = reason.as_str(), "RabbitMQ takes no messages: {words}");
            }
        }
        self.state = Some(state.clone());
        Ok(self.socket.reports.send(Report::State { state, since: Timestamp::now() }).await?)
    }
}

fn stopped(trouble: &Trouble) -> OutletState {
    let reason = match trouble {
        Trouble::Misconfigured(_) => StopReason::Misconfigured,
        Trouble::Connection(_) | Trouble::Message(_) | Trouble::Channel(_) => StopReason::Down,
    };
    OutletState::Stopped(reason, trouble.words().into())
}

fn doubled(first: Duration, doublings: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << doublings.min(16)).min(max)
}
