//! Sealing and retention over real files, and what a start makes of folders that a crash or an operator left behind.

use crate::{
    core::jump::Moment,
    domain::{DeadCause, DestinationName, OrderKey, RouteName, Timestamp},
    journal::{
        Appender, Entry, Heads, LaneName, LaneRecord, Log, Progress, ReadLimit, Settlement, ShelfChange, ShelfRow,
        ShelfState, State, Wanted, WriteError,
        ids::{Known, SealedIds},
        samples,
        sqlite::{
            Store, open,
            retainer::Removed,
            sealing::SealStep,
            steps::Turn,
            store_tests::{P0, all_events, batch, options, route_all, segment},
        },
    },
};
use std::{fs, path::Path, time::Duration};

pub const NOTHING_PINNED: Heads = Heads { events: u64::MAX, routed: u64::MAX };

pub fn day(day: i64) -> Timestamp {
    Timestamp::from_millis(1_726_824_222_989 + day * 86_400_000)
}

/// A day that came by both clocks.
pub fn came(at: i64) -> Moment {
    Moment { now: day(at), passed: Duration::from_secs(at.unsigned_abs() * 86_400) }
}

/// A run of retention on a day that nothing interrupts.
pub fn retain(store: &mut Store, at: i64) -> Result<Removed, WriteError> {
    store.retainer.run(came(at), NOTHING_PINNED, &mut |_| Turn::On)
}

pub fn lane(name: LaneName, watermark: u64) -> LaneRecord {
    let progress = Progress { watermark, ..Progress::default() };
    LaneRecord { lane: name, partition: P0, kind: "file".into(), progress, parked: vec![], paused: false }
}

pub fn crm() -> LaneName {
    LaneName::Destination(DestinationName::parse("crm").unwrap())
}

/// Three segments of ten events and ten decisions about them; nothing is sealed.
pub fn three_segments(path: &Path) -> Store {
    let mut store = open(&options(path)).unwrap();
    for number in 0..3 {
        store.appender.append(&batch(number * 10..number * 10 + 10, 200)).unwrap();
        let events = all_events(&store).split_off(usize::try_from(number * 10).unwrap());
        let routed = events.iter().map(|event| samples::routed(event, &["crm"])).collect();
        store.appender.append(&crate::journal::Batch { events: vec![], routed }).unwrap();
        if number < 2 {
            store.appender.roll(day(i64::from(number))).unwrap();
        }
    }
    store
}

fn find(store: &Store, id: u32) -> Known {
    let event = samples::event(&id.to_string(), 200);
    store.sealed_ids.find(event.id_hash, event.body_hash)
}

pub fn parked(store: &Store, offset: u64, state: ShelfState) -> ShelfRow {
    let Ok(Some(Entry::Row(routed))) = store.log.routed_row(P0, offset) else { panic!("{offset}") };
    ShelfRow {
        offset,
        route: Some(RouteName::parse("everything").unwrap()),
        event: routed.event.id,
        order: Some(OrderKey(3)),
        state,
        cause: Some(DeadCause::Rejected),
        detail: "refused".into(),
        attempts: 2,
        first_at: day(0),
        last_at: day(0),
        holds: false,
    }
}

#[test]
fn sealed_ids_are_found_and_a_crash_between_any_two_steps_loses_none() {
    for steps in 0..=SealStep::ALL.len() {
        let place = tempfile::tempdir().unwrap();
        let mut store = three_segments(place.path());
        for step in &SealStep::ALL[..steps] {
            store.sealer.run(*step).unwrap();
        }
        drop(store);
        let mut store = open(&options(place.path())).unwrap();
        // The first one is sealed by the start if it was not; the second waits for the sealer.
        assert_eq!(
            store.unsealed_ids.iter().map(|ids| (ids.start, ids.pairs.len())).collect::<Vec<_>>(),
            [(11, 10), (21, 10)]
        );
        assert_eq!((find(&store, 3), find(&store, 13)), (Known::Duplicate, Known::New), "after {steps} steps");
        assert_eq!(store.sealer.seal_next().unwrap(), Some(21));
        assert_eq!(store.sealer.seal_next().unwrap(), None);
        assert_eq!((find(&store, 13), find(&store, 23)), (Known::Duplicate, Known::New));
        assert_eq!(fs::read_dir(place.path().join("ids")).unwrap().count(), 2, "no leftovers");
    }
}

