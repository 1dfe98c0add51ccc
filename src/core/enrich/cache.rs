//! What was fetched a moment ago: short, bounded, and never older than what an event shows.
//!
//! A record's time is when its call was made: whatever happened before is in it. So it covers the events that had been
//! received by then ([`covers`]), however new their push is for us; of a client the version alone decides.

use super::{Found, Want, What};
use crate::domain::{Record, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Records kept at most.
const ENTRIES_MAX: usize = 4_096;
/// Bytes of records kept at most.
const BYTES_MAX: usize = 8 << 20;
/// How long a client serves an event that shows a version, and no newer one.
const FRESH_BY_VERSION: Duration = Duration::from_secs(60);
/// How long it serves when the API fails.
const STALE_MAX: Duration = Duration::from_secs(600);
/// How long "there is none" holds.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// How long a record serves an event that no version covers.
const fn fresh(what: What) -> Duration {
    match what {
        What::Client | What::Conversation => Duration::from_secs(5),
        What::Session => Duration::from_secs(60),
        What::Agent => Duration::from_secs(300),
    }
}

type Key = (What, Box<str>);

#[derive(Debug, Clone)]
struct Entry {
    /// When it was asked for.
    at: Timestamp,
    version: Option<Timestamp>,
    /// `None`: the vendor has none.
    record: Option<Arc<Record>>,
}

/// What is known of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It, and when it was asked for.
    Record(Arc<Record>, Timestamp),
    /// That there is none.
    Missing,
}

/// The cache of one tenant.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<Key, Entry>,
    /// By age, the oldest first.
    ages: BTreeSet<(Timestamp, Key)>,
    bytes: usize,
}

impl Cache {
    /// What may be given out without asking.
    pub fn fresh(&self, want: &Want, now: Timestamp) -> Option<Known> {
        let Want { what, version, .. } = *want;
        let entry = self.entries.get(&(what, want.id.clone()))?;
        let age = now.since(entry.at);
        let Some(record) = &entry.record else {
            // A client is searched where the event says that it changed: another place was not looked at.
            let looked_at = what != What::Client || version <= entry.version;
            return (age < MISSING_FOR && looked_at).then_some(Known::Missing);
        };
        let by_version = what == What::Client && version.is_some();
        let lasts = if by_version { FRESH_BY_VERSION } else { fresh(what) };
        (age < lasts && covers(want, entry.version, entry.at)).then(|| Known::Record(Arc::clone(record), entry.at))
    }

    /// When what is known of a record was asked for.
    pub fn asked_at(&self, key: &Key) -> Option<Timestamp> {
        self.entries.get(key).filter(|entry| entry.record.is_some()).map(|entry| entry.at)
    }

    /// What is better than nothing: perhaps older than the event, but not than what it shows.
    pub fn stale(&self, want: &Want, now: Timestamp) -> Option<Known> {
        let entry = self.entries.get(&(want.what, want.id.clone()))?;
        let record = entry.record.as_ref()?;
        let good = now.since(entry.at) < STALE_MAX && is_new_enough(entry.version, want.version);
        good.then(|| Known::Record(Arc::clone(record), entry.at))
    }

    /// Keeps a record that was asked for then; one that is older than what is known is not taken.
    pub fn put(&mut self, what: What, found: &Found, asked_at: Timestamp) {
        let Some(record) = &found.record else { return };
        let key = (what, found.id.clone());
        if let Some(known) = self.entries.get(&key)
            && known.record.is_some()
            && known.version > found.version
        {
            return;
        }
        self.bytes += record.bytes.len();
        self.replace(key, Entry { at: asked_at, version: found.version, record: Some(Arc::clone(record)) });
    }

