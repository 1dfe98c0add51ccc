//! Jobs against a real `state.db`.

use super::{
    Counts, JobState,
    feed::{Chunk, NewItem, Planned},
    settle::PartSettlement,
};
use crate::{
    domain::{
        DeadCause, DestinationName, EventId, Incarnation, OrderKey, Partition, Position, ReplayJob, RouteName,
        Timestamp,
    },
    journal::{
        LaneName, LaneRecord, Progress, Settlement, ShelfChange, ShelfRow, ShelfState, State,
        sqlite::{Store, open, queries::Queries, store_tests::options},
    },
};

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn name(text: &str) -> DestinationName {
    DestinationName::parse(text).unwrap()
}

fn lane(text: &str) -> LaneName {
    LaneName::Destination(name(text))
}

fn letter(offset: u64, holds: bool) -> ShelfRow {
    let position = Position { partition: Partition(0), offset };
    ShelfRow {
        offset,
        route: Some(RouteName::parse("leads").unwrap()),
        event: EventId { received_at: AT, position, incarnation: Incarnation(1) },
        order: Some(OrderKey(offset)),
        state: ShelfState::Dead,
        cause: Some(DeadCause::Unroutable),
        detail: "nobody is bound".into(),
        attempts: 5,
        first_at: AT,
        last_at: AT,
        holds,
    }
}

/// A store with two destinations; these dead letters lie on the first one's shelf.
struct Bench {
    store: Store,
    _place: tempfile::TempDir,
}

impl Bench {
    fn new(letters: &[ShelfRow]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut store = open(&options(place.path())).unwrap();
        let progress = Progress { watermark: 100, ..Progress::default() };
        for lane in [lane("crm"), lane("lake"), LaneName::Morgue] {
            let shelf = if lane == self::lane("crm") { letters } else { &[] };
            let shelf = shelf.iter().cloned().map(ShelfChange::Put).collect();
            let progress = progress.clone();
            let settlement = Settlement { lane, partition: Partition(0), progress, receipts: vec![], shelf };
            store.state.settle(&[settlement]).unwrap();
        }
        Self { store, _place: place }
    }

    fn queries(&self) -> Queries {
        Queries::new(self.store.log.clone())
    }

    fn job(&mut self) -> ReplayJob {
        self.store.state.create_job(AT, "ops", ("{}", "all"), None).unwrap()
    }

    /// Chooses a dead letter for some destinations; how many items came of it.
    fn choose(&mut self, job: ReplayJob, row: &ShelfRow, to: &[&str], moved: bool) -> u64 {
        let parts: Vec<_> = (1..).zip(to).map(|(index, to)| (job.part(index), name(to))).collect();
        let items = parts.iter().map(|(part, _)| NewItem {
            part: *part,
            row: ShelfRow { state: ShelfState::Replaying(*part), holds: false, ..row.clone() },
            again: false,
            moved,
        });
        let origin = Some((lane("crm"), row.offset, row.route.clone()));
        let planned = vec![Planned { origin, items: items.collect(), ..Planned::default() }];
        let chunk = Chunk { job, parts, planned, cursor: "1".into(), pin: None, complete: true, gone: 0 };
        self.store.state.feed_job(&chunk, AT).unwrap().0.values().sum()
    }

    /// An item ends; which keys are let go.
    fn end(&mut self, part: ReplayJob, to: &str, row: &ShelfRow, dead: Option<DeadCause>) -> (Counts, usize) {
        let change = match dead {
            None => ShelfChange::Remove(row.offset, row.route.clone()),
            Some(cause) => {
                ShelfChange::Put(ShelfRow { state: ShelfState::Dead, cause: Some(cause), attempts: 6, ..row.clone() })
            }
        };
        let settlement = PartSettlement {
            part,
            destination: name(to),
            progress: Progress { watermark: 2, ..Progress::default() },
            receipts: vec![],
            shelf: vec![change],
        };
        let (counts, released) = self.store.state.settle_part(&settlement).unwrap();
        (counts, released.len())
    }

    /// What lies on a shelf: cause, tries, and whether a job has it.
    fn shelf(&self, lane: &LaneName) -> Vec<(u64, DeadCause, u32, bool)> {
        let all = self.queries().dead_letters(&Default::default(), None, 10).unwrap();
        let mine = all.into_iter().filter(|letter| letter.lane == *lane).map(|letter| letter.row);
        mine.map(|row| (row.offset, row.cause.unwrap(), row.attempts, row.state != ShelfState::Dead)).collect()
    }
}

#[test]
fn a_dead_letter_goes_when_all_that_came_of_it_is_delivered() {
    let row = letter(7, true);
    let mut bench = Bench::new(std::slice::from_ref(&row));
    let job = bench.job();
    assert_eq!(bench.choose(job, &row, &["crm", "lake"], false), 2);
    let other = bench.job();
    assert_eq!(bench.choose(other, &row, &["crm"], false), 0, "it is the first job's");
    assert_eq!(bench.shelf(&lane("crm")), [(7, DeadCause::Unroutable, 5, true)]);
    assert_eq!(bench.queries().job_items(job.part(2), 0, 10).unwrap().len(), 1);

    assert_eq!(bench.end(job.part(1), "crm", &row, None).1, 0);
    assert_eq!(bench.shelf(&lane("crm")).len(), 1, "one is still out");
    let (counts, released) = bench.end(job.part(2), "lake", &row, None);
    assert_eq!((counts.matched, counts.delivered, counts.remaining(), released), (2, 2, 0, 1));
    assert_eq!(bench.shelf(&lane("crm")), []);
    // The same settlement again, because its answer was lost, counts nothing twice.
    assert_eq!(bench.end(job.part(2), "lake", &row, None).0.delivered, 2);
}

