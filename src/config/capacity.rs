//! What follows from the numbers: how long the store lasts.

use super::{settings::Settings, units};
use std::time::Duration;

/// What an event takes beside its body: its row, decision, receipts, page overhead. Measured: 4 KiB for a 1 KB body.
const OVERHEAD_BYTES: u64 = 3 << 10;
/// Delivered history is shed above this share of `max_size`.
const HISTORY_PERCENT: u64 = 80;
/// Pushes are answered 503 above this share.
const FULL_PERCENT: u64 = 95;

/// Says in sentences how many events a second fit into what the settings promise to keep.
#[must_use]
pub fn capacity(settings: &Settings) -> Vec<String> {
    let retention = &settings.storage.retention;
    let size = units::show_size(retention.size_max);
    let seconds = retention.delivered.as_secs().max(1);
    let history = share(retention.size_max, HISTORY_PERCENT);
    let whole = share(retention.size_max, FULL_PERCENT);
    let rate = |body: u64| rounded(history, stored(body).saturating_mul(seconds));
    let pinned = whole.saturating_mul(u64::from(settings.storage.backlog_alarm_percent)) / 100;
    vec![
        format!(
            "{size} keep {} of delivered events at up to {}/s of 1 KB, or {}/s of 3 KB; faster, older ones go earlier",
            units::show_duration(retention.delivered),
            rate(1_024),
            rate(3_072),
        ),
        format!(
            "with a destination down, 100/s of 1 KB fill them in {}; the alarm comes after {}",
            lasting(whole / (stored(1_024) * 100)),
            lasting(pinned / (stored(1_024) * 100)),
        ),
    ]
}

const fn stored(body: u64) -> u64 {
    body + OVERHEAD_BYTES
}

const fn share(size: u64, percent: u64) -> u64 {
    size / 100 * percent
}

/// A quotient: one decimal below 100, none above.
fn rounded(value: u64, by: u64) -> String {
    let tenths = u128::from(value) * 10 / u128::from(by.max(1));
    if tenths < 1_000 { format!("{}.{}", tenths / 10, tenths % 10) } else { (tenths / 10).to_string() }
}

/// A time for people: the largest unit of which there are at least two.
fn lasting(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => units::show_duration(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::{lasting, rounded};

    #[test]
    fn numbers_are_rounded_for_reading() {
        assert_eq!(
            [rounded(69, 10), rounded(12_345, 10), rounded(1, 100), rounded(5, 0)],
            ["6.9", "1234", "0.0", "5.0"]
        );
        assert_eq!([0, 119, 120, 7_300, 200_000].map(lasting), ["0s", "119s", "2m", "2h", "2d"]);
    }
}
