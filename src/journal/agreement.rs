//! The model and SQLite, driven by the same random steps, must show the same to everybody.

use crate::{
    domain::{
        DeadCause, DeadRoute, DestinationName, EnrichmentPart, EnrichmentStatus, Event, Incarnation, Offset, OrderKey,
        Partition, Record, RouteName, Timestamp,
    },
    journal::{
        Appender, Batch, Ending, Entry, LaneName, LaneRecord, Log, NewRouted, Progress, ReadLimit, Receipt, Settlement,
        ShelfChange, ShelfRow, ShelfState, State, Wanted,
        ids::SealedIds,
        memory::{
            MemoryJournal,
            ends::{MemoryAppender, MemoryState},
        },
        samples,
        sqlite::{Options, Store, open, state_rows::unpack_receipts, store_tests::options},
    },
};
use proptest::{collection::vec, prelude::Strategy, prop_oneof, test_runner::Config};
use std::sync::Arc;

const P0: Partition = Partition(0);

/// What both stores are told to do.
#[derive(Debug, Clone)]
enum Step {
    /// Append events with these ids.
    Events(Vec<(u16, bool)>),
    /// Decide about events; each number chooses an event, and what is decided.
    Routed(Vec<u16>),
    /// Settle for one of three lanes; numbers choose rows and endings.
    Settle(u8, Vec<u16>),
    Roll,
    Seal,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => vec((0..40_u16, proptest::bool::ANY), 1..8).prop_map(Step::Events),
        4 => vec(0..1_000_u16, 1..8).prop_map(Step::Routed),
        3 => (0..3_u8, vec(0..1_000_u16, 0..6)).prop_map(|(lane, rows)| Step::Settle(lane, rows)),
        1 => proptest::strategy::Just(Step::Roll),
        1 => proptest::strategy::Just(Step::Seal),
        1 => proptest::strategy::Just(Step::Reopen),
    ];
    vec(step, 1..30)
}

/// Both stores, and the folder of the one on disk.
struct Both {
    place: tempfile::TempDir,
    model: MemoryJournal,
    model_appender: MemoryAppender,
    model_state: MemoryState,
    store: Option<Store>,
    run: u32,
}

