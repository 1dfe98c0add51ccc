//! The store as a whole: what is there after a rollback, a reopen, a roll, and damage.

use crate::{
    domain::{Event, Fingerprint, Incarnation, NewEvent, Offset, Origin, Partition, Timestamp, Version},
    journal::{
        Appender, Batch, Entry, Heads, Log, ReadLimit, Retention, State, Wanted, WriteError,
        ids::{Known, SealedIds, pairs_of},
        samples,
        sqlite::{OpenError, Options, Store, open, segment::Segment},
    },
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub const P0: Partition = Partition(0);
const ALL: ReadLimit = ReadLimit { rows: 10_000, bytes: 1 << 30 };

pub const RULES: Retention = Retention {
    delivered: Duration::from_secs(7 * 86_400),
    dead_letters: Duration::from_secs(30 * 86_400),
    ids: Duration::from_secs(14 * 86_400),
    size_max: 1 << 30,
};

pub fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        retention: RULES,
        segment_bytes_max: 64 << 20,
        incarnation: Incarnation(9),
        keys: samples::KEYS,
        now: Timestamp::from_millis(1_726_824_000_000),
    }
}

pub fn batch(ids: std::ops::Range<u32>, body_bytes: usize) -> Batch {
    Batch { events: ids.map(|id| (samples::event(&id.to_string(), body_bytes), false)).collect(), routed: vec![] }
}

pub fn all_events(store: &Store) -> Vec<Arc<Event>> {
    let mut rows = Vec::new();
    let mut from = 1;
    loop {
        let page = store.log.events(P0, from, ALL).unwrap();
        if page.next == from {
            return rows;
        }
        from = page.next;
        rows.extend(page.rows.into_iter().map(|entry| match entry {
            Entry::Row(row) => row,
            Entry::Damaged(damage) => panic!("{damage:?}"),
        }));
    }
}

pub fn route_all(store: &mut Store, destinations: &[&str]) {
    let routed = all_events(store).iter().map(|event| samples::routed(event, destinations)).collect();
    store.appender.append(&Batch { events: vec![], routed }).unwrap();
}

/// Damaged rows and whole ones of EVENTS.
fn survey(store: &Store) -> (Vec<Offset>, Vec<Offset>) {
    let (mut damaged, mut whole) = (Vec::new(), Vec::new());
    let mut from = 1;
    loop {
        let page = store.log.events(P0, from, ALL).unwrap();
        if page.next == from {
            return (damaged, whole);
        }
        from = page.next;
        for entry in page.rows {
            match entry {
                Entry::Row(row) => whole.push(row.position().offset),
                Entry::Damaged(damage) => damaged.push(damage.offset),
            }
        }
    }
}

/// Flips a bit wherever a text stands in a file; SQLite leaves old copies in unused parts of a page.
fn flip(path: &Path, find: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(find)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    fs::write(path, bytes).unwrap();
}

pub fn segment(path: &Path, number: u32) -> PathBuf {
    path.join(format!("events/{number:04}.db"))
}

#[test]
fn everything_is_there_after_a_reopen_and_ids_name_the_run_that_wrote_them() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..3, 100)).unwrap();
    let before = all_events(&store);
    drop(store);

    let again = Options { incarnation: Incarnation(10), ..options(place.path()) };
    let mut store = open(&again).unwrap();
    assert_eq!(store.log.heads(P0), Heads { events: 4, routed: 1 });
    let appended = store.appender.append(&batch(3..5, 100)).unwrap();
    assert_eq!(appended.first_event, 4);
    let events = all_events(&store);
    assert_eq!(&events[..3], &before[..]);
    assert_eq!(events.iter().map(|event| event.id.incarnation.0).collect::<Vec<_>>(), [9, 9, 9, 10, 10]);
    assert_eq!(events[0].content, samples::event("0", 100));
    assert_eq!(store.log.event(events[4].id).unwrap().as_ref(), Some(&events[4]));
    let mut other = events[4].id;
    other.incarnation = Incarnation(9);
    assert_eq!(store.log.event(other).unwrap(), None);
}

#[test]
fn files_are_for_the_owner_alone() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..1, 100)).unwrap();
    for name in ["state.db", "events/0001.db", "events/0001.db-wal", "lock"] {
        let mode = fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[test]
fn a_full_disk_is_rolled_back_and_offsets_are_given_again() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..10, 1_000)).unwrap();
    store.appender.limit_pages(20).unwrap();
    assert!(matches!(store.appender.append(&batch(10..100, 1_000)), Err(WriteError::Full(_))));
    assert_eq!(store.log.heads(P0), Heads { events: 11, routed: 1 });
    store.appender.limit_pages(100_000).unwrap();
    assert_eq!(store.appender.append(&batch(100..101, 1_000)).unwrap().first_event, 11);
    let events = all_events(&store);
    assert_eq!((events.len(), events[10].vendor_id.as_deref()), (11, Some("100")));
}

