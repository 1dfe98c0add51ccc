//! What a replay chooses, chunk by chunk, and what each chosen thing comes to: the same for a preview and for the job.
//!
//! Of dead letters: those that nobody has, last tried before the job began. As routed, a delivery is sent as it was
//! decided; what died on decision has nothing to send, so today's routes decide it, as they do all where the job says so:
//! the dead letter's own route alone, or all of them where the event itself was the trouble. One that was for a
//! destination stands for that delivery alone, not for the others of its route. What comes to nothing stays a dead letter.
//!
//! Of events: those received before the job began. As routed, every delivery of theirs that was made, and by today's
//! routes what those decide; what is on its way or lies on a shelf is left to its lane. Sent somewhere else, all of them.

use super::{
    definition::{Checked, Choice, EventsThat, Routes},
    today::{dead_again, lacking},
};
use crate::{
    app::generation::Generation,
    domain::{
        DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, Event, EventId, Offset, Partition, RouteName,
        Routed, Target, Timestamp,
    },
    journal::{
        Entry, LaneName, Log, ReadError, ReadLimit,
        sqlite::{
            log::SqliteLog,
            queries::{
                Queries,
                fates::{DeliveryFate, Fate, Told},
                shelf::{DeadLetter, ShelfFilter, ShelfPlace},
            },
        },
        tail::Tail,
    },
    lanes::router::Fetch,
};
use std::{cmp::Reverse, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Dead letters or events looked at for a chunk.
const ROWS: usize = 500;
/// Bytes of bodies read for a chunk.
const BYTES: usize = 4 << 20;
/// Events stand in the order of their commits: the times in which they came may differ by this.
const DISORDER_MAX: Duration = Duration::from_secs(60);

/// What chooses.
pub struct Chooser {
    /// Asks the store.
    pub queries: Queries,
    /// Reads the logs.
    pub log: Arc<Tail<SqliteLog>>,
    /// Today's routes.
    pub generation: Arc<Generation>,
    /// Fetches records for today's routes.
    pub fetch: Arc<dyn Fetch>,
    /// What is asked for.
    pub checked: Arc<Checked>,
    /// When the job began.
    pub began: Timestamp,
    /// The end of the process.
    pub stop: CancellationToken,
    /// Whether what they come to does not matter: for a discard.
    pub only_which: bool,
}

/// A chunk of what is chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Each thing.
    pub things: Vec<Thing>,
    /// Where to go on.
    pub cursor: String,
    /// The first event still to be read.
    pub pin: Option<Offset>,
    /// Whether that was all.
    pub complete: bool,
    /// Rows that retention had taken.
    pub gone: u64,
}

/// A dead letter or an event, and what it comes to.
#[derive(Debug)]
pub struct Thing {
    /// The dead letter.
    pub origin: Option<DeadLetter>,
    /// What it comes to.
    pub what: What,
}

/// What a chosen thing comes to.
#[derive(Debug)]
pub enum What {
    /// Deliveries of a decision that stands in ROUTED.
    Stored(Arc<Routed>, Vec<Send>),
    /// Deliveries of a new decision; `again` by target.
    Anew {
        /// The event.
        event: Arc<Event>,
        /// Who decided.
        generation: u32,
        /// What.
        decision: Decision,
        /// With these records.
        enrichment: Vec<EnrichmentPart>,
        /// Which targets had been delivered before.
        again: Vec<bool>,
    },
    /// It is dead again.
    Refused(DeadCause, Box<str>),
    /// It goes nowhere.
    Nothing,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// By this route.
    pub route: RouteName,
    /// There.
    pub destination: DestinationName,
    /// Whether it had been delivered before.
    pub again: bool,
}

impl What {
    /// The routes of its deliveries.
    pub fn routes(&self) -> Vec<&RouteName> {
        match self {
            Self::Stored(_, sends) => sends.iter().map(|send| &send.route).collect(),
            Self::Anew { decision, .. } => decision.targets.iter().map(|target| &target.route).collect(),
            Self::Refused(..) | Self::Nothing => Vec::new(),
        }
    }
}

