//! What a connection is doing and until when it may: read by the server's tick, which ends those that are overdue.
//!
//! A timer for every request would cost more than reading it. Instead each connection notes its deadline in a
//! [`Pulse`], and the server looks at all of them ten times a second and wakes the ones whose time is up. A
//! connection that is woken judges for itself whether it is overdue, so a note that changes meanwhile does no harm.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::{Duration, Instant},
};

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// How much longer than a quiet connection one may live that is sending an answer in pieces, once the server stops.
const STREAM_GRACE_MILLIS: u64 = 4_000;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for a request, or its last answer is on its way.
    Quiet = 0,
    /// A head has begun and not ended.
    Head = 1,
    /// A request is being answered; its own deadlines are with whoever answers.
    Busy = 2,
}

/// One connection's note.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Instant,
    header: Duration,
    idle: Duration,
    deadline: AtomicU64,
    phase: AtomicU8,
    nudged: AtomicBool,
    /// A head has begun: the one being read, or the next one, which came with the request in hand.
    head_begun: AtomicBool,
    /// No other request may follow on this connection.
    last: AtomicBool,
    /// An answer is sent in pieces.
    streaming: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Pulse {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Quiet,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    fn enter(&self, phase: Phase, time: Option<Duration>) {
        let deadline = time.map_or(NEVER, |time| millis(self.clock.elapsed() + time));
        self.deadline.store(deadline, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Bytes came in. `head` says whether a head is under way after them, `last` whether this request is the last.
    pub(super) fn received(&self, head: bool, last: bool) {
        if last {
            self.last.store(true, Relaxed);
        }
        self.head_begun.store(head, Relaxed);
        if head && self.phase() == Phase::Quiet {
            self.enter(Phase::Head, Some(self.header));
        }
    }

    /// Bytes went out.
    pub(super) fn sent(&self) {
        if self.is_streaming() && self.phase() == Phase::Quiet {
            self.enter(Phase::Quiet, Some(self.idle));
        }
    }

    /// A request's head is complete.
    pub(super) fn begin(&self) {
        self.enter(Phase::Busy, None);
    }

    /// The request's answer is ready to be sent.
    pub(super) fn answered(&self, streaming: bool) {
        if streaming {
            self.streaming.store(true, Relaxed);
        }
        if self.head_begun.load(Relaxed) {
            self.enter(Phase::Head, Some(self.header));
        } else {
            self.enter(Phase::Quiet, Some(self.idle));
        }
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Relaxed)
    }

    /// Whether the tick has woken this connection since it was last asked. `waker` is whom to wake.
    pub(super) fn nudged(&self, waker: &Waker) -> bool {
        self.waker.get_or_init(|| waker.clone());
        self.nudged.load(Relaxed) && self.nudged.swap(false, Relaxed)
    }
}

/// Every open connection of a server.
#[derive(Debug)]
pub(super) struct Pulses {
    clock: Instant,
    /// From then on quiet connections are overdue whatever their own deadline: the server stops.
    quiet_until: AtomicU64,
    draining: AtomicBool,
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    next: AtomicU64,
}

impl Pulses {
    pub(super) fn new() -> Self {
        Self {
            clock: Instant::now(),
            quiet_until: AtomicU64::new(NEVER),
            draining: AtomicBool::new(false),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Notes a new connection until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>, header: Duration, idle: Duration) -> OpenPulse {
        let pulse = Arc::new(Pulse {
            clock: self.clock,
            header,
            idle,
            deadline: AtomicU64::new(NEVER),
            phase: AtomicU8::new(Phase::Quiet as u8),
            nudged: AtomicBool::new(false),
            head_begun: AtomicBool::new(false),
            last: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        pulse.enter(Phase::Quiet, Some(idle));
        let id = self.next.fetch_add(1, Relaxed);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&pulse));
        OpenPulse { pulses: Arc::clone(self), id, pulse }
    }

    /// Whether every answer ends its connection.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Quiet connections end after `grace`.
    pub(super) fn stop(&self, grace: Duration) {
        self.drain();
        self.quiet_until.store(millis(self.clock.elapsed() + grace), Relaxed);
    }

    pub(super) fn is_overdue(&self, pulse: &Pulse) -> bool {
        self.overdue_at(pulse, millis(self.clock.elapsed()))
    }

    fn overdue_at(&self, pulse: &Pulse, now: u64) -> bool {
        let until = self.quiet_until.load(Relaxed);
        let until = if pulse.is_streaming() { until.saturating_add(STREAM_GRACE_MILLIS) } else { until };
        now >= pulse.deadline.load(Relaxed) || (pulse.phase() == Phase::Quiet && now >= until)
    }

    /// Wakes every connection that is overdue.
    pub(super) fn tick(&self) {
        let now = millis(self.clock.elapsed());
        for pulse in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if self.overdue_at(pulse, now) {
                pulse.nudged.store(true, Relaxed);
                if let Some(waker) = pulse.waker.get() {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

/// A noted connection; forgotten on drop.
#[derive(Debug)]
pub(super) struct OpenPulse {
    pulses: Arc<Pulses>,
    id: u64,
    pulse: Arc<Pulse>,
}

impl std::ops::Deref for OpenPulse {
    type Target = Pulse;

    fn deref(&self) -> &Pulse {
        &self.pulse
    }
}

impl Drop for OpenPulse {
    fn drop(&mut self) {
        self.pulses.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}
