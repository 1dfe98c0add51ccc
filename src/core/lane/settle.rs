//! What a lane makes durable, and when.

use crate::{
    core::lane::{Carried, Effect, IDLE_SETTLE, Settling, keys::Pending, step::Lane},
    domain::Timestamp,
    journal::{Ending, Receipt, ShelfChange},
};
use std::sync::Arc;

impl<T: Carried> Lane<T> {
    /// Notes how a delivery ended; its place in the window is free when that is durable.
    pub(super) fn record(&mut self, now: Timestamp, pending: Pending<T>, ending: Ending, answer: Box<str>) {
        let item = &pending.item;
        if pending.shelved {
            if ending == Ending::Delivered {
                self.left_the_shelf(item);
                self.pending.shelf.push(ShelfChange::Remove(item.offset, item.route.clone()));
            }
        } else {
            self.marks.settle(item.offset, item.route.as_ref());
        }
        let Some(route) = pending.item.route.filter(|_| self.config.receipts) else { return };
        let (offset, attempts) = (pending.item.offset, pending.attempts);
        self.unsettled.0 += 1;
        self.pending.receipts.push(Receipt { offset, route, ending, at: now, attempts, answer });
    }

    /// When the next settlement is due, if there is anything to settle.
    pub(super) fn settle_at(&self) -> Option<Timestamp> {
        if self.settling.is_some() {
            return self.settle_again_at;
        }
        if !self.pending.receipts.is_empty() || !self.pending.shelf.is_empty() {
            return Some(self.settled_at.plus(self.config.settle_every));
        }
        (self.marks.watermark() != self.settled_watermark).then(|| self.settled_at.plus(IDLE_SETTLE))
    }

    /// Asks for a settlement when one is due and none is on its way.
    pub(super) fn settle(&mut self, now: Timestamp, effects: &mut Vec<Effect<T>>) {
        if self.settle_at().is_none_or(|at| at > now) {
            return;
        }
        if let Some(settling) = &self.settling {
            self.settle_again_at = None;
            effects.push(Effect::Settle(Arc::clone(settling)));
            return;
        }
        let mut settling: Settling = std::mem::take(&mut self.pending);
        settling.progress = self.marks.progress();
        settling.progress.reflects = self.reflects;
        self.unsettled = (0, self.unsettled.0);
        self.off_shelf = (Default::default(), std::mem::take(&mut self.off_shelf.0));
        self.fresh_rows_settle(&settling.shelf);
        self.settled_at = now;
        self.settled_watermark = settling.progress.watermark;
        let settling = Arc::new(settling);
        self.settling = Some(Arc::clone(&settling));
        effects.push(Effect::Settle(settling));
    }

    /// The settlement on its way is durable.
    pub(super) fn settled(&mut self) {
        if let Some(settling) = self.settling.take() {
            self.shelf_settled(&settling.shelf);
        }
        self.settle_again_at = None;
        self.unsettled.1 = 0;
    }

    /// Whether everything that ended is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settling.is_none() && self.pending.receipts.is_empty() && self.pending.shelf.is_empty()
    }

    /// Asks for everything to be settled at once, due or not: before the process stops.
    pub fn settle_now(&mut self, now: Timestamp, effects: &mut Vec<Effect<T>>) {
        self.settled_at = Timestamp::EPOCH;
        self.settle(now, effects);
    }
}