impl Chooser {
    /// Chooses on from a cursor. Blocks.
    ///
    /// # Errors
    /// [`ReadError`] when the store cannot be read now.
    pub fn chunk(&self, cursor: Option<&str>) -> Result<Chosen, ReadError> {
        match &self.checked.choice {
            Choice::Letters(ids) => self.by_ids(ids.len(), cursor, |index| {
                let Some(id) = ids.get(index) else { return Ok(None) };
                let letter = self.queries.dead_letter(&id.lane, id.row, id.route.as_ref())?;
                letter.filter(|letter| self.is_free(letter)).map(|letter| self.of_letter(letter)).transpose()
            }),
            Choice::LettersThat(filter, words) => {
                let after = cursor.map(|cursor| read_place(cursor).ok_or_else(|| damaged(cursor))).transpose()?;
                let bound = self.began.plus(Duration::from_millis(1));
                let to = Some(filter.to.map_or(bound, |to| to.min(bound)));
                let found =
                    self.queries.dead_letters_up(&ShelfFilter { to, ..filter.clone() }, after.as_ref(), ROWS)?;
                let complete = found.len() < ROWS;
                let cursor = found.last().map(|letter| place(&letter.place)).or(cursor.map(ToOwned::to_owned));
                let mut things = Vec::new();
                let any =
                    words.source.is_none() && words.tenant.is_none() && words.kind.is_none() && words.key.is_none();
                for letter in found {
                    // A damaged event has no words.
                    if any || words.matches(self.log.event(letter.row.event).unwrap_or_default().as_deref()) {
                        things.push(self.of_letter(letter)?);
                    }
                }
                Ok(Chosen { things, cursor: cursor.unwrap_or_default(), pin: None, complete, gone: 0 })
            }
            Choice::Events(ids) => self.by_ids(ids.len(), cursor, |index| {
                // One that is damaged is gone as well: there is nothing to send.
                let Some(event) = ids.get(index).and_then(|id| self.log.event(*id).unwrap_or_default()) else {
                    return Ok(None);
                };
                let offset = event.position().offset;
                let Some(told) = self.queries.fates(&[offset])?.remove(&offset) else { return Ok(None) };
                let what = self.of_event(&event, &told, &EventsThat::default())?;
                Ok(Some(Thing { origin: None, what }))
            }),
            Choice::EventsThat(that) => self.events(that, cursor),
        }
    }

    fn is_free(&self, letter: &DeadLetter) -> bool {
        letter.row.state == crate::journal::ShelfState::Dead
    }

    fn by_ids(
        &self,
        all: usize,
        cursor: Option<&str>,
        one: impl Fn(usize) -> Result<Option<Thing>, ReadError>,
    ) -> Result<Chosen, ReadError> {
        let from: usize = cursor.map_or(Ok(0), |cursor| cursor.parse().map_err(|_| damaged(cursor)))?;
        let to = (from + ROWS).min(all);
        let (mut things, mut gone) = (Vec::new(), 0);
        for index in from..to {
            match one(index)? {
                Some(thing) => things.push(thing),
                None => gone += 1,
            }
        }
        Ok(Chosen { things, cursor: to.to_string(), pin: None, complete: to == all, gone })
    }

    fn of_letter(&self, letter: DeadLetter) -> Result<Thing, ReadError> {
        if self.only_which {
            return Ok(Thing { origin: Some(letter), what: What::Nothing });
        }
        let row = &letter.row;
        let what = match (&letter.lane, &row.route, self.checked.routes) {
            (LaneName::Destination(name), Some(route), Routes::AsRouted) => self.as_routed(row.offset, name, route)?,
            (lane @ (LaneName::Destination(_) | LaneName::Morgue), route, _) => match self.stored(row.offset)? {
                Some(routed) => {
                    let before = routed.row.enrichment.clone();
                    let sent = |targets: Vec<Target>| match lane {
                        LaneName::Destination(own) => self.in_place_of(own, &routed, targets),
                        _ => Ok(targets.into_iter().map(|target| (target, false)).collect()),
                    };
                    dead_again(self.anew(&routed.event, route.as_ref(), before, sent)?)
                }
                None => What::Refused(DeadCause::Damaged, "its event cannot be read any more".into()),
            },
            (LaneName::Router | LaneName::Replay(_), ..) => What::Nothing,
        };
        Ok(Thing { origin: Some(letter), what })
    }

