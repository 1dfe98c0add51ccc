//! Durations, sizes, rates and shares as they are written in `routes.yaml` and on the command line.

use super::settings::Rate;
use std::time::Duration;

/// How a duration is written.
pub const DURATION_FORM: &str = "a whole number and `ms`, `s`, `m`, `h` or `d`, such as `10m`";
/// How a size is written.
pub const SIZE_FORM: &str = "bytes, or a whole number and `KiB`, `MiB` or `GiB`, such as `20GiB`";
/// How a rate is written.
pub const RATE_FORM: &str = "a whole number from 1 and `/s`, `/m` or `/h`, such as `2/s`";
/// How a share is written.
pub const PERCENT_FORM: &str = "a whole number from 1 to 100 and `%`, such as `50%`";

/// The longest duration that is taken: ten years.
pub const DURATION_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Reads `250ms`, `5s`, `10m`, `2h` or `7d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads bytes, or `KiB`, `MiB`, `GiB`.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Reads `N/s`, `N/m` or `N/h`.
#[must_use]
pub fn rate(text: &str) -> Option<Rate> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "/s" => 1,
        "/m" => 60,
        "/h" => 3_600,
        _ => return None,
    };
    let count = u32::try_from(number).ok().filter(|count| *count > 0)?;
    Some(Rate { count, per: Duration::from_secs(seconds) })
}

/// Reads `1%` to `100%`.
#[must_use]
pub fn percent(text: &str) -> Option<u8> {
    let (number, unit) = split(text)?;
    u8::try_from(number).ok().filter(|share| unit == "%" && (1..=100).contains(share))
}

/// Writes a duration in the largest unit that says it exactly.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// Writes a size in the largest unit that says it exactly.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// A whole number and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::{duration, percent, rate, show_duration, show_size, size};

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("2h", 7_200_000), ("7d", 604_800_000), ("0s", 0)]
        {
            let read = duration(text).unwrap();
            assert_eq!(read.as_millis(), millis);
            assert_eq!(show_duration(read), text);
        }
        for bad in ["", "5", "s", "5 s", "5S", "1.5s", "-1s", "1h30m", "5_0s", "+5s", "99999999999999999d", "５s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(show_duration(std::time::Duration::from_secs(90)), "90s");
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, bytes) in [("17", 17), ("32KiB", 32 << 10), ("1MiB", 1 << 20), ("20GiB", 20 << 30), ("0", 0)] {
            assert_eq!(size(text), Some(bytes));
            assert_eq!(show_size(bytes), text);
        }
        for bad in ["", "1MB", "1 MiB", "1mib", "1.5GiB", "-1", "99999999999999GiB", "5_00"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_per_second_minute_or_hour() {
        for (text, count, seconds) in [("2/s", 2, 1), ("500/m", 500, 60), ("1/h", 1, 3_600)] {
            let read = rate(text).unwrap();
            assert_eq!((read.count, read.per.as_secs()), (count, seconds));
        }
        for bad in ["", "2", "0/s", "2/d", "2 /s", "/s", "4294967296/s"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn shares_are_1_to_100_percent() {
        assert_eq!((percent("1%"), percent("100%")), (Some(1), Some(100)));
        for bad in ["0%", "101%", "50", "50 %", "0.5%"] {
            assert_eq!(percent(bad), None, "{bad}");
        }
    }
}
