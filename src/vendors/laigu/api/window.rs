//! Time windows and how they are written in a query.

use crate::{domain::Timestamp, vendors::times::BEIJING};
use jiff::tz::Offset;
use std::time::Duration;

/// From one time to another. Whether the vendor counts the ends in is not documented, so windows overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The beginning.
    pub from: Timestamp,
    /// The end.
    pub to: Timestamp,
}

impl Window {
    /// How long it is; zero if its end lies before its beginning.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.to.since(self.from)
    }

    /// Whether a time lies in it, ends included.
    #[must_use]
    pub fn holds(&self, time: Timestamp) -> bool {
        self.from <= time && time <= self.to
    }
}

/// How times are written in a query. The vendor says "to the second or the microsecond" and no more; the default is
/// what its V1 is seen to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// `2024-09-20 17:23:42`
    #[default]
    Seconds,
    /// `2024-09-20 17:23:42.989000`
    Microseconds,
    /// `2024-09-20T09:23:42.989Z`
    Rfc3339,
    /// `1726824222`
    UnixSeconds,
}

/// Which bound of a window is written: one that is rounded must not shrink it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Rounded down.
    From,
    /// Rounded up.
    To,
}

impl TimeFormat {
    /// Writes a bound of a window, in `zone` where the notation names none.
    #[must_use]
    pub fn write(self, time: Timestamp, bound: Bound, zone: Offset) -> String {
        let millis = match (self, bound) {
            (Self::Microseconds | Self::Rfc3339, _) => time.as_millis(),
            (Self::Seconds | Self::UnixSeconds, Bound::From) => time.as_millis().div_euclid(1000) * 1000,
            (Self::Seconds | Self::UnixSeconds, Bound::To) => {
                time.as_millis().saturating_add(999).div_euclid(1000) * 1000
            }
        };
        let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        match self {
            Self::Seconds => zone.to_datetime(instant).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Self::Microseconds => zone.to_datetime(instant).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string(),
            Self::Rfc3339 => Timestamp::from_millis(millis).to_string(),
            Self::UnixSeconds => millis.div_euclid(1000).to_string(),
        }
    }
}

/// How windows are cut and written, and how pages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// Records a page, 1 to 20: more and the whole request fails.
    pub limit: u32,
    /// The longest window asked for at a time; at most [`SLICE_MAX`].
    pub slice: Duration,
    /// How times are written.
    pub format: TimeFormat,
    /// The zone of times that name none, in queries and in answers.
    pub zone: Offset,
    /// The most pages one window may have.
    pub pages_max: u32,
}

/// The most records a page may have.
pub const LIMIT_MAX: u32 = 20;

/// V1 is seen to refuse windows of more than 12 or 24 hours; V2's bound is not known. Three seconds are kept back:
/// a window grows by its overlap and by rounding both ends outwards.
pub const SLICE_MAX: Duration = Duration::from_secs(12 * 3600 - 3);

/// Windows are not halved below this: a refusal is then about something else.
pub const SLICE_MIN: Duration = Duration::from_secs(60);

/// How much neighbouring windows overlap, because it is not known whether their ends count.
pub const OVERLAP: Duration = Duration::from_secs(1);

impl Default for Paging {
    fn default() -> Self {
        Self {
            limit: LIMIT_MAX,
            slice: Duration::from_secs(3600),
            format: TimeFormat::default(),
            zone: BEIJING,
            pages_max: 5_000,
        }
    }
}

impl Paging {
    /// The same with every value within its bounds.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            limit: self.limit.clamp(1, LIMIT_MAX),
            slice: self.slice.clamp(SLICE_MIN, SLICE_MAX),
            pages_max: self.pages_max.max(1),
            ..self
        }
    }

    /// The two bounds of a window as query texts.
    #[must_use]
    pub fn bounds(&self, window: Window) -> (String, String) {
        let write = |time, bound| self.format.write(time, bound, self.zone);
        (write(window.from, Bound::From), write(window.to, Bound::To))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Paging, SLICE_MAX, TimeFormat};
    use crate::{domain::Timestamp, vendors::times::BEIJING};
    use jiff::tz::Offset;
    use std::time::Duration;

    #[test]
    fn bounds_are_written_in_beijing_time_and_rounded_outwards() {
        let time = Timestamp::parse_rfc3339("2024-09-20T09:23:42.989Z").unwrap();
        let write = |format: TimeFormat, bound| format.write(time, bound, BEIJING);
        assert_eq!(write(TimeFormat::Seconds, Bound::From), "2024-09-20 17:23:42");
        assert_eq!(write(TimeFormat::Seconds, Bound::To), "2024-09-20 17:23:43");
        assert_eq!(write(TimeFormat::Microseconds, Bound::To), "2024-09-20 17:23:42.989000");
        assert_eq!(write(TimeFormat::Rfc3339, Bound::To), "2024-09-20T09:23:42.989Z");
        assert_eq!(write(TimeFormat::UnixSeconds, Bound::From), "1726824222");
        assert_eq!(write(TimeFormat::UnixSeconds, Bound::To), "1726824223");
        assert_eq!(TimeFormat::Seconds.write(time, Bound::From, Offset::UTC), "2024-09-20 09:23:42");
    }

    #[test]
    fn paging_is_kept_within_what_the_vendor_takes() {
        let wild = Paging { limit: 500, slice: Duration::from_secs(86_400 * 30), pages_max: 0, ..Paging::default() };
        let tame = wild.clamped();
        assert_eq!((tame.limit, tame.slice, tame.pages_max), (20, SLICE_MAX, 1));
        assert_eq!(Paging { limit: 0, ..Paging::default() }.clamped().limit, 1);
        assert_eq!(Paging::default().clamped(), Paging::default());
    }
}