    fn stored(&self, row: Offset) -> Result<Option<Arc<Routed>>, ReadError> {
        Ok(match self.log.routed_row(Partition(0), row)? {
            Some(Entry::Row(routed)) => Some(routed),
            Some(Entry::Damaged(_)) | None => None,
        })
    }

    fn as_routed(&self, row: Offset, own: &DestinationName, route: &RouteName) -> Result<What, ReadError> {
        let Some(routed) = self.stored(row)? else {
            return Ok(What::Refused(DeadCause::Damaged, "its decision cannot be read any more".into()));
        };
        let elsewhere = &self.checked.destinations;
        let to = if elsewhere.is_empty() { std::slice::from_ref(own) } else { elsewhere };
        let send = |to: &DestinationName| Send { route: route.clone(), destination: to.clone(), again: false };
        let sends = to.iter().map(send).collect();
        Ok(What::Stored(routed, sends))
    }

    fn events(&self, that: &EventsThat, cursor: Option<&str>) -> Result<Chosen, ReadError> {
        let from = match cursor {
            Some(cursor) => cursor.parse().map_err(|_| damaged(cursor))?,
            None => self.first_since(that.from)?,
        };
        let page = self.log.events(Partition(0), from, ReadLimit { rows: ROWS, bytes: BYTES })?;
        let late = |at: Timestamp| at > self.began.plus(DISORDER_MAX);
        let mut complete = page.next == from;
        let mut wanted = Vec::new();
        for entry in &page.rows {
            // A damaged event is a dead letter; there is nothing to send.
            let Entry::Row(event) = entry else { continue };
            complete |= late(event.received_at);
            let to = that.to.unwrap_or(self.began.plus(Duration::from_millis(1)));
            let timely = that.from.is_none_or(|from| event.received_at >= from)
                && event.received_at < to
                && event.received_at <= self.began;
            if timely && that.words.matches(Some(event)) {
                wanted.push(event);
            }
        }
        let offsets: Vec<_> = wanted.iter().map(|event| event.position().offset).collect();
        let told = if offsets.is_empty() { Default::default() } else { self.queries.fates(&offsets)? };
        let mut things = Vec::new();
        for event in wanted {
            let Some(told) = told.get(&event.position().offset) else { continue };
            if that.state.is_none_or(|state| state == told.fate) {
                let what = self.of_event(event, told, that)?;
                things.push(Thing { origin: None, what });
            }
        }
        let pin = (!complete).then_some(page.next);
        Ok(Chosen { things, cursor: page.next.to_string(), pin, complete, gone: page.gone })
    }