impl Both {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let model = MemoryJournal::new(1);
        let store = Some(open(&options(place.path())).unwrap());
        let (model_appender, model_state) = (model.appender(P0, Incarnation(9)), model.state());
        Self { place, model_appender, model_state, model, store, run: 9 }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Events(ids) => {
                let event =
                    |(id, conflict): &(u16, bool)| (samples::event(&id.to_string(), 40 * usize::from(*id)), *conflict);
                self.append(&Batch { events: ids.iter().map(event).collect(), routed: vec![] });
            }
            Step::Routed(choices) => {
                let events = read_all(|from| self.model.log().events(P0, from, SMALL).unwrap());
                if !events.is_empty() {
                    let routed = choices.iter().map(|choice| decide(&events, *choice)).collect();
                    self.append(&Batch { events: vec![], routed });
                }
            }
            Step::Settle(lane, choices) => {
                let settlement = settlement(*lane, choices);
                self.model_state.settle(std::slice::from_ref(&settlement)).unwrap();
                self.store().state.settle(&[settlement]).unwrap();
            }
            Step::Roll => {
                self.model.roll(P0);
                self.store().appender.roll(Timestamp::from_millis(1_726_824_333_000)).unwrap();
            }
            Step::Seal => {
                self.model.seal(P0);
                while self.store().sealer.seal_next().unwrap().is_some() {}
            }
            Step::Reopen => {
                self.run += 1;
                drop(self.store.take());
                self.model.crash();
                (self.model_appender, self.model_state) =
                    (self.model.appender(P0, Incarnation(self.run)), self.model.state());
                let options = Options { incarnation: Incarnation(self.run), ..options(self.place.path()) };
                self.store = Some(open(&options).unwrap());
            }
        }
    }

    fn append(&mut self, batch: &Batch) {
        assert_eq!(self.model_appender.append(batch).unwrap(), self.store().appender.append(batch).unwrap());
    }

    fn compare(&mut self) {
        let store = self.store.as_ref().unwrap();
        let model = self.model.log();
        assert_eq!(model.heads(P0), store.log.heads(P0));
        assert_eq!(self.model_appender.segment_start(), store.appender.segment_start());
        let events = read_all(|from| model.events(P0, from, SMALL).unwrap());
        assert_eq!(events, read_all(|from| store.log.events(P0, from, SMALL).unwrap()));
        for wanted in [Wanted::All, Wanted::Dead, wanted("crm"), wanted("lake"), wanted("nobody")] {
            let rows = read_all(|from| model.routed(P0, from, &wanted, SMALL).unwrap());
            assert_eq!(rows, read_all(|from| store.log.routed(P0, from, &wanted, SMALL).unwrap()), "{wanted:?}");
        }
        for event in events.iter().step_by(7) {
            assert_eq!(store.log.event(event.id).unwrap().as_ref(), Some(event));
        }
        assert_eq!(self.model_state.lanes().unwrap(), store.state.lanes().unwrap());
        for lane in (0..3).map(lane) {
            for order in (0..4).map(OrderKey) {
                let parked = store.state.parked(&lane, P0, order, 3).unwrap();
                assert_eq!(self.model_state.parked(&lane, P0, order, 3).unwrap(), parked);
            }
        }
        let model_receipts: Vec<_> =
            (0..3).flat_map(|lane_number| self.model.state_image().receipts(&lane(lane_number), P0)).collect();
        assert_eq!(model_receipts, receipts(store));
        // Sealed or not, each id is known once.
        let unsealed: Vec<_> = self.model.unsealed_ids(P0).into_iter().flat_map(|ids| ids.pairs).collect();
        for event in &events {
            let pair = crate::journal::ids::IdPair { id_hash: event.id_hash, body_hash: event.body_hash };
            let known = self.model.sealed_ids(P0).find(pair.id_hash, pair.body_hash);
            if !unsealed.contains(&pair) {
                assert_eq!(store.sealed_ids.find(pair.id_hash, pair.body_hash), known);
            }
        }
    }
}

/// Rows of each log before the first step.
const ROWS: u16 = 70;
const SMALL: ReadLimit = ReadLimit { rows: 5, bytes: 3_000 };

fn read_all<T: std::fmt::Debug>(page: impl Fn(Offset) -> crate::journal::Page<T>) -> Vec<Arc<T>> {
    let (mut rows, mut from) = (Vec::new(), 1);
    loop {
        let page = page(from);
        assert_eq!(page.gone, 0);
        for entry in page.rows {
            match entry {
                Entry::Row(row) => rows.push(row),
                Entry::Damaged(damage) => panic!("{damage:?}"),
            }
        }
        if page.next == from {
            return rows;
        }
        from = page.next;
    }
}

fn wanted(name: &str) -> Wanted {
    Wanted::Destination(DestinationName::parse(name).unwrap())
}

fn decide(events: &[Arc<Event>], choice: u16) -> NewRouted {
    let event = &events[usize::from(choice) % events.len()];
    let destinations: &[&str] = [&["crm"][..], &["lake"], &["crm", "lake"], &[]][usize::from(choice % 4)];
    let mut new = samples::routed(event, destinations);
    new.row.job = u64::from(choice % 3);
    if choice.is_multiple_of(5) {
        let (route, cause) = (RouteName::parse("leads").ok().filter(|_| choice.is_multiple_of(2)), DeadCause::Template);
        new.row.decision.dead.push(DeadRoute { route, cause, detail: "undefined value".into() });
    }
    if choice.is_multiple_of(3) {
        // Few records, so that they repeat within a segment and across.
        let bytes: bytes::Bytes = format!("{{\"level\":{}}}", choice % 4).into();
        let record = Arc::new(Record { hash: samples::KEYS.body(&bytes), bytes });
        new.row.enrichment.push(EnrichmentPart {
            what: "client".into(),
            status: EnrichmentStatus::Ok,
            reason: None,
            fetched_at: Some(Timestamp::from_millis(i64::from(choice))),
            record: Some(record),
        });
    }
    new
}

