//! The lane, input by input.

use super::{COMMON_CAUSE_KEYS, Carried, Effect, HELD_BYTES_MAX, Input, Item, Lane, LaneConfig, LaneState, Settling};
use crate::{
    config::settings::{OnDead, Rate, Retry},
    destinations::{Outcome, OutletState},
    domain::{
        DeadCause, EventId, Failure, FailureKind, Incarnation, Offset, OrderKey, Partition, Position, RouteName,
        StopReason, Timestamp,
    },
    journal::{Ending, LaneName, LaneRecord, ParkedKey, Progress, ShelfChange, ShelfState},
};
use std::{sync::Arc, time::Duration};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

fn config() -> LaneConfig {
    LaneConfig {
        window: 4,
        read_ahead: 12,
        retry: Retry::default(),
        rate: None,
        receipts: true,
        shelf: true,
        common_cause: true,
        settle_every: Duration::ZERO,
        seed: 1,
    }
}

fn item(offset: Offset, key: u64) -> Item<u64> {
    let position = Position { partition: Partition(0), offset };
    Item {
        offset,
        route: Some(RouteName::parse("leads").unwrap()),
        event: EventId { received_at: NOW, position, incarnation: Incarnation(1) },
        order: Some(OrderKey(key)),
        received_at: NOW,
        on_dead: OnDead::Continue,
        payload: offset,
    }
}

/// What a test's lane hands out is its row, with its megabytes above.
impl Carried for u64 {
    fn bytes(&self) -> usize {
        usize::try_from(*self >> 32).unwrap() << 20
    }
}

/// What is stored of a lane that did nothing yet.
fn record() -> LaneRecord {
    LaneRecord {
        lane: LaneName::Morgue,
        partition: Partition(0),
        kind: "".into(),
        progress: Progress { watermark: 1, ..Progress::default() },
        parked: vec![],
        paused: false,
    }
}

/// A lane at work, and the tries that are out.
struct Bench {
    lane: Lane<u64>,
    now: Timestamp,
    out: Vec<(u64, u64)>,
    settling: Option<Arc<Settling>>,
    loads: Vec<OrderKey>,
    /// Rows asked for.
    reads: Vec<usize>,
}

impl Bench {
    /// A lane whose destination is up.
    fn of(config: LaneConfig, record: &LaneRecord) -> Self {
        let lane = Lane::new(config, record);
        let mut bench = Self { lane, now: NOW, out: vec![], settling: None, loads: vec![], reads: vec![] };
        bench.step(Input::Outlet(OutletState::Up));
        bench
    }

    /// The same, with these deliveries in the log.
    fn new(config: LaneConfig, items: Vec<Item<u64>>) -> Self {
        let mut bench = Self::of(config, &record());
        let next = items.last().map_or(1, |item| item.offset + 1);
        bench.step(Input::Grown(next + 100));
        bench.step(Input::Page { next, items });
        bench
    }

    fn step(&mut self, input: Input<u64>) {
        let mut effects = Vec::new();
        self.lane.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Publish { ticket, payload, .. } => self.out.push((ticket, payload)),
                Effect::Settle(settling) => self.settling = Some(settling),
                Effect::LoadShelf { order, .. } => self.loads.push(order),
                Effect::Read { rows, .. } => self.reads.push(rows),
            }
        }
    }

    fn rows_out(&self) -> Vec<u64> {
        self.out.iter().map(|(_, row)| *row).collect()
    }

    /// Ends the try of a row.
    fn end(&mut self, row: u64, outcome: Outcome) {
        let index = self.out.iter().position(|(_, out)| *out == row).unwrap_or_else(|| panic!("{row} is not out"));
        let (ticket, _) = self.out.remove(index);
        self.step(Input::Outcomes(vec![(ticket, outcome)]));
    }

    fn fail(&mut self, row: u64, kind: FailureKind) {
        self.end(row, Outcome::Failed(Failure { kind, detail: "planned".into() }));
    }

    fn take(&mut self, row: u64) {
        self.end(row, Outcome::Taken { answer: "ack".into() });
    }

    /// What is settled next, made durable.
    fn settled(&mut self) -> Arc<Settling> {
        let settling = self.settling.take().expect("something to settle");
        self.step(Input::Settled);
        settling
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.step(Input::Tick);
    }
}