    /// Keeps that there is none, for events that show no newer version than this.
    pub fn put_missing(&mut self, what: What, id: &str, version: Option<Timestamp>, now: Timestamp) {
        let key = (what, id.into());
        // A record that was there before serves when the API fails.
        if self.entries.get(&key).is_none_or(|known| known.record.is_none()) {
            self.replace(key, Entry { at: now, version, record: None });
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn replace(&mut self, key: Key, entry: Entry) {
        self.ages.insert((entry.at, key.clone()));
        if let Some(old) = self.entries.insert(key.clone(), entry.clone()) {
            self.bytes -= size(&old);
            if old.at != entry.at {
                self.ages.remove(&(old.at, key));
            }
        }
        while (self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX)
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            if let Some(old) = self.entries.remove(&oldest) {
                self.bytes -= size(&old);
            }
        }
    }
}

fn size(entry: &Entry) -> usize {
    entry.record.as_ref().map_or(0, |record| record.bytes.len())
}

/// Whether a record of this version, asked for then, is new enough for who wants it. Only a client's `updated_on` moves with
/// every change; a conversation's or a session's times say when it ended, and nothing of what happened since or before.
pub fn covers(want: &Want, version: Option<Timestamp>, asked_at: Timestamp) -> bool {
    let by_time = match (want.what, want.version) {
        (What::Agent, _) | (What::Client, Some(_)) => false,
        (What::Client, None) | (What::Conversation | What::Session, _) => true,
    };
    is_new_enough(version, want.version) && (!by_time || want.received_at <= asked_at)
}

/// Whether a record is at least as new as an event says. The vendor writes some times to the second only: within that
/// second the record counts as new enough.
pub fn is_new_enough(record: Option<Timestamp>, event: Option<Timestamp>) -> bool {
    let Some(event) = event else { return true };
    let Some(record) = record else { return false };
    let whole_second = record.as_millis().rem_euclid(1_000) == 0;
    let latest = if whole_second { record.plus(Duration::from_millis(999)) } else { record };
    latest >= event
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Cache, ENTRIES_MAX, Known, is_new_enough};
    use crate::{
        core::enrich::{Found, Want, What},
        domain::{Record, Timestamp},
    };
    use bytes::Bytes;
    use std::sync::Arc;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + millis)
    }

    fn found(id: &str, version: Option<i64>, size: usize) -> Found {
        let record = Arc::new(Record { bytes: Bytes::from(vec![b' '; size]), hash: 1 });
        Found { id: id.into(), version: version.map(at), record: Some(record) }
    }

    /// A want of an event that was received then.
    fn want(what: What, id: &str, version: Option<i64>, received: i64) -> Want {
        let (version, received_at) = (version.map(at), at(received));
        Want { ticket: 1, what, id: id.into(), at: received_at, version, received_at, deadline: at(1 << 40) }
    }

    fn is_record(known: Option<Known>) -> bool {
        matches!(known, Some(Known::Record(..)))
    }

    #[test]
    fn a_record_serves_for_a_short_time_and_when_the_api_fails_longer() {
        let mut cache = Cache::default();
        cache.put(What::Client, &found("a", Some(0), 2), at(0));
        let fresh = |version, now| is_record(cache.fresh(&want(What::Client, "a", version, 0), at(now)));
        assert!(fresh(None, 4_999) && !fresh(None, 5_000), "without a version, moments");
        assert!(fresh(Some(-1), 59_999) && !fresh(Some(-1), 60_000));
        assert!(!fresh(Some(1_000), 1), "the event shows a newer one");
        assert!(is_record(cache.stale(&want(What::Client, "a", None, 599_999), at(599_999))));
        assert!(!is_record(cache.stale(&want(What::Client, "a", Some(1_000), 1), at(1))), "never older than it shows");
    }

    #[test]
    fn only_a_clients_version_covers_an_event_that_came_after_the_call() {
        for (what, version, covered) in [
            (What::Client, Some(0), true),
            (What::Client, None, false),
            (What::Conversation, None, false),
            (What::Conversation, Some(0), false),
            (What::Session, Some(0), false),
            (What::Agent, None, true),
        ] {
            let mut cache = Cache::default();
            cache.put(what, &found("a", Some(0), 2), at(1_000));
            let fresh = |received| is_record(cache.fresh(&want(what, "a", version, received), at(1_200)));
            assert!(fresh(999) && fresh(1_000), "{what:?} {version:?}");
            assert_eq!(fresh(1_001), covered, "{what:?} {version:?}");
            assert!(is_record(cache.stale(&want(what, "a", version, 1_001), at(1_200))), "better than nothing");
        }
    }

    #[test]
    fn versions_never_go_backwards() {
        let mut cache = Cache::default();
        cache.put(What::Client, &found("a", Some(2_500), 2), at(0));
        cache.put(What::Client, &found("a", Some(1_500), 3), at(1));
        let Some(Known::Record(record, _)) = cache.fresh(&want(What::Client, "a", None, 0), at(2)) else {
            panic!("it is there")
        };
        assert_eq!(record.bytes.len(), 2);
        assert!(is_new_enough(Some(at(1_000)), Some(at(1_999))), "written to the second");
        assert!(!is_new_enough(Some(at(1_000)), Some(at(2_000))));
        assert!(!is_new_enough(Some(at(1_500)), Some(at(1_501))));
        assert!(!is_new_enough(None, Some(at(0))) && is_new_enough(None, None));
    }

    #[test]
    fn that_there_is_none_is_known_for_a_moment() {
        let mut cache = Cache::default();
        cache.put_missing(What::Session, "a", None, at(0));
        assert_eq!(cache.fresh(&want(What::Session, "a", Some(5), 5), at(9_999)), Some(Known::Missing));
        assert_eq!(cache.fresh(&want(What::Session, "a", None, 0), at(10_000)), None);
        cache.put(What::Session, &found("a", None, 2), at(1));
        assert!(is_record(cache.fresh(&want(What::Session, "a", None, 0), at(2))));
        // A client that was looked for by an event without a version, and has changed now.
        cache.put_missing(What::Client, "a", None, at(0));
        assert_eq!(cache.fresh(&want(What::Client, "a", None, 1), at(1)), Some(Known::Missing));
        assert_eq!(cache.fresh(&want(What::Client, "a", Some(1), 1), at(1)), None);
    }

    #[test]
    fn it_holds_so_many_records_and_bytes_and_lets_the_oldest_go() {
        let mut cache = Cache::default();
        for number in 0..2 * ENTRIES_MAX {
            cache.put(What::Client, &found(&number.to_string(), None, 10), at(i64::try_from(number).unwrap()));
        }
        assert_eq!((cache.entries.len(), cache.ages.len(), cache.bytes), (ENTRIES_MAX, ENTRIES_MAX, 10 * ENTRIES_MAX));
        for number in 0..20 {
            cache.put(What::Client, &found(&format!("big{number}"), None, BYTES_MAX / 10), at(100_000 + number));
        }
        assert!(cache.bytes <= BYTES_MAX && cache.entries.len() == cache.ages.len());
        assert!(is_record(cache.fresh(&want(What::Client, "big19", None, 0), at(100_020))));
    }
}
