//! Answers to questions, against a store with all that makes them hard: rolls, disorder, replays in between.

use crate::{
    domain::{DeadCause, DeadRoute, DestinationName, EventId, Partition, RouteName, Timestamp},
    journal::{
        Appender, Batch, Ending, LaneName, LaneRecord, Log, NewRouted, Progress, Receipt, Settlement, ShelfChange,
        ShelfRow, ShelfState, State, samples,
        sqlite::{
            Options, Store, open,
            queries::{
                Queries,
                events::EventFilter,
                fates::Fate,
                shelf::{ShelfFilter, ShelfPlace},
            },
            store_tests::{all_events, batch, options},
        },
    },
};
use std::path::Path;

const P0: Partition = Partition(0);

fn store(path: &Path) -> Store {
    open(&Options { segment_bytes_max: 200 << 10, ..options(path) }).unwrap()
}

fn crm() -> LaneName {
    LaneName::Destination(DestinationName::parse("crm").unwrap())
}

fn lane(lane: LaneName) -> LaneRecord {
    let progress = Progress { watermark: 1, ..Progress::default() };
    LaneRecord { lane, partition: P0, kind: "file".into(), progress, parked: Vec::new(), paused: false }
}

fn settle(store: &mut Store, lane: LaneName, progress: Progress, receipts: Vec<Receipt>, shelf: Vec<ShelfChange>) {
    store.state.settle(&[Settlement { lane, partition: P0, progress, receipts, shelf }]).unwrap();
}

fn dead(offset: u64, event: EventId, route: Option<&str>, state: ShelfState) -> ShelfRow {
    ShelfRow {
        offset,
        route: route.map(|route| RouteName::parse(route).unwrap()),
        event,
        order: None,
        state,
        cause: Some(DeadCause::Unroutable),
        detail: "no queue".into(),
        attempts: 3,
        first_at: Timestamp::from_millis(1_000),
        last_at: Timestamp::from_millis(2_000),
        holds: false,
    }
}

/// 600 events in several segments; decided from the last to the first, each after two replays' rows.
fn filled(path: &Path) -> Store {
    let mut store = store(path);
    for at in (0..600).step_by(50) {
        store.appender.append(&batch(at..at + 50, 600)).unwrap();
    }
    let events = all_events(&store);
    for event in events.rchunks(100).rev().flat_map(|chunk| chunk.iter().rev()) {
        let first = samples::routed(event, &["crm"]);
        let again = |job| NewRouted { row: crate::domain::RoutedRow { job, ..first.row.clone() }, ..first.clone() };
        store.appender.append(&Batch { events: Vec::new(), routed: vec![again(7), again(8), first.clone()] }).unwrap();
    }
    store.state.register(&[lane(LaneName::Router), lane(LaneName::Morgue), lane(crm())]).unwrap();
    store
}

#[test]
fn pages_of_events_come_newest_first_and_join_without_a_gap() {
    let place = tempfile::tempdir().unwrap();
    let store = filled(place.path());
    assert!(store.log.catalog().stretches().len() > 1, "the rows lie in several segments");
    let queries = Queries::new(store.log.clone());
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = queries.events(&EventFilter::default(), before, 70).unwrap();
        assert!(page.rows.len() <= 70);
        seen.extend(page.rows.iter().map(|row| row.id.position.offset));
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=600).rev().collect::<Vec<_>>());
}

#[test]
fn each_filter_counts_and_ids_are_those_of_the_events() {
    let place = tempfile::tempdir().unwrap();
    let store = filled(place.path());
    let queries = Queries::new(store.log.clone());
    let find = |filter: EventFilter| queries.events(&filter, None, 10).unwrap().rows;
    let filter = EventFilter { vendor_id: Some("17".to_owned()), ..EventFilter::default() };
    let found = find(filter);
    assert_eq!(found.len(), 1);
    let event = store.log.event(found[0].id).unwrap().unwrap();
    assert_eq!(event.vendor_id.as_deref(), Some("17"));
    let text = |text: &str| Some(text.to_owned());
    let none = EventFilter::default;
    let at = event.received_at;
    for (filter, matches) in [
        (EventFilter { source: text("laigu"), ..none() }, true),
        (EventFilter { source: text("kefu"), ..none() }, false),
        (EventFilter { tenant: text("other"), ..none() }, false),
        (EventFilter { kind: text("cus.upsert"), key: text("track-1"), ..none() }, true),
        (EventFilter { kind: text("session.closed"), ..none() }, false),
        (EventFilter { key: text("track-2"), ..none() }, false),
        (EventFilter { from: Some(at), ..none() }, true),
        (EventFilter { from: Some(Timestamp::from_millis(at.as_millis() + 1)), ..none() }, false),
        (EventFilter { to: Some(at), ..none() }, false),
        (EventFilter { to: Some(Timestamp::from_millis(at.as_millis() + 1)), ..none() }, true),
    ] {
        assert_eq!(!find(filter.clone()).is_empty(), matches, "{filter:?}");
    }
}

