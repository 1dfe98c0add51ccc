//! Retention beside those who settle: turns, early ends, locks.

use crate::{
    core::jump::Moment,
    domain::{EnrichmentPart, EnrichmentStatus, Record, RouteName},
    journal::{
        Appender, Batch, Ending, LaneName, Log, Progress, Receipt, Retention, Settlement, ShelfChange, ShelfState,
        State, WriteError, samples,
        sqlite::{
            Options, Store,
            database::open_writer,
            open,
            retention_tests::{NOTHING_PINNED, came, crm, day, lane, parked, retain, three_segments},
            steps::Turn,
            store_tests::{P0, RULES, all_events, batch, options, segment},
        },
    },
};
use std::{fs, path::Path, sync::Arc, time::Duration};

/// As many settlements with receipts of the first segment's rows.
const RECEIPTS: usize = 2_000;

fn settlement(receipts: Vec<Receipt>) -> Settlement {
    let progress = Progress { watermark: 31, ..Progress::default() };
    Settlement { lane: crm(), partition: P0, progress, receipts, shelf: vec![] }
}

fn receipt(offset: u64) -> Receipt {
    let route = RouteName::parse("everything").unwrap();
    Receipt { offset, route, ending: Ending::Delivered, at: day(0), attempts: 1, answer: "".into() }
}

/// Three segments that everybody is past, and old receipts.
fn store_with_receipts(path: &Path) -> Store {
    let mut store = three_segments(path);
    while store.sealer.seal_next().unwrap().is_some() {}
    store.state.register(&[lane(LaneName::Router, 31), lane(crm(), 31)]).unwrap();
    store.state.settle(&vec![settlement(vec![receipt(3)]); RECEIPTS]).unwrap();
    store
}

fn receipts_left(store: &Store) -> usize {
    let count = |connection: &rusqlite::Connection| {
        connection.query_row("SELECT COUNT(*) FROM receipts WHERE last_row = 3", [], |row| row.get::<_, i64>(0))
    };
    usize::try_from(store.state.read(count).unwrap()).unwrap()
}

#[test]
fn a_settlement_gets_through_between_any_two_steps_of_retention() {
    let place = tempfile::tempdir().unwrap();
    let mut store = store_with_receipts(place.path());
    // Whoever finds the lock taken fails at once.
    store.state.read(|connection| connection.busy_timeout(Duration::ZERO)).unwrap();
    let (mut settled, mut pauses) = (0, 0);
    let Store { state, retainer, .. } = &mut store;
    let mut between = |pause: Duration| {
        state.settle(&[settlement(vec![receipt(25)])]).unwrap();
        settled += 1;
        pauses += usize::from(!pause.is_zero());
        Turn::On
    };
    assert_eq!(retainer.run(came(7), NOTHING_PINNED, &mut between).unwrap().segments, 1);
    assert!(settled > RECEIPTS / 256, "{settled}");
    assert!(pauses >= RECEIPTS / 256, "the lock is left to others after each step: {pauses}");
    assert_eq!(receipts_left(&store), 0);
}

#[test]
fn a_run_of_retention_that_is_asked_to_end_leaves_the_rest_to_the_next() {
    let place = tempfile::tempdir().unwrap();
    let mut store = store_with_receipts(place.path());
    let mut turns = 0;
    let mut between = |_| {
        turns += 1;
        if turns < 5 { Turn::On } else { Turn::Over }
    };
    assert_eq!(store.retainer.run(came(7), NOTHING_PINNED, &mut between).unwrap().segments, 1);
    assert_eq!(turns, 5, "nothing goes on after the answer");
    assert!((1..RECEIPTS).contains(&receipts_left(&store)), "{}", receipts_left(&store));
    retain(&mut store, 7).unwrap();
    assert_eq!(receipts_left(&store), 0);
}

