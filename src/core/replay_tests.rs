//! One job's machine, step by step.

use super::{Effect, Input, Replay, discard, give_back, take};
use crate::{
    config::settings::Retry,
    core::lane::{Carried, LaneConfig},
    destinations::{Outcome, OutletState},
    domain::{
        DeadCause, EventId, Failure, FailureKind, Incarnation, OrderKey, Partition, Position, ReplayJob, RouteName,
        Timestamp,
    },
    journal::{LaneName, LaneRecord, Progress, ShelfChange, ShelfRow, ShelfState},
};
use std::time::Duration;

const JOB: ReplayJob = ReplayJob(7);
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn row(offset: u64, state: ShelfState, holds: bool) -> ShelfRow {
    let position = Position { partition: Partition(0), offset };
    ShelfRow {
        offset,
        route: Some(RouteName::parse("leads").unwrap()),
        event: EventId { received_at: NOW, position, incarnation: Incarnation(1) },
        order: Some(OrderKey(offset)),
        state,
        cause: Some(DeadCause::Unroutable),
        detail: "nobody is bound".into(),
        attempts: 5,
        first_at: NOW,
        last_at: NOW,
        holds,
    }
}

fn mine(offset: u64, holds: bool) -> (ShelfRow, &'static str) {
    (row(offset, ShelfState::Replaying(JOB), holds), "payload")
}

impl Carried for &'static str {
    fn bytes(&self) -> usize {
        self.len()
    }
}

fn replay(progress: Progress, left: u64) -> Replay<&'static str> {
    let config = LaneConfig {
        window: 10,
        read_ahead: 20,
        retry: Retry::default(),
        rate: None,
        receipts: true,
        shelf: true,
        common_cause: true,
        settle_every: Duration::ZERO,
        seed: 1,
    };
    let lane = LaneName::Replay(JOB);
    let record = LaneRecord { lane, partition: Partition(0), kind: "".into(), progress, parked: vec![], paused: false };
    Replay::new(JOB, config, &record, left)
}

fn step(replay: &mut Replay<&'static str>, input: Input<&'static str>) -> Vec<Effect<&'static str>> {
    let mut effects = Vec::new();
    replay.step(NOW, input, &mut effects);
    effects
}

#[test]
fn of_two_jobs_only_one_gets_a_dead_letter() {
    let shelf = [
        row(1, ShelfState::Dead, false),
        row(2, ShelfState::Parked, false),
        row(3, ShelfState::Replaying(ReplayJob(8)), false),
    ];
    let taken = take(JOB, &shelf);
    assert_eq!(taken, [ShelfChange::Put(row(1, ShelfState::Replaying(JOB), false))]);
    assert_eq!(give_back(JOB, &[row(1, ShelfState::Replaying(JOB), true)]).len(), 1);
    assert!(give_back(JOB, &shelf).is_empty(), "what others have is not given back");
    let (removed, released) = discard(&[row(1, ShelfState::Dead, true), shelf[2].clone()]);
    assert_eq!((removed.len(), released.as_slice()), (1, [OrderKey(1)].as_slice()));
}

#[test]
fn what_is_delivered_leaves_the_shelf_and_what_dies_again_is_a_dead_letter_again() {
    let mut replay = replay(Progress::default(), 2);
    step(&mut replay, Input::Outlet(OutletState::Up));
    let out = step(&mut replay, Input::Rows(vec![mine(4, true), mine(9, false)]));
    let published = out.iter().filter(|effect| matches!(effect, Effect::Publish { .. })).count();
    assert_eq!(published, 2);
    let failure = Failure { kind: FailureKind::Rejected(DeadCause::TooLarge), detail: "too large".into() };
    let ends = vec![(0, Outcome::Taken { answer: "ack".into() }), (1, Outcome::Failed(failure))];
    let out = step(&mut replay, Input::Outcomes(ends));
    let [Effect::Settle(settling)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(settling.released, [OrderKey(4)]);
    assert_eq!(settling.progress.watermark, 3);
    let [ShelfChange::Remove(4, Some(_)), ShelfChange::Put(dead)] = settling.shelf.as_slice() else {
        panic!("{:?}", settling.shelf)
    };
    let expected = (9, ShelfState::Dead, Some(DeadCause::TooLarge), 6);
    assert_eq!((dead.offset, dead.state, dead.cause, dead.attempts), expected);
    let out = step(&mut replay, Input::Settled);
    assert!(matches!(out.as_slice(), [Effect::Done]), "{out:?}");
}

#[test]
fn a_restart_counts_on_and_publishes_what_is_left() {
    let mut replay = replay(Progress { watermark: 3, beyond: vec![0b110], ..Progress::default() }, 1);
    let out = step(&mut replay, Input::Outlet(OutletState::Up));
    assert!(matches!(out.as_slice(), [Effect::Read { after: None, .. }]), "{out:?}");
    step(&mut replay, Input::Rows(vec![mine(9, false)]));
    let out = step(&mut replay, Input::Outcomes(vec![(0, Outcome::Taken { answer: "ack".into() })]));
    assert!(matches!(out.as_slice(), [Effect::Settle(settling)] if settling.progress.watermark == 6), "{out:?}");
}

#[test]
fn a_cancelled_job_waits_for_what_is_out_and_for_nothing_else() {
    let mut replay = replay(Progress::default(), 30);
    step(&mut replay, Input::Outlet(OutletState::Up));
    step(&mut replay, Input::Rows((1..=20).map(|offset| mine(offset, false)).collect()));
    assert_eq!(replay.status().in_flight, 10);
    let out = step(&mut replay, Input::Cancel);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::Done)));
    let unknown = |ticket| (ticket, Outcome::Failed(Failure { kind: FailureKind::Unknown, detail: "gone".into() }));
    let out = step(&mut replay, Input::Outcomes((0..10).map(unknown).collect()));
    assert!(matches!(out.as_slice(), [Effect::Done]), "{out:?}");
}

#[test]
fn a_job_that_is_still_fed_goes_on_with_what_comes_and_is_over_when_that_is_delivered() {
    let taken = |ticket| Input::Outcomes(vec![(ticket, Outcome::Taken { answer: "ack".into() })]);
    let mut replay = replay(Progress::default(), 0).to_be_fed();
    let out = step(&mut replay, Input::Outlet(OutletState::Up));
    assert!(out.is_empty(), "nothing to read, and not over: {out:?}");
    for (ticket, offset) in [(0, 9), (1, 4)] {
        let out = step(&mut replay, Input::Fed { more: 1, complete: offset == 4 });
        assert!(matches!(out.as_slice(), [Effect::Read { .. }]), "{out:?}");
        step(&mut replay, Input::Rows(vec![mine(offset, false)]));
        let out = step(&mut replay, taken(ticket));
        assert!(matches!(out.as_slice(), [Effect::Settle(_)]), "{out:?}");
        let out = step(&mut replay, Input::Settled);
        assert_eq!(matches!(out.as_slice(), [Effect::Done]), offset == 4, "{out:?}");
    }
}

#[test]
fn rows_that_are_not_there_do_not_keep_a_job_from_what_comes_later() {
    let mut replay = replay(Progress::default(), 3).to_be_fed();
    step(&mut replay, Input::Outlet(OutletState::Up));
    step(&mut replay, Input::Rows(Vec::new()));
    step(&mut replay, Input::Fed { more: 1, complete: true });
    let mut effects = Vec::new();
    replay.step(NOW.plus(Duration::from_secs(1)), Input::Tick, &mut effects);
    assert!(matches!(effects.as_slice(), [Effect::Read { .. }]), "{effects:?}");
}