#[test]
fn a_place_in_the_window_is_free_only_when_its_receipt_is_durable() {
    let mut bench = Bench::new(config(), (1..=6).map(|row| item(row, row)).collect());
    assert_eq!(bench.rows_out(), [1, 2, 3, 4]);
    bench.take(2);
    assert_eq!(bench.rows_out(), [1, 3, 4], "the receipt of 2 is on its way");
    let settled = bench.settled();
    assert_eq!((settled.progress.watermark, settled.progress.beyond.as_slice()), (1, [0b10].as_slice()));
    assert_eq!(bench.rows_out(), [1, 3, 4, 5]);
}

#[test]
fn of_one_key_only_the_oldest_is_out() {
    let mut bench = Bench::new(config(), vec![item(1, 7), item(2, 7), item(3, 8)]);
    assert_eq!(bench.rows_out(), [1, 3]);
    bench.fail(1, FailureKind::Nacked);
    assert_eq!(bench.rows_out(), [3], "the next of the key waits with it");
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.rows_out(), [3, 1]);
    bench.take(1);
    assert_eq!(bench.rows_out(), [3, 2]);
}

#[test]
fn a_key_that_keeps_the_lane_from_reading_on_goes_to_the_shelf_and_its_later_events_join_it() {
    let small = LaneConfig { read_ahead: 2, ..config() };
    let mut bench = Bench::new(small, vec![item(1, 7), item(2, 7)]);
    bench.fail(1, FailureKind::Nacked);
    let settled = bench.settled();
    let parked = |change: &ShelfChange| match change {
        ShelfChange::Put(row) if row.state == ShelfState::Parked => Some(row.offset),
        ShelfChange::Put(_) | ShelfChange::Remove(..) => None,
    };
    let rows: Vec<_> = settled.shelf.iter().filter_map(parked).collect();
    assert_eq!((rows.as_slice(), settled.progress.watermark), ([1, 2].as_slice(), 3));
    bench.step(Input::Page { next: 4, items: vec![item(3, 7)] });
    assert_eq!(bench.settled().shelf.iter().filter_map(parked).collect::<Vec<_>>(), [3]);
    assert!(bench.out.is_empty(), "its place is behind what lies there");

    bench.later(Duration::from_secs(1));
    assert_eq!(bench.loads, [OrderKey(7)]);
    bench.step(Input::Shelf { order: OrderKey(7), items: vec![item(1, 7), item(2, 7)] });
    assert_eq!(bench.rows_out(), [1]);
    bench.take(1);
    let removed = ShelfChange::Remove(1, item(1, 7).route);
    assert_eq!(bench.settled().shelf, [removed]);
    assert_eq!(bench.rows_out(), [2]);
}

#[test]
fn what_left_the_shelf_does_not_come_back_with_an_older_look_at_it() {
    let mut bench = Bench::new(LaneConfig { read_ahead: 2, ..config() }, vec![item(1, 7), item(2, 7)]);
    bench.fail(1, FailureKind::Nacked);
    bench.settled();
    bench.later(Duration::from_secs(1));
    bench.step(Input::Shelf { order: OrderKey(7), items: vec![item(1, 7)] });
    bench.loads.clear();
    bench.take(1);
    bench.later(Duration::ZERO);
    assert_eq!(bench.loads, [OrderKey(7)], "the next look begins while the end of 1 is on its way");
    bench.settled();
    bench.step(Input::Shelf { order: OrderKey(7), items: vec![item(1, 7), item(2, 7)] });
    assert_eq!(bench.rows_out(), [2]);
}

