//! What Laigu's API can answer instead of records, and what follows from it.

use crate::vendors::{action::Action, http};
use std::{fmt, time::Duration};

/// The vendor's error numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errno {
    /// 10011: `app_id`, `sign` or the access token is wrong, or the token was fetched anew by someone.
    AuthenticationFailed,
    /// 10012: no such endpoint.
    UrlWrong,
    /// 10013: `limit` is over the maximum; the whole request fails.
    LimitTooLarge,
    /// 10014: too many calls. The quota is published nowhere.
    TooManyCalls,
    /// 10015: the vendor's own failure.
    Internal,
    /// 10016: a parameter is wrong: also a window that is too wide, or a page token that is no longer good.
    ParameterInvalid,
    /// One the vendor does not document.
    Other(i64),
}

impl Errno {
    /// Reads the number; 0 is success and none of these.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        match number {
            10011 => Self::AuthenticationFailed,
            10012 => Self::UrlWrong,
            10013 => Self::LimitTooLarge,
            10014 => Self::TooManyCalls,
            10015 => Self::Internal,
            10016 => Self::ParameterInvalid,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::AuthenticationFailed => 10011,
            Self::UrlWrong => 10012,
            Self::LimitTooLarge => 10013,
            Self::TooManyCalls => 10014,
            Self::Internal => 10015,
            Self::ParameterInvalid => 10016,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.number())
    }
}

/// What was asked for, as far as it changes what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    /// One thing.
    #[default]
    Once,
    /// The first page of a time window.
    Window,
    /// A later page of one, by the token the vendor gave.
    WithToken,
}

/// How a paged list misbehaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trap {
    /// A page token came twice: reading on would never end.
    TokenRepeated,
    /// A page without records, but with a token for the next one.
    EmptyPage,
    /// More pages than a window can sensibly have.
    TooManyPages,
}

impl fmt::Display for Trap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TokenRepeated => "the API gave the same page token twice",
            Self::EmptyPage => "the API gave an empty page and a token for the next",
            Self::TooManyPages => "the API has more pages than one window may have",
        })
    }
}

/// Why a call brought no records.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The vendor refused, with its own number.
    #[error("Laigu answered errno {errno}: {said}")]
    Refused {
        /// The number.
        errno: Errno,
        /// Its text, without our credentials, cut.
        said: String,
        /// What had been asked for.
        asked: Asked,
    },
    /// An HTTP status that is no success, with no number beside it.
    #[error("Laigu answered HTTP {status}")]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The record does not exist, or cannot be read yet.
    #[error("Laigu has no such record")]
    NotFound,
    /// `result` is null where records belong: seen now and then, gone on the next try.
    #[error("Laigu answered without a result")]
    NoResult,
    /// JSON of no known shape.
    #[error("Laigu's answer has no {0}")]
    Shape(&'static str),
    /// A paged list that would not end.
    #[error("{0}")]
    Paging(Trap),
    /// No answer, or none that can be read.
    #[error("cannot ask Laigu")]
    Http(#[from] http::Error),
}

impl ApiError {
    /// The vendor's number for it, or a word where there is none, of a closed set: for a metric.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused { errno, .. } => match errno {
                Errno::AuthenticationFailed => "10011",
                Errno::UrlWrong => "10012",
                Errno::LimitTooLarge => "10013",
                Errno::TooManyCalls => "10014",
                Errno::Internal => "10015",
                Errno::ParameterInvalid => "10016",
                Errno::Other(_) => "other",
            },
            Self::Status { status, .. } => http::status_word(*status),
            Self::NotFound => "http_404",
            Self::NoResult => "no_result",
            Self::Shape(_) => "shape",
            Self::Paging(_) => "paging",
            Self::Http(error) => error.word(),
        }
    }

    /// When the vendor wants to be asked again.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Says what follows from a failed call. Pure: the callers own the retries, and how many.
#[must_use]
pub const fn classify(error: &ApiError) -> Action {
    match error {
        ApiError::Refused { errno, asked, .. } => match errno {
            Errno::AuthenticationFailed => Action::OpenCircuit,
            Errno::UrlWrong | Errno::LimitTooLarge => Action::GiveUp,
            Errno::TooManyCalls => Action::SlowDown,
            Errno::Internal => Action::Retry,
            Errno::ParameterInvalid => match asked {
                Asked::Once => Action::GiveUp,
                Asked::Window => Action::HalveWindow,
                Asked::WithToken => Action::RestartWindow,
            },
            Errno::Other(_) => Action::RetryAFew,
        },
        ApiError::Status { status, .. } => match *status {
            401 | 403 => Action::OpenCircuit,
            408 | 425 | 500..=599 => Action::Retry,
            429 => Action::SlowDown,
            _ => Action::GiveUp,
        },
        ApiError::NotFound => Action::AwaitThenMissing,
        ApiError::NoResult => Action::Retry,
        ApiError::Paging(_) => Action::RestartWindow,
        ApiError::Shape(_) => Action::RetryAFew,
        ApiError::Http(error) => http_action(error),
    }
}