#[test]
fn a_dead_letter_is_one_again_when_one_of_its_deliveries_died_and_not_before_the_others_ended() {
    let row = letter(7, true);
    let mut bench = Bench::new(std::slice::from_ref(&row));
    let job = bench.job();
    bench.choose(job, &row, &["crm", "lake"], false);
    bench.end(job.part(1), "crm", &row, Some(DeadCause::TooLarge));
    assert_eq!(bench.shelf(&lane("crm")), [(7, DeadCause::TooLarge, 6, true)]);
    let (counts, released) = bench.end(job.part(2), "lake", &row, None);
    assert_eq!((counts.delivered, counts.failed, released), (1, 1, 0), "its key stays held");
    assert_eq!(bench.shelf(&lane("crm")), [(7, DeadCause::TooLarge, 6, false)]);
    // Nothing is left behind: another job may have it.
    let next = bench.job();
    assert_eq!(bench.choose(next, &row, &["crm"], false), 1);
}

#[test]
fn what_was_decided_anew_dies_on_the_shelf_of_where_it_went() {
    let row = letter(7, false);
    let mut bench = Bench::new(std::slice::from_ref(&row));
    let job = bench.job();
    let new = letter(42, false);
    let parts = vec![(job.part(1), name("lake"))];
    let items = vec![NewItem {
        part: job.part(1),
        row: ShelfRow { state: ShelfState::Replaying(job.part(1)), ..new.clone() },
        again: false,
        moved: true,
    }];
    let planned = vec![Planned { origin: Some((lane("crm"), 7, row.route.clone())), items, ..Planned::default() }];
    let chunk = Chunk { job, parts, planned, cursor: "1".into(), pin: None, complete: true, gone: 3 };
    bench.store.state.feed_job(&chunk, AT).unwrap();
    bench.end(job.part(1), "lake", &new, Some(DeadCause::Rejected));
    assert_eq!(bench.shelf(&lane("crm")), []);
    assert_eq!(bench.shelf(&lane("lake")), [(42, DeadCause::Rejected, 6, false)]);
    assert_eq!(bench.queries().job(job).unwrap().unwrap().counts.gone, 3);
}

#[test]
fn a_job_that_is_ended_gives_back_what_it_has_as_it_was() {
    let rows = [letter(7, false), letter(8, false)];
    let mut bench = Bench::new(&rows);
    let job = bench.job();
    bench.choose(job, &rows[0], &["crm"], false);
    bench.choose(job, &rows[1], &["crm"], false);
    bench.end(job.part(1), "crm", &rows[0], None);
    let moved = bench.store.state.move_job(job, &[JobState::Running], JobState::Cancelling, (AT, "ops")).unwrap();
    assert_eq!(moved.unwrap().state, JobState::Cancelling);
    let ended = bench.store.state.give_back_job(job, JobState::Cancelled, AT).unwrap().unwrap();
    assert_eq!((ended.state, ended.counts.delivered), (JobState::Cancelled, 1));
    assert_eq!(bench.shelf(&lane("crm")), [(8, DeadCause::Unroutable, 5, false)]);
    assert!(bench.queries().job_items(job.part(1), 0, 10).unwrap().is_empty());
    let again = bench.store.state.move_job(job, &[JobState::Paused], JobState::Running, (AT, "ops")).unwrap();
    assert_eq!(again.unwrap().state, JobState::Cancelled, "what is over stays so");
    let said: Vec<_> = bench.queries().audit(None, 10).unwrap().into_iter().map(|line| line.what).collect();
    assert!(said[0].starts_with(&format!("replay {job} is cancelled: 2 matched, 1 delivered")), "{said:?}");
}

#[test]
fn a_discard_leaves_what_a_job_has_and_lets_keys_go() {
    let rows = [letter(7, true), letter(8, true)];
    let mut bench = Bench::new(&rows);
    let job = bench.job();
    bench.choose(job, &rows[0], &["crm"], false);
    let letters: Vec<_> = rows.iter().map(|row| (lane("crm"), row.offset, row.route.clone())).collect();
    let (gone, released) = bench.store.state.discard(&letters).unwrap();
    assert_eq!((gone.len(), released), (1, vec![(name("crm"), OrderKey(8))]));
    assert_eq!(bench.shelf(&lane("crm")), [(7, DeadCause::Unroutable, 5, true)]);
    // A job's lane is no destination's: it pins nothing, and its list is on no list of dead letters.
    let lanes: Vec<LaneRecord> = bench.store.state.lanes().unwrap();
    assert!(lanes.iter().any(|record| record.lane == LaneName::Replay(job.part(1)) && *record.kind == *"crm"));
}