#[test]
fn first_decisions_are_found_among_replays_and_out_of_order() {
    let place = tempfile::tempdir().unwrap();
    let store = filled(place.path());
    let queries = Queries::new(store.log.clone());
    let all: Vec<u64> = (1..=600).collect();
    let found = queries.decisions(&all).unwrap();
    assert_eq!(found.len(), 600);
    for (event, decided) in &found {
        let hundred = (event - 1) / 100;
        let expected = hundred * 300 + (99 - (event - 1) % 100) * 3 + 3;
        assert_eq!(decided.offset, expected, "event {event}");
    }
    assert_eq!(queries.decisions(&[601]).unwrap().len(), 0);
    assert_eq!(queries.decisions(&[1]).unwrap().keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn what_became_of_an_event_follows_its_deliveries() {
    let place = tempfile::tempdir().unwrap();
    let mut store = store(place.path());
    store.appender.append(&batch(0..6, 50)).unwrap();
    store.state.register(&[lane(LaneName::Router), lane(LaneName::Morgue), lane(crm())]).unwrap();
    let events = all_events(&store);
    let mut routed: Vec<NewRouted> = events.iter().take(3).map(|event| samples::routed(event, &["crm"])).collect();
    let mut none = samples::routed(&events[3], &[]);
    routed.push(none.clone());
    none = samples::routed(&events[4], &[]);
    none.row.decision.dead = vec![DeadRoute { route: None, cause: DeadCause::Unparsable, detail: "not JSON".into() }];
    routed.push(none);
    store.appender.append(&Batch { events: Vec::new(), routed }).unwrap();
    let queries = Queries::new(store.log.clone());
    let fate = |offset: u64| queries.fates(&[offset]).unwrap()[&offset].fate;
    assert_eq!(fate(1), Fate::Received, "the router has not said that it is done");
    settle(&mut store, LaneName::Router, Progress { watermark: 6, ..Progress::default() }, vec![], vec![]);
    assert_eq!([1, 2, 3, 4, 5, 6].map(fate), {
        use Fate::{Dead, Delivering, Received, Unrouted};
        [Delivering, Delivering, Delivering, Unrouted, Dead, Received]
    });
    // Row 2 is settled beyond row 1, row 3 lies on the shelf.
    let progress = Progress { watermark: 1, beyond: vec![0b110], ..Progress::default() };
    let row = dead(3, events[2].id, Some("everything"), ShelfState::Parked);
    settle(&mut store, crm(), progress, vec![], vec![ShelfChange::Put(row)]);
    assert_eq!([1, 2, 3].map(fate), [Fate::Delivering, Fate::Delivered, Fate::Parked]);
    let row = dead(3, events[2].id, Some("everything"), ShelfState::Dead);
    settle(&mut store, crm(), Progress { watermark: 4, ..Progress::default() }, vec![], vec![ShelfChange::Put(row)]);
    assert_eq!([1, 2, 3].map(fate), [Fate::Delivered, Fate::Delivered, Fate::Dead]);
}

#[test]
fn receipts_are_found_among_those_of_other_rows_and_lanes() {
    let place = tempfile::tempdir().unwrap();
    let mut store = filled(place.path());
    let receipt = |offset, at| Receipt {
        offset,
        route: RouteName::parse("everything").unwrap(),
        ending: Ending::Delivered,
        at: Timestamp::from_millis(at),
        attempts: 1,
        answer: "ack".into(),
    };
    for first in (1..600_u64).step_by(3) {
        let receipts = (first..first + 3).rev().map(|row| receipt(row, first.cast_signed())).collect();
        settle(&mut store, crm(), Progress { watermark: first + 3, ..Progress::default() }, receipts, vec![]);
        settle(&mut store, LaneName::Morgue, Progress { watermark: first, ..Progress::default() }, vec![], vec![]);
    }
    let queries = Queries::new(store.log.clone());
    for row in [1, 2, 300, 599] {
        let found = queries.receipts(row).unwrap();
        assert_eq!(found.len(), 1, "row {row}");
        assert_eq!((&found[0].0, found[0].1.offset), (&crm(), row));
    }
    assert_eq!(queries.receipts(5_000).unwrap(), []);
}

#[test]
fn dead_letters_are_listed_across_shelves_paged_and_counted() {
    let place = tempfile::tempdir().unwrap();
    let mut store = filled(place.path());
    let event = all_events(&store)[0].id;
    let put = |row, route, state| ShelfChange::Put(dead(row, event, route, state));
    let progress = Progress { watermark: 50, ..Progress::default() };
    let shelf = vec![
        put(10, Some("a"), ShelfState::Dead),
        put(10, Some("b"), ShelfState::Dead),
        put(11, Some("a"), ShelfState::Parked),
        put(30, Some("a"), ShelfState::Dead),
    ];
    settle(&mut store, crm(), progress.clone(), vec![], shelf);
    let shelf = vec![put(20, None, ShelfState::Dead), put(10, Some("c"), ShelfState::Dead)];
    settle(&mut store, LaneName::Morgue, progress, vec![], shelf);
    let queries = Queries::new(store.log.clone());
    let (mut seen, mut after): (Vec<(u64, String)>, Option<ShelfPlace>) = (Vec::new(), None);
    loop {
        let page = queries.dead_letters(&ShelfFilter::default(), after.as_ref(), 2).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place.clone());
        seen.extend(page.into_iter().map(|letter| (letter.row.offset, letter.place.route)));
    }
    let expected = [(30, "a"), (20, ""), (10, "c"), (10, "a"), (10, "b")];
    assert_eq!(seen, expected.map(|(row, route)| (row, route.to_owned())));
    let filter = ShelfFilter { lane: Some(crm()), route: RouteName::parse("a").ok(), ..ShelfFilter::default() };
    assert_eq!(queries.dead_letters(&filter, None, 10).unwrap().len(), 2);
    let filter = ShelfFilter { cause: Some(DeadCause::Expired), ..ShelfFilter::default() };
    assert_eq!(queries.dead_letters(&filter, None, 10).unwrap(), []);
    let groups = queries.dead_letter_groups().unwrap();
    assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [2, 3]);
    let one = queries.dead_letter(&LaneName::Morgue, 20, None).unwrap().unwrap();
    assert_eq!((one.row.offset, one.row.route), (20, None));
    assert_eq!(queries.dead_letter(&crm(), 11, RouteName::parse("a").ok().as_ref()).unwrap(), None);
}