/// The same for a report. Reports are experimental: who may not read them may well read everything else, so a refusal
/// closes nothing.
#[must_use]
pub const fn classify_report(error: &ApiError) -> Action {
    match classify(error) {
        Action::OpenCircuit => Action::GiveUp,
        other => other,
    }
}

/// What follows from a transport failure of a call that changes nothing.
#[must_use]
pub const fn http_action(error: &http::Error) -> Action {
    match error {
        http::Error::NotSent(_) | http::Error::Broken(_) | http::Error::Deadline(_) => Action::Retry,
        // A proxy's page, or an answer cut or garbled on its way: may be gone on the next try, or here to stay.
        http::Error::NotJson(_) | http::Error::Garbled(_) | http::Error::TooLarge | http::Error::TooDeep => {
            Action::RetryAFew
        }
        http::Error::Refused(_) | http::Error::Setup(_) | http::Error::Redirect(_) => Action::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Asked, Errno, Trap, classify, classify_report};
    use crate::vendors::{action::Action, http};
    use std::time::Duration;

    #[test]
    fn every_errno_has_its_action() {
        let check = |number: i64, asked: Asked, expected: Action| {
            let errno = Errno::from_number(number);
            assert_eq!(errno.number(), number);
            assert_eq!(classify(&ApiError::Refused { errno, said: String::new(), asked }), expected, "{number}");
        };
        for asked in [Asked::Once, Asked::Window, Asked::WithToken] {
            check(10011, asked, Action::OpenCircuit);
            check(10012, asked, Action::GiveUp);
            check(10013, asked, Action::GiveUp);
            check(10014, asked, Action::SlowDown);
            check(10015, asked, Action::Retry);
            check(10099, asked, Action::RetryAFew);
            check(-1, asked, Action::RetryAFew);
        }
        check(10016, Asked::Once, Action::GiveUp);
        check(10016, Asked::Window, Action::HalveWindow);
        check(10016, Asked::WithToken, Action::RestartWindow);
    }

    #[test]
    fn a_status_without_errno_has_its_action() {
        for (status, expected) in [
            (400, Action::GiveUp),
            (401, Action::OpenCircuit),
            (403, Action::OpenCircuit),
            (404, Action::GiveUp),
            (408, Action::Retry),
            (429, Action::SlowDown),
            (500, Action::Retry),
            (502, Action::Retry),
            (503, Action::Retry),
        ] {
            assert_eq!(classify(&ApiError::Status { status, retry_after: None }), expected, "{status}");
        }
    }

    #[test]
    fn a_report_that_is_refused_closes_nothing() {
        let errno = Errno::AuthenticationFailed;
        for error in [
            ApiError::Status { status: 401, retry_after: None },
            ApiError::Status { status: 403, retry_after: None },
            ApiError::Refused { errno, said: String::new(), asked: Asked::Once },
        ] {
            assert_eq!((classify(&error), classify_report(&error)), (Action::OpenCircuit, Action::GiveUp), "{error}");
        }
        assert_eq!(classify_report(&ApiError::NoResult), Action::Retry);
    }

    #[test]
    fn everything_else_has_its_action() {
        for (error, expected) in [
            (ApiError::NotFound, Action::AwaitThenMissing),
            (ApiError::NoResult, Action::Retry),
            (ApiError::Shape("records"), Action::RetryAFew),
            (ApiError::Paging(Trap::TokenRepeated), Action::RestartWindow),
            (ApiError::Http(http::Error::Deadline(Duration::ZERO)), Action::Retry),
            (ApiError::Http(http::Error::TooLarge), Action::RetryAFew),
            (ApiError::Http(http::Error::NotJson(http_crate::StatusCode::OK)), Action::RetryAFew),
            (ApiError::Http(http::Error::Redirect(http_crate::StatusCode::FOUND)), Action::GiveUp),
        ] {
            assert_eq!(classify(&error), expected, "{error}");
        }
    }

    use ::http as http_crate;
}