#[test]
fn the_reserve_is_for_decisions() {
    let place = tempfile::tempdir().unwrap();
    let mut store =
        open(&Options { retention: Retention { size_max: 1 << 20, ..RULES }, ..options(place.path()) }).unwrap();
    let mut stored = 0;
    while store.appender.append(&batch(stored..stored + 1, 50_000)).is_ok() {
        stored += 1;
        assert!(stored < 100);
    }
    assert!(matches!(store.appender.append(&batch(0..1, 10)), Err(WriteError::Full(_))));
    route_all(&mut store, &["crm"]);
    assert_eq!(store.log.heads(P0).routed, u64::from(stored) + 1);
}

#[test]
fn a_second_process_and_a_newer_format_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&options(place.path())).unwrap();
    assert!(matches!(open(&options(place.path())), Err(OpenError::Locked { .. })));
    drop(store);
    let state = rusqlite::Connection::open(segment(place.path(), 1)).unwrap();
    state.pragma_update(None, "user_version", 2).unwrap();
    drop(state);
    let bytes = fs::read(segment(place.path(), 1)).unwrap();
    assert!(matches!(open(&options(place.path())), Err(OpenError::NewerFormat { format: 2, .. })));
    assert_eq!(fs::read(segment(place.path(), 1)).unwrap(), bytes, "left as it was");
}

#[test]
fn a_lane_reads_its_own_rows_across_a_roll() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..5, 100)).unwrap();
    route_all(&mut store, &["crm"]);
    store.appender.roll(Timestamp::from_millis(1_726_824_333_000)).unwrap();
    assert_eq!(store.appender.segment_start(), 6);
    store.appender.append(&batch(5..10, 100)).unwrap();
    // Decisions of the second segment are about events of both.
    route_all(&mut store, &["lake"]);
    let found = |wanted: &Wanted| {
        let (mut offsets, mut from) = (Vec::new(), 1);
        loop {
            let page = store.log.routed(P0, from, wanted, ReadLimit { rows: 2, bytes: 1 << 20 }).unwrap();
            if page.next == from {
                return offsets;
            }
            from = page.next;
            for entry in page.rows {
                let Entry::Row(routed) = entry else { panic!("{entry:?}") };
                assert_eq!(routed.row.event, routed.event.position());
                offsets.push((routed.offset, routed.event.position().offset));
            }
        }
    };
    let lane = |name: &str| Wanted::Destination(crate::domain::DestinationName::parse(name).unwrap());
    assert_eq!(found(&lane("crm")), (1..=5).map(|n| (n, n)).collect::<Vec<_>>());
    assert_eq!(found(&lane("lake")), (1..=10).map(|n| (n + 5, n)).collect::<Vec<_>>());
    assert_eq!(found(&Wanted::All).len(), 15);
    assert_eq!(found(&lane("nobody")), []);
    let row = store.log.routed_row(P0, 6).unwrap();
    assert!(matches!(row, Some(Entry::Row(row)) if row.event.position().offset == 1));
    assert_eq!(store.log.routed_row(P0, 16).unwrap(), None);
    let stretches = store.log.catalog().stretches();
    assert_eq!(stretches.iter().map(|s| s.segment.oldest_event()).collect::<Vec<_>>(), [Some(1), Some(1)]);
}

#[test]
fn a_flipped_byte_costs_one_row() {
    // In a body, in a column, and in the name of a destination.
    for (find, log) in [("{\"id\":\"5\"", "events"), ("needle-of-events", "events"), ("needle-of-routed", "routed")] {
        let place = tempfile::tempdir().unwrap();
        let mut store = open(&options(place.path())).unwrap();
        let mut events = batch(0..10, 3_000);
        events.events[5].0.key = Some("needle-of-events".into());
        store.appender.append(&events).unwrap();
        let mut routed: Vec<_> = all_events(&store).iter().map(|event| samples::routed(event, &["crm"])).collect();
        routed[7] = samples::routed(&routed[7].event, &["needle-of-routed", "crm"]);
        store.appender.append(&Batch { events: vec![], routed }).unwrap();
        drop(store);
        flip(&segment(place.path(), 1), find.as_bytes());
        let store = open(&options(place.path())).unwrap();
        let (damaged, whole) = survey(&store);
        let wanted = Wanted::Destination(crate::domain::DestinationName::parse("crm").unwrap());
        let page = store.log.routed(P0, 1, &wanted, ALL).unwrap();
        let damages = page.rows.iter().filter_map(|entry| match entry {
            Entry::Damaged(damage) => Some((damage.offset, damage.event)),
            Entry::Row(_) => None,
        });
        // A decision whose event alone is spoiled still says which one it was about: it is not decided again.
        let expected = if log == "events" { (6, Some(6)) } else { (8, None) };
        assert_eq!((damages.collect::<Vec<_>>(), page.rows.len()), (vec![expected], 10), "{find}");
        assert_eq!((damaged.len(), whole.len()), if log == "events" { (1, 9) } else { (0, 10) }, "{find}");
    }
}