#[test]
fn another_write_that_takes_too_long_is_waited_out() {
    let place = tempfile::tempdir().unwrap();
    let mut store = store_with_receipts(place.path());
    store.state.read(|connection| connection.busy_timeout(Duration::ZERO)).unwrap();
    let other = open_writer(&store.state.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ended = store.state.settle(&[settlement(vec![receipt(25)])]);
    assert!(matches!(ended, Err(WriteError::Full(_))), "{ended:?}");
    other.execute_batch("ROLLBACK").unwrap();
    store.state.settle(&[settlement(vec![receipt(25)])]).unwrap();
}

#[test]
fn a_folder_that_cannot_be_read_is_looked_at_again_by_the_next_run() {
    let place = tempfile::tempdir().unwrap();
    let (data, aside) = (place.path().join("data"), place.path().join("aside"));
    let mut store = store_with_receipts(&data);
    fs::rename(&data, &aside).unwrap();
    let ended = retain(&mut store, 7);
    assert!(matches!(ended, Err(WriteError::Full(_))), "{ended:?}");
    fs::rename(&aside, &data).unwrap();
    assert_eq!(retain(&mut store, 7).unwrap().segments, 1);
}

#[test]
fn a_shelf_that_cannot_be_copied_now_keeps_its_segment_until_it_can() {
    let place = tempfile::tempdir().unwrap();
    let mut store = store_with_receipts(place.path());
    let mut letter = settlement(vec![]);
    letter.shelf = vec![ShelfChange::Put(parked(&store, 4, ShelfState::Dead))];
    store.state.settle(&[letter]).unwrap();
    // Another file handle is not to be had: there is none of this file.
    store.log.catalog().close_idle();
    let (there, aside) = (segment(place.path(), 1), place.path().join("aside"));
    fs::rename(&there, &aside).unwrap();
    let ended = retain(&mut store, 7);
    assert!(matches!(ended, Err(WriteError::Full(_))), "{ended:?}");
    fs::rename(&aside, &there).unwrap();
    let removed = retain(&mut store, 7).unwrap();
    assert_eq!((removed.copied, removed.segments), (1, 1));
}

#[test]
fn a_clock_that_jumps_ahead_deletes_nothing_until_it_has_said_so_for_half_a_minute() {
    let place = tempfile::tempdir().unwrap();
    let mut store = store_with_receipts(place.path());
    let mut letter = settlement(vec![]);
    letter.shelf = vec![ShelfChange::Put(parked(&store, 4, ShelfState::Dead))];
    store.state.settle(&[letter]).unwrap();
    let mut at = |now, seconds| {
        let moment = Moment { now, passed: Duration::from_secs(seconds) };
        let removed = store.retainer.run(moment, NOTHING_PINNED, &mut |_| Turn::On).unwrap();
        (removed.segments, removed.ids, removed.dead_letters)
    };
    assert_eq!(at(day(2), 0), (0, 0, 0));
    assert_eq!(at(day(40), 30), (0, 0, 0), "the clock is wrong");
    assert_eq!(at(day(2), 60), (0, 0, 0), "and right again");
    // A time that was once told does not stay.
    assert_eq!(at(day(40), 90), (0, 0, 0));
    assert_eq!(at(day(40), 120), (2, 2, 1), "it says so still");
}

/// A store of 12 MiB with as much on its shelf: large events, each two with a record that they share.
fn store_with_large_letters(path: &Path, old: bool) -> Store {
    let options = Options { retention: Retention { size_max: 12 << 20, ..RULES }, ..options(path) };
    if old {
        drop(open(&options).unwrap());
        // As it was made before free pages were given back.
        let connection = open_writer(&path.join("state.db")).unwrap();
        connection.execute_batch("PRAGMA auto_vacuum = NONE; VACUUM").unwrap();
    }
    let mut store = open(&options).unwrap();
    store.appender.append(&batch(0..60, 100_000)).unwrap();
    let events = all_events(&store);
    let routed = events.iter().zip(0..).map(|(event, number)| {
        let bytes = format!("{{\"number\":{},\"pad\":\"{}\"}}", number / 2, "x".repeat(200_000)).into_bytes();
        let record = Record { hash: samples::KEYS.body(&bytes), bytes: bytes.into() };
        let mut new = samples::routed(event, &["crm"]);
        let what = "client".into();
        let (status, record) = (EnrichmentStatus::Ok, Some(Arc::new(record)));
        new.row.enrichment = vec![EnrichmentPart { what, status, reason: None, fetched_at: None, record }];
        new
    });
    let routed = routed.collect();
    store.appender.append(&Batch { events: vec![], routed }).unwrap();
    store.appender.roll(day(0)).unwrap();
    while store.sealer.seal_next().unwrap().is_some() {}
    store.state.register(&[lane(LaneName::Router, 61), lane(crm(), 61)]).unwrap();
    let shelf = (1..=60).map(|row| ShelfChange::Put(parked(&store, row, ShelfState::Dead))).collect();
    let progress = Progress { watermark: 61, ..Progress::default() };
    store.state.settle(&[Settlement { lane: crm(), partition: P0, progress, receipts: vec![], shelf }]).unwrap();
    store
}

fn records(store: &Store) -> i64 {
    let count = |connection: &rusqlite::Connection| {
        connection.query_row("SELECT COUNT(*) FROM enrichment", [], |row| row.get(0))
    };
    store.state.read(count).unwrap()
}

#[test]
fn what_leaves_the_shelf_gives_its_room_back_and_pushes_are_taken_again() {
    for old in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let mut store = store_with_large_letters(place.path(), old);
        let before = store.log.routed_row(P0, 1).unwrap();
        let removed = retain(&mut store, 8).unwrap();
        assert_eq!((removed.copied, removed.segments, records(&store)), (60, 1, 30));
        assert!(matches!(store.appender.append(&batch(60..61, 10)), Err(WriteError::Full(_))));

        // The second letter had its record together with the first one.
        let route = RouteName::parse("everything").unwrap();
        let letters: Vec<_> = (2..=60).map(|row| (crm(), row, Some(route.clone()))).collect();
        assert_eq!(store.state.discard(&letters).unwrap().0.len(), 59);
        retain(&mut store, 9).unwrap();
        assert_eq!(records(&store), 1);
        assert!(store.room.used() < 8 << 20, "{old}: {} bytes", store.room.used());
        store.appender.append(&batch(60..61, 10)).unwrap();
        assert_eq!(store.log.routed_row(P0, 1).unwrap(), before);
        let file = fs::metadata(store.state.path()).unwrap().len();
        assert_eq!(file < 2 << 20, !old, "{old}: {file} bytes");
    }
}
