//! What a sender is told when its request is refused: RFC 9457 problems, each one constant.
//!
//! A status tells whether sending again helps; the texts tell no more than that. In particular nothing says which
//! part of an authentication failed.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use std::time::Duration;

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:literal $reason:literal $title:literal;)*) => {
        /// Every way in which a request is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Problem {
            $($(#[$doc])* $name,)*
        }

        impl Problem {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The word in metrics.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The body, `application/problem+json`.
            #[must_use]
            pub const fn body(self) -> &'static str {
                match self {
                    $(Self::$name => concat!(
                        "{\"type\":\"urn:laigu-router:problem:", $reason, "\",\"title\":\"", $title,
                        "\",\"status\":", stringify!($status), "}"
                    ),)*
                }
            }
        }
    };
}

problems! {
    /// Broken HTTP, or framing that can be read in two ways.
    Http = 400 "http" "The request is not well-formed HTTP";
    /// An unsigned source was sent something that is no event.
    Json = 400 "json" "The body is not a JSON event";
    /// The signature is missing or wrong, or names no tenant that it could be.
    Signature = 401 "signature" "The request is not authenticated";
    /// The body names another tenant.
    Tenant = 403 "tenant" "The body belongs to another tenant";
    /// The address is not on the tenant's list.
    Address = 403 "address" "Requests from this address are not taken";
    /// No such source, tenant or path.
    NotFound = 404 "not_found" "There is nothing here";
    /// Neither POST nor GET nor HEAD.
    Method = 405 "method" "The method is not allowed";
    /// Head or body did not come in time.
    Slow = 408 "slow" "The request took too long";
    /// The body is beyond its limit.
    BodyTooLarge = 413 "body_too_large" "The body is too large";
    /// The body is compressed.
    Encoding = 415 "encoding" "Content encodings are not taken";
    /// So many pushes of this tenant wait that others would not get their turn.
    TenantBusy = 429 "tenant_busy" "Too many requests of this tenant wait; send again later";
    /// The head is beyond its limits.
    HeadTooLarge = 431 "head_too_large" "The request head is too large";
    /// Something broke that is ours.
    Internal = 500 "internal" "The request could not be handled";
    /// The queue before the store is full.
    Busy = 503 "busy" "Too many requests wait; send again later";
    /// There is no room on the disk, or the size allowed is used up.
    Full = 503 "full" "There is no room; send again later";
    /// The store has stopped.
    Stopped = 503 "stopped" "The service is stopping; send again later";
}

/// A refusal on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: Problem,
    /// When to send again, where that helps.
    pub retry_after: Option<Duration>,
    /// Whether the connection ends, because not all of the request was read.
    pub close: bool,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, retry_after: None, close: false }
    }
}

impl Refusal {
    /// Says that the connection ends after it.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Says when to send again.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The answer.
    #[must_use]
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(Bytes::from_static(self.problem.body().as_bytes())));
        *response.status_mut() =
            StatusCode::from_u16(self.problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(delay) = self.retry_after {
            // Rounded up: a sender that comes a moment early is refused again.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.problem == Problem::Method {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn every_body_is_a_problem_of_its_status() {
        for problem in Problem::ALL {
            let body: serde_json::Value = serde_json::from_str(problem.body()).unwrap();
            assert_eq!(body["status"], problem.status(), "{problem:?}");
            assert!(body["title"].is_string() && body["type"].as_str().unwrap().ends_with(problem.reason()));
        }
    }
}