#[test]
fn the_tail_grows_while_a_closed_segment_is_not_sealed() {
    let place = tempfile::tempdir().unwrap();
    let small = crate::journal::sqlite::Options { segment_bytes_max: 20_000, ..options(place.path()) };
    let mut store = open(&small).unwrap();
    let numbers = |store: &Store| store.log.catalog().stretches().len();
    for number in 0..20 {
        store.appender.append(&batch(number * 10..number * 10 + 10, 1_000)).unwrap();
    }
    assert_eq!(numbers(&store), 2);
    store.sealer.seal_next().unwrap();
    store.appender.append(&batch(900..901, 10)).unwrap();
    assert_eq!(numbers(&store), 3);
    assert_eq!(all_events(&store).len(), 201);
}

#[test]
fn a_segment_that_nobody_needs_goes_and_the_shelf_keeps_its_own() {
    let place = tempfile::tempdir().unwrap();
    let mut store = three_segments(place.path());
    while store.sealer.seal_next().unwrap().is_some() {}
    store.state.register(&[lane(LaneName::Router, 31), lane(crm(), 1)]).unwrap();
    let kept = [parked(&store, 4, ShelfState::Parked), parked(&store, 5, ShelfState::Dead)];
    let Ok(Some(Entry::Row(before))) = store.log.routed_row(P0, 4) else { panic!("there") };
    assert_eq!(retain(&mut store, 8).unwrap(), Removed::default(), "the lane has not read it");

    let shelf = kept.iter().cloned().map(ShelfChange::Put).collect();
    let progress = Progress { watermark: 31, ..Progress::default() };
    store.state.settle(&[Settlement { lane: crm(), partition: P0, progress, receipts: vec![], shelf }]).unwrap();
    let removed = retain(&mut store, 8).unwrap();
    assert_eq!(removed, Removed { segments: 2, ids: 0, dead_letters: 0, copied: 2 });
    assert!(!segment(place.path(), 1).exists() && !segment(place.path(), 2).exists());

    let page = store.log.routed(P0, 1, &Wanted::All, ReadLimit { rows: 1, bytes: 1 }).unwrap();
    assert_eq!((page.gone, page.next, page.rows.len()), (20, 22, 1));
    assert_eq!(store.log.routed_row(P0, 4).unwrap(), Some(Entry::Row(before.clone())));
    assert_eq!(store.log.event(before.event.id).unwrap().as_ref(), Some(&before.event));
    assert_eq!(store.log.routed_row(P0, 6).unwrap(), None);
    assert_eq!(find(&store, 3), Known::Duplicate, "ids outlive their segment");

    // A dead letter goes in its time, a parked row never; copies and ids follow.
    let removed = retain(&mut store, 31).unwrap();
    assert_eq!(removed, Removed { segments: 0, ids: 2, dead_letters: 1, copied: 0 });
    assert_eq!(store.log.routed_row(P0, 5).unwrap(), None);
    assert_eq!(find(&store, 3), Known::New);
    drop(store);
    let store = open(&options(place.path())).unwrap();
    assert_eq!(store.log.routed_row(P0, 4).unwrap(), Some(Entry::Row(before)));
    assert_eq!(store.log.heads(P0), Heads { events: 31, routed: 31 });
    assert_eq!(store.state.parked(&crm(), P0, OrderKey(3), 9).unwrap(), kept[..1]);
}

#[test]
fn a_start_goes_on_with_whatever_files_are_there() {
    // Bits: the two closed segments, their ids, a stray file of ids. The rest of a sealing is always there.
    for missing in 0..32_u32 {
        let place = tempfile::tempdir().unwrap();
        let mut store = three_segments(place.path());
        store.state.register(&[lane(LaneName::Router, 31), lane(crm(), 31)]).unwrap();
        while store.sealer.seal_next().unwrap().is_some() {}
        drop(store);
        fs::write(place.path().join("ids/0002.tmp"), "half").unwrap();
        fs::write(place.path().join("ids/0009"), "from a later life").unwrap();
        let files = ["events/0001.db", "events/0002.db", "ids/0001", "ids/0002", "ids/0009"];
        for (bit, file) in files.iter().enumerate() {
            if missing >> bit & 1 == 1 {
                fs::remove_file(place.path().join(file)).unwrap();
            }
        }
        let mut store = open(&options(place.path())).unwrap();
        let segments = [missing & 1 == 0, missing & 2 == 0].into_iter().filter(|there| *there).count() as u64;
        let mut rows = 0;
        let mut gone = 0;
        let mut from = 1;
        while from < 31 {
            let page = store.log.events(P0, from, ReadLimit { rows: 100, bytes: 1 << 20 }).unwrap();
            assert!(page.next > from, "{missing:b} at {from}");
            (rows, gone, from) = (rows + page.rows.len() as u64, gone + page.gone, page.next);
        }
        assert_eq!((rows, gone), (segments * 10 + 10, 20 - segments * 10), "{missing:b}");
        assert_eq!(store.appender.append(&batch(50..51, 10)).unwrap().first_event, 31, "{missing:b}");
        while store.sealer.seal_next().unwrap().is_some() {}
        // Its ids are known as long as one of the two files is there.
        assert_eq!(find(&store, 3) == Known::New, missing & 0b101 == 0b101, "{missing:b}");
    }
}