#[test]
fn a_page_that_cannot_be_read_costs_its_rows_and_no_others() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..200, 500)).unwrap();
    drop(store);
    let path = segment(place.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|window| window == b"{\"id\":\"100\"").unwrap();
    let page = at / 4_096 * 4_096;
    bytes[page..page + 4_096].fill(0xee);
    fs::write(&path, bytes).unwrap();
    let store = open(&options(place.path())).unwrap();
    let (damaged, whole) = survey(&store);
    assert!(damaged.contains(&101) && damaged.len() < 10, "{damaged:?}");
    let mut every: Vec<_> = damaged.into_iter().chain(whole).collect();
    every.sort_unstable();
    assert_eq!(every, (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_half_made_segment_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..2, 100)).unwrap();
    drop(store);
    fs::write(segment(place.path(), 2), "").unwrap();
    fs::write(place.path().join("events/0002.db-wal"), "").unwrap();
    fs::write(place.path().join("events/notes.txt"), "ours").unwrap();
    let mut store = open(&options(place.path())).unwrap();
    assert_eq!(all_events(&store).len(), 2);
    store.appender.roll(Timestamp::from_millis(1_726_824_333_000)).unwrap();
    store.appender.append(&batch(2..3, 100)).unwrap();
    assert_eq!(all_events(&store).len(), 3);
}

#[test]
fn a_segment_that_could_not_be_finished_hides_nothing_that_its_elder_took_meanwhile() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&batch(0..2, 100)).unwrap();
    let heads = store.appender.heads();
    drop(Segment::create(&store.log.catalog().folder, 2, heads, Timestamp::from_millis(1_726_824_333_000)).unwrap());
    store.appender.append(&batch(2..4, 100)).unwrap();
    route_all(&mut store, &["crm"]);
    drop(store);
    let store = open(&options(place.path())).unwrap();
    assert_eq!(all_events(&store).len(), 4);
    assert_eq!(store.log.heads(P0), Heads { events: 5, routed: 5 });
    assert!(!segment(place.path(), 2).exists());
}

#[test]
fn generations_are_numbered_by_their_text() {
    let place = tempfile::tempdir().unwrap();
    let mut store = open(&options(place.path())).unwrap();
    let now = Timestamp::from_millis(0);
    let numbers = ["a", "a", "b", "a"].map(|text| store.state.generation(text, now).unwrap());
    assert_eq!(numbers, [1, 1, 2, 3]);
}

#[test]
fn fingerprints_and_the_mark_of_superseded_outlive_a_restart_and_their_segments_sealing() {
    let place = tempfile::tempdir().unwrap();
    let version = Version { key: "t".into(), at: Some(Timestamp::from_millis(5)), stands_for_all: false };
    let print = |origin| Fingerprint::of(&samples::KEYS, ("laigu", "acme"), "cus.upsert", Some(&version), origin);
    let found =
        NewEvent { origin: Origin::Reconcile, fingerprint: print(Origin::Reconcile), ..samples::event("rec_1", 40) };
    let late = NewEvent { fingerprint: print(Origin::Push), superseded: true, ..samples::event("sub_1", 40) };
    let mark = pairs_of(&found).nth(1).unwrap();
    let mut store = open(&options(place.path())).unwrap();
    store.appender.append(&Batch { events: vec![(found, false), (late, true)], routed: vec![] }).unwrap();
    drop(store);

    let mut store = open(&options(place.path())).unwrap();
    let marks: Vec<_> = all_events(&store).iter().map(|event| (event.superseded, event.conflict)).collect();
    assert_eq!(marks, [(false, false), (true, true)]);
    assert!(store.unsealed_ids.iter().any(|ids| ids.pairs.contains(&mark)), "{:?}", store.unsealed_ids);
    store.appender.roll(Timestamp::from_millis(1_726_824_300_000)).unwrap();
    store.sealer.seal_next().unwrap();
    assert_eq!(store.sealed_ids.find(mark.id_hash, mark.body_hash), Known::Duplicate);
    drop(store);
    let store = open(&options(place.path())).unwrap();
    assert_eq!(store.sealed_ids.find(mark.id_hash, mark.body_hash), Known::Duplicate);
}
