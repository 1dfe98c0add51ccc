//! What a destination's lane hands to its outlet, and how rows of the log and of the shelf become it.

use crate::{
    config::settings::OnDead,
    core::lane::{Carried, Item},
    destinations::Outcome,
    domain::{
        DeadCause, Delivery, DestinationName, Event, EventId, Failure, FailureKind, Offset, Partition, RouteName,
        Routed, Timestamp,
    },
    journal::{Entry, Log, Page, ShelfRow, Wanted, tail::Tail},
    lanes::reader,
};
use std::sync::Arc;

/// What a lane's delivery is.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Something to publish.
    Delivery(Delivery),
    /// Something that is dead already: decided to be, or damaged.
    Dead(DeadCause, Box<str>),
}

impl Carried for Payload {
    fn bytes(&self) -> usize {
        match self {
            Self::Delivery(delivery) => delivery.routed.bytes(),
            Self::Dead(..) => 0,
        }
    }
}

/// Whether a route's dead letters hold their key; asked when a row is read.
pub type OnDeadOf = Arc<dyn Fn(&RouteName) -> OnDead + Send + Sync>;

/// Which part of ROUTED a lane works on.
#[derive(Debug, Clone)]
pub enum Part {
    /// The targets at a destination.
    Destination(DestinationName),
    /// What was dead on decision.
    Dead,
}

impl Part {
    /// What to read for it.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        match self {
            Self::Destination(name) => Wanted::Destination(name.clone()),
            Self::Dead => Wanted::Dead,
        }
    }

    /// A page's deliveries for this part.
    #[must_use]
    pub fn items(&self, partition: Partition, page: Page<Routed>, on_dead: &OnDeadOf) -> Vec<Item<Payload>> {
        let mut items = Vec::with_capacity(page.rows.len());
        for entry in page.rows {
            match entry {
                // What a replay decided is the replay's to publish.
                Entry::Row(routed) if routed.row.job != 0 => {}
                Entry::Row(routed) => self.of_row(&routed, on_dead, &mut items),
                Entry::Damaged(damage) => items.push(damaged(partition, damage.offset, damage.detail)),
            }
        }
        items
    }

    fn of_row(&self, routed: &Arc<Routed>, on_dead: &OnDeadOf, items: &mut Vec<Item<Payload>>) {
        let item = |route: Option<&RouteName>, payload| Item {
            offset: routed.offset,
            route: route.cloned(),
            event: routed.event.id,
            order: routed.event.order,
            received_at: routed.event.received_at,
            // Nothing waits behind what has no key.
            on_dead: route.filter(|_| routed.event.order.is_some()).map_or(OnDead::Continue, |route| on_dead(route)),
            payload,
        };
        match self {
            Self::Destination(name) => {
                let targets = routed.row.decision.targets.iter().enumerate();
                let mine = targets.filter(|(_, target)| target.destination == *name);
                items.extend(mine.map(|(index, target)| {
                    item(Some(&target.route), Payload::Delivery(Delivery::first(Arc::clone(routed), index)))
                }));
            }
            Self::Dead => {
                let dead = routed.row.decision.dead.iter();
                items.extend(dead.map(|dead| {
                    let payload = Payload::Dead(dead.cause, dead.detail.clone());
                    // A dead route alone never holds its key: it has no destination to keep order at.
                    Item { on_dead: OnDead::Continue, order: None, ..item(dead.route.as_ref(), payload) }
                }));
            }
        }
    }

    /// A row of this part's shelf as a delivery again, with the decision found for it. One whose decision is gone or
    /// spoiled is dead.
    #[must_use]
    pub fn of_shelf(
        &self,
        partition: Partition,
        row: ShelfRow,
        found: Option<Entry<Routed>>,
        on_dead: &OnDeadOf,
    ) -> Item<Payload> {
        let mut items = Vec::new();
        if let Some(Entry::Row(routed)) = &found {
            debug_assert_eq!(routed.event.position().partition, partition, "a shelf refers to its own partition");
            self.of_row(routed, on_dead, &mut items);
        }
        match items.into_iter().find(|item| item.route == row.route) {
            Some(item) => Item { order: row.order, ..item },
            None => Item {
                offset: row.offset,
                route: row.route,
                event: row.event,
                order: row.order,
                received_at: row.event.received_at,
                on_dead: OnDead::Continue,
                payload: Payload::Dead(DeadCause::Damaged, "its decision cannot be read any more".into()),
            },
        }
    }

    /// A parked key's shelf rows, with what they refer to: those up to the first that cannot be read now.
    pub async fn shelved<L: Log + 'static>(
        &self,
        log: &Arc<Tail<L>>,
        partition: Partition,
        rows: Vec<ShelfRow>,
        on_dead: &OnDeadOf,
    ) -> Vec<Item<Payload>> {
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let Ok(found) = reader::routed_row(log, partition, row.offset).await else { break };
            items.push(self.of_shelf(partition, row, found, on_dead));
        }
        items
    }
}

/// What the outlet would say of something that is dead already.
#[must_use]
pub fn refused(cause: DeadCause, detail: Box<str>) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Rejected(cause), detail })
}

fn damaged(partition: Partition, offset: Offset, detail: Box<str>) -> Item<Payload> {
    let event: EventId = Event::stand_in(partition, offset).id;
    Item {
        offset,
        route: None,
        event,
        order: None,
        received_at: Timestamp::now(),
        on_dead: OnDead::Continue,
        payload: Payload::Dead(DeadCause::Damaged, detail),
    }
}