#[test]
fn what_came_to_the_shelf_late_goes_before_what_an_older_look_at_it_shows() {
    let record = LaneRecord {
        progress: Progress { watermark: 1, beyond: vec![0b10], ..Progress::default() },
        parked: vec![ParkedKey { order: OrderKey(7), rows: 1, held: false }],
        ..record()
    };
    let mut bench = Bench::of(config(), &record);
    bench.later(Duration::ZERO);
    assert_eq!(bench.loads, [OrderKey(7)], "row 2 lies there, and row 1 was on its way when the process ended");
    bench.step(Input::Grown(3));
    bench.step(Input::Page { next: 3, items: vec![item(1, 7)] });
    bench.settled();
    bench.step(Input::Shelf { order: OrderKey(7), items: vec![item(2, 7)] });
    assert!(bench.out.is_empty());
    bench.later(Duration::from_secs(1));
    bench.step(Input::Shelf { order: OrderKey(7), items: vec![item(1, 7), item(2, 7)] });
    assert_eq!(bench.rows_out(), [1]);
}

#[test]
fn one_cause_that_fails_many_keys_stops_the_lane_and_a_probe_starts_it_again() {
    let keys = COMMON_CAUSE_KEYS as u64;
    let wide = LaneConfig { window: 2 * COMMON_CAUSE_KEYS, read_ahead: 4 * COMMON_CAUSE_KEYS, ..config() };
    let mut bench = Bench::new(wide, (1..=keys).map(|row| item(row, row)).collect());
    for row in 1..=keys {
        assert_eq!(bench.lane.status().state, LaneState::Up, "before {row}");
        bench.fail(row, FailureKind::Returned);
    }
    let stopped = |bench: &Bench| matches!(bench.lane.status().state, LaneState::Stopped(StopReason::Misconfigured, _));
    assert!(stopped(&bench));
    // Longer than an unroutable delivery lives.
    for _ in 0..100 {
        bench.later(Duration::from_secs(60));
        assert!(bench.out.len() <= 1, "only probes go out");
        if let Some((_, row)) = bench.out.first().copied() {
            bench.fail(row, FailureKind::Returned);
        }
    }
    assert!(stopped(&bench));
    assert!(bench.settling.is_none(), "nothing died");
    bench.later(Duration::from_secs(60));
    let (_, probe) = bench.out[0];
    bench.take(probe);
    assert_eq!(bench.lane.status().state, LaneState::Up);
    bench.settled();
    bench.later(Duration::from_secs(60));
    assert_eq!(bench.out.len() as u64, keys - 1);
}

#[test]
fn a_dead_letter_may_hold_its_key_until_it_is_released() {
    let holding = |row| Item { on_dead: OnDead::Park, ..item(row, 7) };
    let mut bench = Bench::new(config(), vec![holding(1), holding(2), item(3, 8)]);
    bench.fail(1, FailureKind::Rejected(DeadCause::TooLarge));
    let settled = bench.settled();
    let [ShelfChange::Put(next), ShelfChange::Put(dead)] = settled.shelf.as_slice() else { panic!("{settled:?}") };
    assert_eq!((dead.offset, dead.state, dead.holds), (1, ShelfState::Dead, true));
    assert_eq!((next.offset, next.state), (2, ShelfState::Parked));
    let ends: Vec<_> = settled.receipts.iter().map(|receipt| receipt.ending).collect();
    assert_eq!(ends, [Ending::Parked, Ending::Dead(DeadCause::TooLarge)]);
    bench.later(Duration::from_secs(3_600));
    assert!(bench.loads.is_empty());
    bench.step(Input::Released(OrderKey(7)));
    assert_eq!(bench.loads, [OrderKey(7)]);
}

#[test]
fn a_rate_spreads_deliveries_over_time() {
    let rate = Rate { count: 2, per: Duration::from_secs(1) };
    let slow = LaneConfig { rate: Some(rate), window: 10, ..config() };
    let mut bench = Bench::new(slow, (1..=9).map(|row| item(row, row)).collect());
    let at_once = bench.out.len();
    assert!(at_once <= 2, "{at_once} at once");
    for _ in 0..20 {
        bench.later(Duration::from_millis(100));
    }
    assert_eq!(bench.out.len(), at_once + 4, "two seconds later");
}

