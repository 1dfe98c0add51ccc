//! `storage:`, `retry:` and `unrouted:`: how long things are kept and tried.

use super::{
    keys,
    reader::{Reader, Section},
    settings::{Retry, Storage, Unrouted},
    units,
};
use crate::journal::Retention;
use std::{ops::RangeInclusive, path::Path, time::Duration};

const DAY: Duration = Duration::from_secs(86_400);
/// Nothing is kept or tried for less.
const SHORTEST: Duration = Duration::from_secs(1);
const ANY: RangeInclusive<Duration> = SHORTEST..=units::DURATION_MAX;
/// A segment is a sixteenth of it, and must hold the largest body.
const SIZE_MIN: u64 = 1 << 20;
const SIZE_MAX: u64 = 1 << 50;
const SIZE_DEFAULT: u64 = 20 << 30;

/// Reads `storage:`.
pub(super) fn read(reader: &mut Reader<'_>, file: &Section<'_>, folder: &Path) -> Storage {
    let mut storage = Storage {
        path: folder.join("./data"),
        retention: Retention { delivered: 7 * DAY, dead_letters: 30 * DAY, ids: 7 * DAY, size_max: SIZE_DEFAULT },
        backlog_alarm_percent: 50,
    };
    let Some(section) = file.get("storage").and_then(|field| reader.section(field, keys::STORAGE)) else {
        return storage;
    };
    if let Some(path) = reader.path(section.get("path")) {
        storage.path = path;
    }
    if let Some(size) = reader.size(section.get("max_size"), SIZE_MIN..=SIZE_MAX) {
        storage.retention.size_max = size;
    }
    if let Some(share) = reader.parsed(section.get("backlog_alarm"), units::PERCENT_FORM, units::percent) {
        storage.backlog_alarm_percent = share;
    }
    if let Some(retain) = section.get("retain").and_then(|field| reader.section(field, keys::RETAIN)) {
        let retention = &mut storage.retention;
        for (key, kept) in [
            ("delivered", &mut retention.delivered),
            ("dead_letters", &mut retention.dead_letters),
            ("ids", &mut retention.ids),
        ] {
            if let Some(duration) = reader.duration(retain.get(key), ANY) {
                *kept = duration;
            }
        }
    }
    storage
}

/// Reads `retry:`.
pub(super) fn retry(reader: &mut Reader<'_>, file: &Section<'_>) -> Retry {
    let mut retry = Retry::default();
    let Some(section) = file.get("retry").and_then(|field| reader.section(field, keys::RETRY)) else { return retry };
    if let Some(duration) = reader.duration(section.get("max_age"), ANY) {
        retry.max_age = duration;
    }
    if let Some(duration) = reader.duration(section.get("unroutable"), Duration::ZERO..=units::DURATION_MAX) {
        retry.unroutable = duration;
    }
    let form = "the first and the longest pause, `10ms` to `1h`, such as `1s..60s`";
    if let Some((min, max)) = reader.parsed(section.get("backoff"), form, backoff) {
        (retry.backoff_min, retry.backoff_max) = (min, max);
    }
    retry
}

fn backoff(text: &str) -> Option<(Duration, Duration)> {
    let (min, max) = text.split_once("..")?;
    let (min, max) = (units::duration(min)?, units::duration(max)?);
    (min >= Duration::from_millis(10) && min <= max && max <= Duration::from_secs(3_600)).then_some((min, max))
}

/// Reads `unrouted:`.
pub(super) fn unrouted(reader: &mut Reader<'_>, file: &Section<'_>) -> Unrouted {
    let words = [("keep", Unrouted::Keep), ("discard", Unrouted::Discard)];
    reader.word(file.get("unrouted"), &words).unwrap_or(Unrouted::Keep)
}
