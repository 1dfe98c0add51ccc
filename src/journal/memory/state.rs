//! The model's state: lanes, their shelves and receipts, as plain maps.

use crate::{
    domain::{Offset, OrderKey, Partition, RouteName, Timestamp},
    journal::{LaneName, LaneRecord, ParkedKey, Progress, Receipt, Settlement, ShelfChange, ShelfRow, ShelfState},
};
use std::collections::BTreeMap;

/// Everything that `settle` and `register` make durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateImage {
    lanes: BTreeMap<(LaneName, Partition), LaneImage>,
    generations: Vec<String>,
    marks: BTreeMap<String, Timestamp>,
}

/// One lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LaneImage {
    kind: Box<str>,
    progress: Progress,
    paused: bool,
    shelf: BTreeMap<(Offset, Option<RouteName>), ShelfRow>,
    receipts: Vec<Receipt>,
}

impl StateImage {
    /// Adds lanes that are not known yet.
    pub fn register(&mut self, lanes: &[LaneRecord]) {
        for record in lanes {
            self.lanes.entry((record.lane.clone(), record.partition)).or_insert_with(|| LaneImage {
                kind: record.kind.clone(),
                progress: record.progress.clone(),
                paused: record.paused,
                ..LaneImage::default()
            });
        }
    }

    /// Carries a settlement out.
    pub fn settle(&mut self, settlement: &Settlement) {
        let lane = self.lanes.entry((settlement.lane.clone(), settlement.partition)).or_default();
        lane.progress = settlement.progress.clone();
        lane.receipts.extend_from_slice(&settlement.receipts);
        for change in &settlement.shelf {
            match change {
                ShelfChange::Put(row) => lane.shelf.insert((row.offset, row.route.clone()), row.clone()),
                ShelfChange::Remove(offset, route) => lane.shelf.remove(&(*offset, route.clone())),
            };
        }
    }

    /// Notes whether a lane is paused.
    pub fn pause(&mut self, lane: &LaneName, partition: Partition, paused: bool) {
        if let Some(image) = self.lanes.get_mut(&(lane.clone(), partition)) {
            image.paused = paused;
        }
    }

    /// Forgets a lane and its shelf.
    pub fn forget(&mut self, lane: &LaneName, partition: Partition) {
        self.lanes.remove(&(lane.clone(), partition));
    }

    /// The number of a generation of the routes.
    pub fn generation(&mut self, text: &str) -> u32 {
        if self.generations.last().is_none_or(|last| last != text) {
            self.generations.push(text.to_owned());
        }
        u32::try_from(self.generations.len()).unwrap_or(u32::MAX)
    }

    /// How far a feed has read.
    #[must_use]
    pub fn mark(&self, feed: &str) -> Option<Timestamp> {
        self.marks.get(feed).copied()
    }

    /// Notes how far a feed has read.
    pub fn set_mark(&mut self, feed: &str, mark: Timestamp) {
        self.marks.insert(feed.to_owned(), mark);
    }

    /// Every lane, by name.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneRecord> {
        let record = |((lane, partition), image): (&(LaneName, Partition), &LaneImage)| LaneRecord {
            lane: lane.clone(),
            partition: *partition,
            kind: image.kind.clone(),
            progress: image.progress.clone(),
            parked: image.parked(),
            paused: image.paused,
        };
        self.lanes.iter().map(record).collect()
    }

    /// The first parked rows of a key.
    #[must_use]
    pub fn parked(&self, lane: &LaneName, partition: Partition, order: OrderKey, rows: usize) -> Vec<ShelfRow> {
        let rows_of_key = |image: &LaneImage| {
            let parked = image.shelf.values().filter(|row| row.state == ShelfState::Parked);
            parked.filter(|row| row.order == Some(order)).take(rows).cloned().collect()
        };
        self.lanes.get(&(lane.clone(), partition)).map(rows_of_key).unwrap_or_default()
    }

    /// A lane's whole shelf, by row and route.
    #[must_use]
    pub fn shelf(&self, lane: &LaneName, partition: Partition) -> Vec<ShelfRow> {
        let lane = self.lanes.get(&(lane.clone(), partition));
        lane.map(|image| image.shelf.values().cloned().collect()).unwrap_or_default()
    }

    /// How far a lane has come.
    #[must_use]
    pub fn progress(&self, lane: &LaneName, partition: Partition) -> Option<&Progress> {
        self.lanes.get(&(lane.clone(), partition)).map(|image| &image.progress)
    }

    /// One row of a lane's shelf.
    #[must_use]
    pub fn on_shelf(
        &self,
        lane: &LaneName,
        partition: Partition,
        offset: Offset,
        route: Option<&RouteName>,
    ) -> Option<&ShelfRow> {
        self.lanes.get(&(lane.clone(), partition))?.shelf.get(&(offset, route.cloned()))
    }

    /// A lane's receipts, in the order they were settled.
    #[must_use]
    pub fn receipts(&self, lane: &LaneName, partition: Partition) -> Vec<Receipt> {
        self.lanes.get(&(lane.clone(), partition)).map(|image| image.receipts.clone()).unwrap_or_default()
    }
}

impl LaneImage {
    fn parked(&self) -> Vec<ParkedKey> {
        let mut keys = BTreeMap::new();
        for row in self.shelf.values() {
            let Some(order) = row.order else { continue };
            let parked = row.state == ShelfState::Parked;
            if parked || row.holds {
                let key = keys.entry(order).or_insert(ParkedKey { order, rows: 0, held: false });
                key.rows += u64::from(parked);
                key.held |= row.holds && !parked;
            }
        }
        keys.into_values().collect()
    }
}
