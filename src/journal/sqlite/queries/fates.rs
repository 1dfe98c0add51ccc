//! What became of an event: its decision, and where each of its deliveries is.

use crate::{
    domain::{DestinationName, Offset, RouteName},
    journal::{
        LaneName, LaneRecord, Progress, ReadError,
        sqlite::queries::{Queries, decisions::Decided, lanes},
    },
};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// The state of an event, as lists show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Stored, not decided yet.
    Received,
    /// All that was asked for is done.
    Delivered,
    /// Something is on its way.
    Delivering,
    /// Something waits on a shelf: for its key's turn, or for a record that it requires.
    Parked,
    /// Something is a dead letter.
    Dead,
    /// No route took it.
    Unrouted,
    /// No route took it, and the file says to count such ones only.
    Discarded,
    /// A copy from reconciliation had gone out before.
    Superseded,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Delivered,
        Self::Delivering,
        Self::Parked,
        Self::Dead,
        Self::Unrouted,
        Self::Discarded,
        Self::Superseded,
    ];

    /// The word in lists and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Delivered => "delivered",
            Self::Delivering => "delivering",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Unrouted => "unrouted",
            Self::Discarded => "discarded",
            Self::Superseded => "superseded",
        }
    }

    /// Reads what [`Fate::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.as_str() == text)
    }
}

/// Where one delivery is; never a fate that a whole event alone can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFate {
    /// Its route; `None` when the event itself is dead.
    pub route: Option<RouteName>,
    /// Where it goes; `None` for what was dead on decision.
    pub destination: Option<DestinationName>,
    /// Where it is.
    pub fate: Fate,
}

/// All that became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In a word.
    pub fate: Fate,
    /// What was decided, once it was.
    pub decided: Option<Decided>,
    /// Each delivery.
    pub deliveries: Vec<DeliveryFate>,
}

impl Queries {
    /// Tells what became of some events, by event.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn fates(&self, events: &[Offset]) -> Result<BTreeMap<Offset, Told>, ReadError> {
        // Lanes are read after the decisions: a lane that has a row behind it is never asked for one that it has not.
        let router = self.state(|connection| Ok(Lanes(lanes(connection)?)))?;
        let decided = events.iter().copied().filter(|event| router.has_decided(*event)).collect::<Vec<_>>();
        let mut decisions = self.decisions(&decided)?;
        self.state(|connection| {
            let lanes = Lanes(lanes(connection)?);
            let mut told = BTreeMap::new();
            for event in events {
                let one = match decisions.remove(event) {
                    Some(decided) => lanes.told(connection, decided)?,
                    None => lanes.not_decided(connection, *event)?,
                };
                told.insert(*event, one);
            }
            Ok(told)
        })
    }
}

struct Lanes(Vec<(i64, LaneRecord)>);

impl Lanes {
    fn find(&self, name: &LaneName) -> Option<&(i64, LaneRecord)> {
        self.0.iter().find(|(_, record)| record.lane == *name)
    }

    fn has_decided(&self, event: Offset) -> bool {
        self.find(&LaneName::Router).is_some_and(|(_, record)| is_settled(&record.progress, event, None))
    }

    /// An event without a decision: it waits for its turn, or on the router's shelf for a record that it requires.
    fn not_decided(&self, connection: &Connection, event: Offset) -> rusqlite::Result<Told> {
        let parked =
            self.has_decided(event) && self.delivery(connection, &LaneName::Router, event, None)? == Fate::Parked;
        let fate = if parked { Fate::Parked } else { Fate::Received };
        Ok(Told { fate, decided: None, deliveries: Vec::new() })
    }

    fn told(&self, connection: &Connection, decided: Decided) -> rusqlite::Result<Told> {
        let mut deliveries = Vec::new();
        for target in &decided.decision.targets {
            let lane = LaneName::Destination(target.destination.clone());
            let fate = self.delivery(connection, &lane, decided.offset, Some(&target.route))?;
            let (route, destination) = (Some(target.route.clone()), Some(target.destination.clone()));
            deliveries.push(DeliveryFate { route, destination, fate });
        }
        for dead in &decided.decision.dead {
            let fate = match self.delivery(connection, &LaneName::Morgue, decided.offset, dead.route.as_ref())? {
                // On its way to the shelf.
                Fate::Delivering => Fate::Dead,
                fate => fate,
            };
            deliveries.push(DeliveryFate { route: dead.route.clone(), destination: None, fate });
        }
        let decision = &decided.decision;
        let fate = match deliveries.iter().map(|delivery| delivery.fate).max() {
            _ if decision.superseded => Fate::Superseded,
            _ if decision.discarded => Fate::Discarded,
            None => Fate::Unrouted,
            Some(fate) => fate,
        };
        Ok(Told { fate, decided: Some(decided), deliveries })
    }

    fn delivery(
        &self,
        connection: &Connection,
        lane: &LaneName,
        row: Offset,
        route: Option<&RouteName>,
    ) -> rusqlite::Result<Fate> {
        // A lane that is forgotten had nothing left to do.
        let Some((lane, record)) = self.find(lane) else { return Ok(Fate::Delivered) };
        let sql = "SELECT state FROM shelf WHERE lane = ?1 AND row = ?2 AND route = ?3";
        let route_text = route.map(RouteName::as_str).unwrap_or_default();
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((lane, row.cast_signed(), route_text))?;
        match rows.next()?.map(|row| row.get::<_, i64>(0)).transpose()? {
            Some(0) => Ok(Fate::Parked),
            Some(_) => Ok(Fate::Dead),
            None if is_settled(&record.progress, row, route) => Ok(Fate::Delivered),
            None => Ok(Fate::Delivering),
        }
    }
}

/// Whether a lane is done with a row, or with one of its deliveries.
fn is_settled(progress: &Progress, row: Offset, route: Option<&RouteName>) -> bool {
    let Some(beyond) = row.checked_sub(progress.watermark) else { return true };
    let word = usize::try_from(beyond / 64).ok().and_then(|index| progress.beyond.get(index));
    let whole = word.is_some_and(|word| (word >> (beyond % 64)) & 1 == 1);
    whole || progress.partial.iter().any(|(partial, of)| *partial == row && Some(of) == route)
}