#[test]
fn what_is_too_old_dies_without_a_try() {
    let retry = Retry { max_age: Duration::from_secs(60), ..Retry::default() };
    let old = Item { received_at: Timestamp::from_millis(NOW.as_millis() - 60_000), ..item(1, 7) };
    let mut bench = Bench::new(LaneConfig { retry, ..config() }, vec![old, item(2, 7)]);
    assert_eq!(bench.rows_out(), [2]);
    let settled = bench.settled();
    let ends: Vec<_> = settled.receipts.iter().map(|receipt| (receipt.offset, receipt.ending)).collect();
    assert_eq!(ends, [(1, Ending::Dead(DeadCause::Expired))]);
    let ShelfChange::Put(row) = &settled.shelf[0] else { panic!("no dead letter") };
    assert_eq!((row.first_at, row.last_at), (bench.now, bench.now), "retention counts from its death");
}

#[test]
fn what_was_out_with_an_outlet_that_is_gone_goes_out_again_and_late_answers_are_ignored() {
    let mut bench = Bench::new(config(), vec![item(1, 1), item(2, 2)]);
    let late: Vec<_> = bench.out.drain(..).map(|(ticket, _)| (ticket, Outcome::Taken { answer: "".into() })).collect();
    bench.step(Input::OutletGone);
    assert_eq!(bench.lane.status().in_flight, 0);
    bench.step(Input::Outcomes(late.clone()));
    bench.step(Input::Outlet(OutletState::Up));
    assert_eq!(bench.rows_out(), [1, 2]);
    bench.step(Input::Outcomes(late));
    assert_eq!((bench.lane.status().in_flight, bench.lane.status().watermark), (2, 1));
}

#[test]
fn a_paused_lane_sends_nothing_and_takes_answers() {
    let mut bench = Bench::new(config(), (1..=6).map(|row| item(row, row)).collect());
    bench.step(Input::Pause(true));
    bench.take(1);
    bench.settled();
    assert_eq!(bench.rows_out(), [2, 3, 4]);
    bench.step(Input::Pause(false));
    assert_eq!(bench.rows_out(), [2, 3, 4, 5]);
}

#[test]
fn keys_that_come_back_together_load_no_more_than_there_is_room_for() {
    let small = LaneConfig { read_ahead: 2, ..config() };
    let mut bench = Bench::new(small, vec![item(1, 7), item(2, 8)]);
    for row in [1, 2] {
        bench.fail(row, FailureKind::Nacked);
        bench.settled();
        bench.step(Input::Page { next: row + 4, items: vec![item(row + 2, row + 6)] });
    }
    bench.later(Duration::from_secs(600));
    let asked = bench.loads.len();
    assert!(asked <= 1, "{asked} loads for room of at most two rows");
}

#[test]
fn every_delivery_of_a_parked_key_that_stays_unroutable_dies_in_its_time() {
    let retry = Retry { unroutable: Duration::from_secs(60), ..Retry::default() };
    let mut bench = Bench::new(LaneConfig { read_ahead: 2, retry, ..config() }, vec![item(1, 7), item(2, 7)]);
    bench.fail(1, FailureKind::Nacked);
    bench.settled();
    for (row, tries) in [(1, 4), (2, 3)] {
        let mut returns = 0;
        loop {
            bench.later(Duration::from_secs(40));
            // Each time from the shelf anew, with whatever still lies there.
            if bench.loads.pop().is_some() {
                bench.step(Input::Shelf { order: OrderKey(7), items: (row..=2).map(|row| item(row, 7)).collect() });
            }
            bench.fail(row, FailureKind::Returned);
            returns += 1;
            if let Some(settling) = bench.settling.take() {
                bench.step(Input::Settled);
                let died = settling.receipts.iter().map(|receipt| (receipt.offset, receipt.ending));
                assert_eq!(died.collect::<Vec<_>>(), [(row, Ending::Dead(DeadCause::Unroutable))]);
                let tried = settling.receipts.iter().map(|receipt| receipt.attempts);
                assert_eq!(tried.collect::<Vec<_>>(), [tries], "tries count on from the shelf");
                break;
            }
            assert!(returns < 5, "{row} was given back {returns} times, and lives");
        }
        assert_eq!(returns, 3, "the first return, and two more until a minute is over");
    }
}

