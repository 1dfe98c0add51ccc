//! The time notations of the vendors.
//!
//! Three are seen: RFC 3339 with `Z`, RFC 3339 with `+0800` (no colon), and `2017-04-20 10:42:33.465659` without a
//! zone, which is Beijing time. Numbers are not guessed at: seconds and milliseconds look alike.

use crate::domain::Timestamp;
use jiff::{civil, tz::Offset};

/// The zone of times that name none.
pub const BEIJING: Offset = Offset::constant(8);

/// A vendor's time: the instant, and the text as it came (its microseconds are not in the instant).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The instant, in milliseconds.
    pub instant: Timestamp,
    /// What the vendor wrote.
    pub written: Box<str>,
}

impl Moment {
    /// Reads a time; one without a zone is in `zone`.
    #[must_use]
    pub fn parse(text: &str, zone: Offset) -> Option<Self> {
        let instant = instant(text.trim(), zone)?;
        Some(Self { instant, written: text.into() })
    }
}

fn instant(text: &str, zone: Offset) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_millis(time.as_millisecond()));
    }
    let civil: civil::DateTime = text.parse().ok()?;
    let time = zone.to_timestamp(civil).ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::{BEIJING, Moment};
    use jiff::tz::Offset;

    #[test]
    fn every_notation_of_the_vendors_is_read() {
        for (text, expected) in [
            ("2024-09-20T09:23:42.989Z", "2024-09-20T09:23:42.989Z"),
            ("2024-09-05T08:58:33Z", "2024-09-05T08:58:33.000Z"),
            ("2017-04-20 10:42:33.465659", "2017-04-20T02:42:33.465Z"),
            ("2018-06-10 14:19:41", "2018-06-10T06:19:41.000Z"),
            ("2016-01-01T00:00:00.622580", "2015-12-31T16:00:00.622Z"),
            ("2018-03-23T16:02:02.000+0800", "2018-03-23T08:02:02.000Z"),
            ("2018-03-23T16:02:02+08:00", "2018-03-23T08:02:02.000Z"),
            (" 2018-06-10 14:19:41 ", "2018-06-10T06:19:41.000Z"),
            ("2018-06-10", "2018-06-09T16:00:00.000Z"),
        ] {
            let moment = Moment::parse(text, BEIJING).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(moment.instant.to_string(), expected, "{text}");
            assert_eq!(&*moment.written, text);
        }
    }

    #[test]
    fn the_zone_of_zoneless_times_can_be_another() {
        let moment = Moment::parse("2018-06-10 14:19:41", Offset::UTC).unwrap();
        assert_eq!(moment.instant.to_string(), "2018-06-10T14:19:41.000Z");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "yesterday", "1726824224", "1472460726612", "2024-13-01 00:00:00", "2024-02-30", "10:42:33"] {
            assert_eq!(Moment::parse(text, BEIJING), None, "{text}");
        }
    }
}
