//! What is to be seen of a lane from outside: for the admin API, the console and the metrics.

use crate::{
    core::lane::{LaneState, NOT_YET, Status},
    domain::{DestinationName, Timestamp},
    journal::LaneName,
    metrics::{Metrics, OfState},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A lane at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneView {
    /// The lane.
    pub name: LaneName,
    /// The destination's `type`; empty for the router and the morgue.
    pub kind: Box<str>,
    /// Whether it publishes.
    pub state: LaneState,
    /// Whether its destination is not in `routes.yaml` any more.
    pub orphaned: bool,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// What last went wrong, in the other side's words.
    pub last_error: Option<Box<str>>,
    /// The first row that is not settled.
    pub watermark: u64,
    /// Rows before it.
    pub lag_events: u64,
    /// The age of the oldest of them.
    pub lag: Duration,
    /// Deliveries that are out.
    pub in_flight: usize,
    /// Keys on the shelf.
    pub parked_keys: usize,
}

impl LaneView {
    /// The word for its state.
    #[must_use]
    pub fn state_word(&self) -> &'static str {
        match &self.state {
            _ if self.orphaned => "orphaned",
            LaneState::Up => "up",
            LaneState::Paused => "paused",
            LaneState::Stopped(reason, _) => reason.as_str(),
        }
    }
}

/// A lane's view, shared with whoever wants to look.
#[derive(Debug, Clone)]
pub struct SharedView(Arc<Mutex<LaneView>>);

impl SharedView {
    /// The view of a lane that has not begun.
    #[must_use]
    pub fn new(name: LaneName, kind: &str, orphaned: bool, now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(LaneView {
            name,
            kind: kind.into(),
            state: LaneState::Stopped(crate::domain::StopReason::Down, "starting".into()),
            orphaned,
            since: now,
            last_error: None,
            watermark: 0,
            lag_events: 0,
            lag: Duration::ZERO,
            in_flight: 0,
            parked_keys: 0,
        })))
    }

    /// The lane as it was last seen.
    #[must_use]
    pub fn get(&self) -> LaneView {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the lane was last seen in this state.
    #[must_use]
    pub fn is_in(&self, state: &LaneState) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).state == *state
    }

    /// Notes what the lane says of itself; says whether its state changed.
    pub fn update(&self, status: Status, lag: (u64, Duration), now: Timestamp) -> bool {
        let mut view = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = view.state != status.state;
        if changed {
            if let LaneState::Stopped(_, detail) = &status.state
                && **detail != *NOT_YET
            {
                view.last_error = Some(detail.clone());
            }
            view.state = status.state;
            view.since = now;
        }
        view.watermark = status.watermark;
        (view.lag_events, view.lag) = lag;
        view.in_flight = status.in_flight;
        view.parked_keys = status.parked_keys;
        changed
    }

    /// Marks the lane's destination as gone from `routes.yaml`, or back.
    pub fn orphan(&self, orphaned: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).orphaned = orphaned;
    }

    /// Sets a destination's gauges.
    pub fn export(&self, destination: &DestinationName, metrics: &Metrics) {
        let view = self.get();
        let label = Metrics::of(destination);
        metrics.lag_events.get_or_create(&label).set(i64::try_from(view.lag_events).unwrap_or(i64::MAX));
        metrics.lag_seconds.get_or_create(&label).set(view.lag.as_secs_f64());
        metrics.parked_keys.get_or_create(&label).set(i64::try_from(view.parked_keys).unwrap_or(i64::MAX));
        for state in ["up", "paused", "down", "blocked", "misconfigured", "orphaned"] {
            let label = OfState { destination: destination.to_string(), state };
            metrics.destination_state.get_or_create(&label).set(i64::from(state == view.state_word()));
        }
    }
}
