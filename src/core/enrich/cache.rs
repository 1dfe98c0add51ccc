//! What was fetched a moment ago: short, bounded, and never older than what an event shows.

use super::{Found, What};
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
/// How long a record serves an event that shows a version, and no newer one.
const FRESH_BY_VERSION: Duration = Duration::from_secs(60);
/// How long it serves when the API fails.
const STALE_MAX: Duration = Duration::from_secs(600);
/// How long "there is none" holds.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// How long a record serves an event that shows no version.
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
    at: Timestamp,
    version: Option<Timestamp>,
    /// `None`: the vendor has none.
    record: Option<Arc<Record>>,
}

/// What is known of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It, and when it was fetched.
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
    pub fn fresh(&self, what: What, id: &str, version: Option<Timestamp>, now: Timestamp) -> Option<Known> {
        let entry = self.entries.get(&(what, id.into()))?;
        let age = now.since(entry.at);
        let Some(record) = &entry.record else {
            // A client is searched where the event says that it changed: another place was not looked at.
            let looked_at = what != What::Client || version <= entry.version;
            return (age < MISSING_FOR && looked_at).then_some(Known::Missing);
        };
        let lasts = if version.is_some() { FRESH_BY_VERSION.max(fresh(what)) } else { fresh(what) };
        (age < lasts && is_new_enough(entry.version, version)).then(|| Known::Record(Arc::clone(record), entry.at))
    }

    /// What is better than nothing.
    pub fn stale(&self, what: What, id: &str, version: Option<Timestamp>, now: Timestamp) -> Option<Known> {
        let entry = self.entries.get(&(what, id.into()))?;
        let record = entry.record.as_ref()?;
        let good = now.since(entry.at) < STALE_MAX && is_new_enough(entry.version, version);
        good.then(|| Known::Record(Arc::clone(record), entry.at))
    }

    /// Keeps a record; one that is older than what is known is not taken.
    pub fn put(&mut self, what: What, found: &Found, now: Timestamp) {
        let Some(record) = &found.record else { return };
        let key = (what, found.id.clone());
        if let Some(known) = self.entries.get(&key)
            && known.record.is_some()
            && known.version > found.version
        {
            return;
        }
        self.bytes += record.bytes.len();
        self.replace(key, Entry { at: now, version: found.version, record: Some(Arc::clone(record)) });
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
        core::enrich::{Found, What},
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

    fn is_record(known: Option<Known>) -> bool {
        matches!(known, Some(Known::Record(..)))
    }

    #[test]
    fn a_record_serves_for_a_short_time_and_when_the_api_fails_longer() {
        let mut cache = Cache::default();
        cache.put(What::Client, &found("a", Some(0), 2), at(0));
        let fresh = |version: Option<i64>, now| is_record(cache.fresh(What::Client, "a", version.map(at), at(now)));
        assert!(fresh(None, 4_999) && !fresh(None, 5_000), "without a version, moments");
        assert!(fresh(Some(-1), 59_999) && !fresh(Some(-1), 60_000));
        assert!(!fresh(Some(1_000), 1), "the event shows a newer one");
        assert!(is_record(cache.stale(What::Client, "a", None, at(599_999))));
        assert!(!is_record(cache.stale(What::Client, "a", Some(at(1_000)), at(1))), "never older than the event");
    }

    #[test]
    fn versions_never_go_backwards() {
        let mut cache = Cache::default();
        cache.put(What::Client, &found("a", Some(2_500), 2), at(0));
        cache.put(What::Client, &found("a", Some(1_500), 3), at(1));
        let Some(Known::Record(record, _)) = cache.fresh(What::Client, "a", None, at(2)) else { panic!("it is there") };
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
        assert_eq!(cache.fresh(What::Session, "a", Some(at(5)), at(9_999)), Some(Known::Missing));
        assert_eq!(cache.fresh(What::Session, "a", None, at(10_000)), None);
        cache.put(What::Session, &found("a", None, 2), at(1));
        assert!(is_record(cache.fresh(What::Session, "a", None, at(2))));
        // A client that was looked for by an event without a version, and has changed now.
        cache.put_missing(What::Client, "a", None, at(0));
        assert_eq!(cache.fresh(What::Client, "a", None, at(1)), Some(Known::Missing));
        assert_eq!(cache.fresh(What::Client, "a", Some(at(1)), at(1)), None);
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
        assert!(is_record(cache.fresh(What::Client, "big19", None, at(100_020))));
    }
}