    fn of_event(&self, event: &Arc<Event>, told: &Told, that: &EventsThat) -> Result<What, ReadError> {
        let Some(decided) = &told.decided else { return Ok(What::Nothing) };
        if decided.decision.superseded {
            return Ok(What::Nothing);
        }
        let counts = |route: &RouteName, destination: &DestinationName| {
            that.route.as_ref().is_none_or(|wanted| wanted == route)
                && that.destination.as_ref().is_none_or(|wanted| wanted == destination)
        };
        // What died on decision stands for all that its route sends now.
        let fate = |target: &Target| {
            let by = |route: &Option<RouteName>| route.as_ref() == Some(&target.route);
            let own = |one: &&DeliveryFate| by(&one.route) && one.destination.as_ref() == Some(&target.destination);
            let dead = |one: &&DeliveryFate| one.destination.is_none() && (one.route.is_none() || by(&one.route));
            let all = &told.deliveries;
            all.iter().find(own).or_else(|| all.iter().find(dead)).map(|delivery| delivery.fate)
        };
        let elsewhere = !self.checked.destinations.is_empty();
        if self.checked.routes == Routes::Today {
            let before = self.stored(decided.offset)?.map(|routed| routed.row.enrichment.clone()).unwrap_or_default();
            let lacked = lacking(&before);
            if self.checked.refresh && lacked.is_empty() {
                return Ok(What::Nothing);
            }
            let sent = |targets: Vec<Target>| {
                let counted = targets.into_iter().filter(|target| counts(&target.route, &target.destination));
                let told = counted.map(|target| (fate(&target), target));
                let mine = told.filter(|(fate, _)| elsewhere || matches!(fate, None | Some(Fate::Delivered)));
                Ok(mine.map(|(fate, target)| (target, fate == Some(Fate::Delivered))).collect())
            };
            let mut what = self.anew(event, None, before, sent)?;
            if self.checked.refresh {
                what.keep_mended(&lacked);
            }
            if let What::Anew { decision, .. } = &mut what {
                decision.dead.retain(|dead| that.destination.is_none() && !lies_there(told, dead) && asked(that, dead));
                if decision.targets.is_empty() && decision.dead.is_empty() {
                    return Ok(What::Nothing);
                }
            }
            return Ok(what);
        }
        let mine = decided.decision.targets.iter().filter(|target| counts(&target.route, &target.destination));
        let mine = mine.map(|target| (target.clone(), fate(target) == Some(Fate::Delivered)));
        let mine: Vec<_> = mine.filter(|(_, delivered)| *delivered || elsewhere).collect();
        let Some(routed) = (if mine.is_empty() { None } else { self.stored(decided.offset)? }) else {
            return Ok(What::Nothing);
        };
        let send =
            |(target, again): (Target, bool)| Send { route: target.route, destination: target.destination, again };
        let sends = self.elsewhere(mine).into_iter().map(send).collect();
        Ok(What::Stored(routed, sends))
    }

    /// The first event that may have been received at a time or later.
    fn first_since(&self, from: Option<Timestamp>) -> Result<Offset, ReadError> {
        let Some(from) = from else { return Ok(1) };
        let (mut low, mut high) = (1, self.log.heads(Partition(0)).events.max(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let page = self.log.events(Partition(0), middle, ReadLimit { rows: 1, bytes: 1 })?;
            match page.rows.first() {
                Some(Entry::Row(event)) if event.received_at.plus(DISORDER_MAX) < from => low = middle + 1,
                Some(Entry::Row(_)) | None => high = middle,
                // What cannot be read says nothing of its time: begin earlier.
                Some(Entry::Damaged(_)) => high = middle,
            }
        }
        Ok(low)
    }
}

/// Whether an event's dead route is a dead letter already.
fn lies_there(told: &Told, dead: &DeadRoute) -> bool {
    told.deliveries
        .iter()
        .any(|delivery| delivery.destination.is_none() && delivery.route == dead.route && delivery.fate == Fate::Dead)
}

fn asked(that: &EventsThat, dead: &DeadRoute) -> bool {
    that.route.is_none() || that.route == dead.route
}

fn place(place: &ShelfPlace) -> String {
    format!("{}.{}.{}", place.lane, place.row.0, place.route)
}

fn read_place(text: &str) -> Option<ShelfPlace> {
    let (lane, rest) = text.split_once('.')?;
    let (row, route) = rest.split_once('.')?;
    Some(ShelfPlace { row: Reverse(row.parse().ok()?), lane: lane.parse().ok()?, route: route.to_owned() })
}

fn damaged(cursor: &str) -> ReadError {
    ReadError(format!("a job's cursor `{cursor}` is damaged"))
}

/// The event that a thing is about.
#[must_use]
pub fn event_of(thing: &Thing) -> Option<EventId> {
    match (&thing.origin, &thing.what) {
        (Some(letter), _) => Some(letter.row.event),
        (None, What::Stored(routed, _)) => Some(routed.event.id),
        (None, What::Anew { event, .. }) => Some(event.id),
        (None, What::Refused(..) | What::Nothing) => None,
    }
}