#[test]
fn new_rows_never_get_numbers_that_a_lane_takes_for_done() {
    for lost in [vec![3], vec![1, 2, 3]] {
        let place = tempfile::tempdir().unwrap();
        let mut store = three_segments(place.path());
        // The router has settled row 30 before 25 to 29.
        let mut router = lane(LaneName::Router, 25);
        router.progress.beyond = vec![1 << 5];
        store.state.register(&[router, lane(crm(), 28)]).unwrap();
        drop(store);
        for number in &lost {
            fs::remove_file(segment(place.path(), *number)).unwrap();
        }
        let mut store = open(&options(place.path())).unwrap();
        assert_eq!(store.log.heads(P0), Heads { events: 31, routed: 28 }, "{lost:?}");
        store.appender.append(&batch(70..72, 10)).unwrap();
        route_all_new(&mut store);
        let page = store.log.events(P0, 25, ReadLimit { rows: 9, bytes: 1 << 20 }).unwrap();
        assert_eq!((page.gone, page.next, page.rows.len()), (6, 33, 2));
        let page = store.log.routed(P0, 28, &Wanted::All, ReadLimit { rows: 9, bytes: 1 << 20 }).unwrap();
        assert_eq!((page.gone, page.next, page.rows.len()), (0, 30, 2));
        drop(store);
        assert_eq!(open(&options(place.path())).unwrap().log.heads(P0), Heads { events: 33, routed: 30 });
    }
}

fn route_all_new(store: &mut Store) {
    let page = store.log.events(P0, 31, ReadLimit { rows: 9, bytes: 1 << 20 }).unwrap();
    let routed = page.rows.iter().map(|entry| match entry {
        Entry::Row(event) => samples::routed(event, &["crm"]),
        Entry::Damaged(damage) => panic!("{damage:?}"),
    });
    let routed = routed.collect();
    store.appender.append(&crate::journal::Batch { events: vec![], routed }).unwrap();
}

#[test]
fn receipts_go_with_the_rows_they_are_about() {
    let place = tempfile::tempdir().unwrap();
    let mut store = three_segments(place.path());
    while store.sealer.seal_next().unwrap().is_some() {}
    store.state.register(&[lane(LaneName::Router, 31), lane(crm(), 31)]).unwrap();
    let receipt = |offset| crate::journal::Receipt {
        offset,
        route: RouteName::parse("everything").unwrap(),
        ending: crate::journal::Ending::Delivered,
        at: day(0),
        attempts: 1,
        answer: "".into(),
    };
    for offsets in [1..11, 11..21, 21..31] {
        let receipts = offsets.map(receipt).collect();
        let progress = Progress { watermark: 41, ..Progress::default() };
        store.state.settle(&[Settlement { lane: crm(), partition: P0, progress, receipts, shelf: vec![] }]).unwrap();
    }
    let left = |store: &Store| {
        store
            .state
            .read(|connection| connection.query_row("SELECT COUNT(*) FROM receipts", [], |row| row.get::<_, i64>(0)))
    };
    assert_eq!(left(&store).unwrap(), 3);
    assert_eq!(retain(&mut store, 9).unwrap().segments, 2);
    assert_eq!(left(&store).unwrap(), 1);
}