fn lane(number: u8) -> LaneName {
    match number {
        0 => LaneName::Router,
        1 => LaneName::Morgue,
        _ => LaneName::Destination(DestinationName::parse("crm").unwrap()),
    }
}

fn settlement(number: u8, choices: &[u16]) -> Settlement {
    let route = |choice: u16| RouteName::parse(["leads", "everything"][usize::from(choice % 2)]).unwrap();
    let receipt = |choice: &u16| Receipt {
        offset: u64::from(choice % 9) + 1,
        route: route(*choice),
        ending: [Ending::Delivered, Ending::Parked, Ending::Dead(DeadCause::TooLarge)][usize::from(choice % 3)],
        at: Timestamp::from_millis(i64::from(*choice) - 500),
        attempts: u32::from(*choice),
        answer: ["ack", ""][usize::from(choice % 5 / 4)].into(),
    };
    let change = |choice: &u16| {
        let (offset, route) = (u64::from(choice % 9) + 1, Some(route(*choice)).filter(|_| !choice.is_multiple_of(4)));
        if choice.is_multiple_of(3) {
            return ShelfChange::Remove(offset, route);
        }
        let event = samples::event("shelf", 10).at(P0, offset, Incarnation(9), false).id;
        ShelfChange::Put(ShelfRow {
            offset,
            route,
            event,
            order: Some(OrderKey(u64::from(choice % 4))).filter(|_| !choice.is_multiple_of(7)),
            state: [ShelfState::Parked, ShelfState::Dead, ShelfState::Replaying(crate::domain::ReplayJob(7))]
                [usize::from(choice / 10 % 3)],
            cause: Some(DeadCause::Rejected).filter(|_| choice.is_multiple_of(2)),
            detail: "no".into(),
            attempts: 1,
            first_at: Timestamp::from_millis(1),
            last_at: Timestamp::from_millis(2),
            holds: choice / 10 % 3 == 1 && choice.is_multiple_of(5),
        })
    };
    let watermark = choices.iter().map(|choice| u64::from(*choice % 4)).sum::<u64>();
    // Within the rows that are there from the beginning: a mark beyond the end would mean that the tail was lost.
    let partial = choices.iter().map(|choice| (u64::from(choice % ROWS), route(*choice))).collect();
    let beyond = choices.iter().take(1).map(|choice| u64::from(*choice) << 40).collect();
    Settlement {
        lane: lane(number),
        partition: P0,
        progress: Progress { watermark: watermark.min(1), beyond, partial, reflects: 0 },
        receipts: choices.iter().map(receipt).collect(),
        shelf: choices.iter().map(change).collect(),
    }
}

/// All receipts on disk, by lane.
fn receipts(store: &Store) -> Vec<Receipt> {
    let sql = "SELECT first_row, packed FROM receipts JOIN lanes ON lanes.id = receipts.lane \
         ORDER BY CASE lanes.lane WHEN 'router' THEN 0 WHEN 'morgue' THEN 1 ELSE 2 END, receipts.id";
    let rows: Vec<(i64, Vec<u8>)> = store
        .state
        .read(|connection| connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .unwrap();
    rows.into_iter().flat_map(|(first, packed)| unpack_receipts(first.cast_unsigned(), &packed).unwrap()).collect()
}

#[test]
fn the_model_and_sqlite_show_the_same() {
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    proptest::proptest!(config, |(steps in steps())| {
        let mut both = Both::new();
        for number in 0..3 {
            let record = LaneRecord {
                lane: lane(number),
                partition: P0,
                kind: "file".into(),
                progress: Progress { watermark: 1, ..Progress::default() },
                parked: vec![],
                paused: false,
            };
            both.model_state.register(std::slice::from_ref(&record)).unwrap();
            both.store().state.register(&[record]).unwrap();
        }
        both.step(&Step::Events((0..ROWS).map(|id| (id % 9, false)).collect()));
        both.step(&Step::Routed((0..ROWS).collect()));
        for step in &steps {
            both.step(step);
        }
        both.compare();
        both.step(&Step::Reopen);
        both.compare();
    });
}