#[test]
fn a_key_that_waits_goes_to_the_shelf_as_soon_as_nothing_more_is_read() {
    let wide = LaneConfig { window: 12, ..config() };
    let mut bench = Bench::new(wide, (1..=10).map(|row| item(row, row)).collect());
    bench.reads.clear();
    bench.fail(1, FailureKind::Nacked);
    let settled = bench.settled();
    let shelf: Vec<_> =
        settled.shelf.iter().map(|change| matches!(change, ShelfChange::Put(row) if row.offset == 1)).collect();
    assert_eq!((shelf.as_slice(), bench.reads.as_slice()), ([true].as_slice(), [3].as_slice()));
}

#[test]
fn what_is_held_is_bounded_in_bytes_too() {
    let large = |row: u64| Item { payload: 12 << 32 | row, ..item(row, row) };
    let mut bench = Bench::of(LaneConfig { window: 1, ..config() }, &record());
    bench.step(Input::Grown(100));
    bench.step(Input::Page { next: 3, items: vec![large(1), large(2)] });
    bench.step(Input::Page { next: 4, items: vec![large(3)] });
    assert_eq!(HELD_BYTES_MAX, 32 << 20);
    assert_eq!(bench.reads, [12, 4], "24 of 32 MiB leave a third, 36 nothing");
    let (ticket, _) = bench.out.remove(0);
    bench.step(Input::Outcomes(vec![(ticket, Outcome::Taken { answer: "ack".into() })]));
    assert_eq!(bench.reads, [12, 4, 4], "as before");
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let mut bench =
        Bench::new(LaneConfig { settle_every: Duration::from_secs(1), ..config() }, vec![item(1, 7), item(2, 8)]);
    bench.later(Duration::from_secs(10));
    bench.fail(2, FailureKind::Nacked);
    bench.now = Timestamp::from_millis(NOW.as_millis() - 8 * 3_600_000);
    bench.take(1);
    bench.later(Duration::from_secs(2));
    assert_eq!(bench.settled().receipts.len(), 1);
    assert_eq!(bench.rows_out(), [2], "its pause is over as well");
}

#[test]
fn a_rate_wakes_nobody_who_stands_still_and_an_old_one_puts_nothing_off() {
    let slow = LaneConfig { rate: Some(Rate { count: 1, per: Duration::from_secs(3_600) }), ..config() };
    let mut bench = Bench::new(slow, vec![item(1, 7), item(2, 8)]);
    assert_eq!(bench.rows_out(), [1]);
    let far = bench.lane.wake_at().expect("the next one's turn");
    assert!(far.since(NOW) > Duration::from_secs(3_000), "{far:?}");
    bench.step(Input::Configure(LaneConfig {
        rate: Some(Rate { count: 500, per: Duration::from_secs(1) }),
        ..config()
    }));
    bench.later(Duration::from_millis(3));
    assert_eq!(bench.rows_out(), [1, 2]);

    let mut bench = Bench::of(config(), &record());
    bench.step(Input::Outlet(OutletState::Stopped(StopReason::Down, "gone".into())));
    bench.step(Input::Configure(LaneConfig {
        rate: Some(Rate { count: 500, per: Duration::from_secs(1) }),
        ..config()
    }));
    bench.step(Input::Grown(100));
    bench.step(Input::Page { next: 2, items: vec![item(1, 7)] });
    assert_eq!(bench.lane.wake_at(), None);
}