#[test]
fn a_decision_whose_event_is_gone_is_counted_as_gone_unless_the_shelf_has_it() {
    let place = tempfile::tempdir().unwrap();
    let mut store = three_segments(place.path());
    // Decisions 31 to 60, in the third segment, are about all events.
    route_all(&mut store, &["crm"]);
    store.appender.roll(day(2)).unwrap();
    while store.sealer.seal_next().unwrap().is_some() {}
    let row = parked(&store, 34, ShelfState::Dead);
    let mut settlement = Settlement {
        lane: crm(),
        partition: P0,
        progress: Progress { watermark: 61, ..Progress::default() },
        receipts: vec![],
        shelf: vec![ShelfChange::Put(row)],
    };
    store.state.settle(std::slice::from_ref(&settlement)).unwrap();
    settlement.shelf.clear();
    settlement.lane = LaneName::Router;
    store.state.settle(&[settlement]).unwrap();
    let before = store.log.routed_row(P0, 34).unwrap();
    assert_eq!(retain(&mut store, 8).unwrap().copied, 1);
    let page = store.log.routed(P0, 31, &Wanted::All, ReadLimit { rows: 100, bytes: 1 << 20 }).unwrap();
    assert_eq!((page.gone, page.rows.len(), page.next), (20, 10, 61));
    assert_eq!(store.log.routed_row(P0, 33).unwrap(), None);
    assert_eq!(store.log.routed_row(P0, 34).unwrap(), before);
}

/// A dead letter of the first segment, whose segment is gone, and what a replay decided about its event since: its row.
fn decided_anew(store: &mut Store) -> (ShelfRow, u64) {
    store.state.register(&[lane(LaneName::Router, 31), lane(crm(), 31)]).unwrap();
    let letter = parked(store, 4, ShelfState::Dead);
    let shelf = vec![ShelfChange::Put(letter.clone())];
    let progress = Progress { watermark: 31, ..Progress::default() };
    store.state.settle(&[Settlement { lane: crm(), partition: P0, progress, receipts: vec![], shelf }]).unwrap();
    assert_eq!(retain(store, 7).unwrap().segments, 1);
    let event = store.log.event(letter.event).unwrap().unwrap();
    let mut anew = samples::routed(&event, &["lake"]);
    anew.row.job = 1;
    let appended = store.appender.append(&crate::journal::Batch { events: vec![], routed: vec![anew] }).unwrap();
    (letter, appended.first_routed)
}

#[test]
fn what_a_replay_decides_about_an_event_whose_segment_is_gone_is_read_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let mut store = three_segments(place.path());
    while store.sealer.seal_next().unwrap().is_some() {}
    let (letter, row) = decided_anew(&mut store);
    drop(store);

    let mut store = open(&options(place.path())).unwrap();
    let Ok(Some(Entry::Row(routed))) = store.log.routed_row(P0, row) else { panic!("{row} is there") };
    assert_eq!((routed.event.id, routed.event.content.clone()), (letter.event, samples::event("3", 200)));
    assert_eq!((routed.row.job, routed.row.decision.targets[0].destination.as_str()), (1, "lake"));

    // It dies, the first letter goes; then its own segment goes too.
    let died = ShelfRow { offset: row, ..letter.clone() };
    let shelf = vec![ShelfChange::Remove(letter.offset, letter.route), ShelfChange::Put(died)];
    let progress = Progress { watermark: row + 1, ..Progress::default() };
    store.state.settle(&[Settlement { lane: crm(), partition: P0, progress, receipts: vec![], shelf }]).unwrap();
    store.appender.append(&batch(30..31, 200)).unwrap();
    store.appender.roll(day(3)).unwrap();
    while store.sealer.seal_next().unwrap().is_some() {}
    let progress = Progress { watermark: 32, ..Progress::default() };
    let router = Settlement { lane: LaneName::Router, partition: P0, progress, receipts: vec![], shelf: vec![] };
    store.state.settle(&[router]).unwrap();
    assert_eq!(retain(&mut store, 20).unwrap().segments, 2);
    assert_eq!(store.log.routed_row(P0, row).unwrap(), Some(Entry::Row(routed)));
    assert_eq!(store.log.routed_row(P0, letter.offset).unwrap(), None);
}

#[test]
fn what_a_replay_decides_about_an_event_whose_segment_is_gone_holds_no_segment() {
    let place = tempfile::tempdir().unwrap();
    let mut store = three_segments(place.path());
    while store.sealer.seal_next().unwrap().is_some() {}
    // Nobody is past the decision yet.
    decided_anew(&mut store);
    assert_eq!(retain(&mut store, 8).unwrap().segments, 1);
}
