//! What Easemob KeFu's API can answer instead of records, and what follows from it.

use crate::vendors::{action::Action, http};
use std::{fmt, sync::Arc, time::Duration};

/// Declares the codes with their texts: the vendor shows no error envelope, so the text may be all there is.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The vendor's error codes.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// One that the vendor does not document; empty: the answer only said that it failed.
            Other(String),
        }

        impl Code {
            /// Every documented code.
            pub const ALL: [Self; 18] = [$(Self::$name),*];

            /// The code on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// The code, or `other`: of a closed set, for a metric.
            #[must_use]
            pub const fn word(&self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(_) => "other",
                }
            }

            /// Finds a code in a text: by itself, or by the words that the vendor's page gives with it.
            #[must_use]
            pub fn find(text: &str) -> Option<Self> {
                $(if text.contains($code) {
                    return Some(Self::$name);
                })*
                $(if text.trim().eq_ignore_ascii_case($text) {
                    return Some(Self::$name);
                })*
                None
            }
        }
    };
}

codes! {
    /// A parameter is wrong.
    ParameterInvalid = "API_001", "param is invalid,please check your param is correct!";
    /// The token is not, or no longer, good.
    TokenInvalid = "API_002", "token is invalid";
    /// The tenant is not ours.
    TenantWrong = "API_003", "tenantId is incorrect,please confirm that the tenant ID belongs to you";
    /// `clientId` or `secretId` is wrong.
    CredentialsWrong = "API_004", "clientId or secretId is incorrect";
    /// More than ten visitors' names; of a call that the page does not have.
    TooManyVisitors = "API_020", "Request body contains more than 10 visitor usernames.";
    /// The agent was not made.
    AgentNotCreated = "API_101", "create agent user is failed";
    /// An agent needs a nickname.
    NicenameEmpty = "API_102", "agent nicename must not empty!";
    /// There is such an agent already.
    AgentExists = "API_103", "agent user already exist";
    /// There is no such agent.
    AgentMissing = "API_104", "agent user not exist,please check username is correct";
    /// The agent is another tenant's.
    AgentElsewhere = "API_105", "agent user not belong your tenant,please check username and tenantId is correct";
    /// A role is needed.
    RoleEmpty = "API_106", "roleId must not empty";
    /// The role could not be given.
    RoleInvalid = "API_107", "api add role is failed,please check roleId is valid";
    /// A password needs more than 7 characters.
    PasswordTooShort = "API_108", "password must be not empty and length greater 7.";
    /// The only administrator cannot go.
    OnlyAdmin = "API_109", "Can not remove only amdin";
    /// The agent has sessions that are open.
    AgentBusy = "API_110", "Can not remove agent,The agent has processing servicesession.";
    /// Pages of sessions begin at 1.
    PageIndex = "API_111", "page index must be more than 0.";
    /// Too many a page: 50 at most by one line of the page, less than 50 by another.
    PageSize = "API_112", "page size must be less than 50.";
    /// The vendor's services failed among themselves: what was asked may have been done.
    CallFailed = "API_400", "api request failed";
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            "" => out.write_str("no code"),
            code => out.write_str(code),
        }
    }
}

/// Whether a call changes something. What does is never made twice unless the first one certainly was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It only reads.
    Read,
    /// It changes an agent.
    Change,
}

/// How a paged list misbehaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trap {
    /// The same page came twice: the page number is not looked at.
    PageRepeated,
    /// More pages than a list can sensibly have.
    TooManyPages,
}

impl fmt::Display for Trap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::PageRepeated => "the API gave the same page twice",
            Self::TooManyPages => "the API has more pages than a list may have",
        })
    }
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The vendor refused, with its own code.
    #[error("Easemob answered {code}: {said}")]
    Refused {
        /// The code.
        code: Code,
        /// Its text, without our credentials, cut.
        said: String,
    },
    /// An HTTP status that is no success, with no code beside it.
    #[error("Easemob answered HTTP {status}")]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// JSON of no known shape.
    #[error("Easemob's answer has no {0}")]
    Shape(&'static str),
    /// A paged list that would not end.
    #[error("{0}")]
    Paging(Trap),
    /// The call was not made, because there was no token to make it with.
    #[error("cannot get an access token")]
    Token(#[source] Arc<ApiError>),
    /// No answer, or none that can be read.
    #[error("cannot ask Easemob")]
    Http(#[from] http::Error),
}

impl ApiError {
    /// The vendor's code for it, or a word where there is none, of a closed set: for a metric.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused { code, .. } => code.word(),
            Self::Status { status, .. } => http::status_word(*status),
            Self::Shape(_) => "shape",
            Self::Paging(_) => "paging",
            Self::Token(_) => "token",
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

/// A page that could not be had, and what follows from it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read a page of {list}")]
pub struct Stopped {
    /// The list.
    pub list: &'static str,
    /// What to do. The pull has already gone back where it must: asking again is enough.
    pub action: Action,
    /// Why.
    #[source]
    pub source: ApiError,
}

/// Says what follows from a failed call. Pure: the callers own the retries, and how many.
#[must_use]
pub fn classify(error: &ApiError, intent: Intent) -> Action {
    // What may have been carried out is only looked at when it changes something.
    let doubtful = |for_reads: Action| match intent {
        Intent::Read => for_reads,
        Intent::Change => Action::LookFirst,
    };
    match error {
        ApiError::Refused { code, .. } => match code {
            Code::TokenInvalid => Action::RenewToken,
            Code::TenantWrong | Code::CredentialsWrong => Action::OpenCircuit,
            Code::PageSize => Action::ShrinkPage,
            Code::CallFailed => doubtful(Action::Retry),
            Code::Other(_) => doubtful(Action::RetryAFew),
            Code::ParameterInvalid
            | Code::TooManyVisitors
            | Code::AgentNotCreated
            | Code::NicenameEmpty
            | Code::AgentExists
            | Code::AgentMissing
            | Code::AgentElsewhere
            | Code::RoleEmpty
            | Code::RoleInvalid
            | Code::PasswordTooShort
            | Code::OnlyAdmin
            | Code::AgentBusy
            | Code::PageIndex => Action::GiveUp,
        },
        ApiError::Status { status, .. } => match *status {
            401 => Action::RenewToken,
            403 => Action::OpenCircuit,
            429 => Action::SlowDown,
            408 | 425 | 500..=599 => doubtful(Action::Retry),
            _ => Action::GiveUp,
        },
        ApiError::Shape(_) => doubtful(Action::RetryAFew),
        ApiError::Paging(_) => Action::GiveUp,
        // The call itself was never made, so what went wrong was a read.
        ApiError::Token(error) => classify(error, Intent::Read),
        ApiError::Http(error) => match error {
            http::Error::NotSent(_) => Action::Retry,
            http::Error::Broken(_) | http::Error::Deadline(_) => doubtful(Action::Retry),
            http::Error::NotJson(_) | http::Error::Garbled(_) | http::Error::TooLarge | http::Error::TooDeep => {
                doubtful(Action::RetryAFew)
            }
            http::Error::Refused(_) | http::Error::Setup(_) | http::Error::Redirect(_) => Action::GiveUp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Code, Intent, Trap, classify};
    use crate::vendors::{action::Action, http};
    use std::{sync::Arc, time::Duration};

    fn refused(code: Code) -> ApiError {
        ApiError::Refused { code, said: String::new() }
    }

    #[test]
    fn every_code_has_its_action() {
        let check = |code: &str, read: Action, change: Action| {
            let code = Code::find(&format!("xx {code}: …")).unwrap();
            assert_eq!(classify(&refused(code.clone()), Intent::Read), read, "{code}");
            assert_eq!(classify(&refused(code.clone()), Intent::Change), change, "{code}");
        };
        for code in [
            "API_001", "API_020", "API_101", "API_102", "API_103", "API_104", "API_105", "API_106", "API_107",
            "API_108", "API_109", "API_110", "API_111",
        ] {
            check(code, Action::GiveUp, Action::GiveUp);
        }
        check("API_002", Action::RenewToken, Action::RenewToken);
        check("API_003", Action::OpenCircuit, Action::OpenCircuit);
        check("API_004", Action::OpenCircuit, Action::OpenCircuit);
        check("API_112", Action::ShrinkPage, Action::ShrinkPage);
        check("API_400", Action::Retry, Action::LookFirst);
        let other = refused(Code::Other("API_999".into()));
        assert_eq!(classify(&other, Intent::Read), Action::RetryAFew);
        assert_eq!(classify(&other, Intent::Change), Action::LookFirst);
    }

    #[test]
    fn a_code_is_found_by_itself_or_by_its_words() {
        for code in Code::ALL {
            assert_eq!(Code::find(code.as_str()), Some(code.clone()));
        }
        assert_eq!(Code::find(" Token is invalid "), Some(Code::TokenInvalid));
        assert_eq!(Code::find("Can not remove only amdin"), Some(Code::OnlyAdmin));
        assert_eq!(Code::find("something else"), None);
    }

    #[test]
    fn a_change_that_may_have_been_made_is_looked_at_first() {
        for (error, read, change) in [
            (ApiError::Http(http::Error::Deadline(Duration::ZERO)), Action::Retry, Action::LookFirst),
            (ApiError::Http(http::Error::TooLarge), Action::RetryAFew, Action::LookFirst),
            (ApiError::Status { status: 502, retry_after: None }, Action::Retry, Action::LookFirst),
            (ApiError::Status { status: 429, retry_after: None }, Action::SlowDown, Action::SlowDown),
            (ApiError::Status { status: 401, retry_after: None }, Action::RenewToken, Action::RenewToken),
            (ApiError::Status { status: 403, retry_after: None }, Action::OpenCircuit, Action::OpenCircuit),
            (ApiError::Status { status: 404, retry_after: None }, Action::GiveUp, Action::GiveUp),
            (ApiError::Shape("status"), Action::RetryAFew, Action::LookFirst),
            (ApiError::Paging(Trap::PageRepeated), Action::GiveUp, Action::GiveUp),
            (ApiError::Token(Arc::new(refused(Code::CallFailed))), Action::Retry, Action::Retry),
            (ApiError::Token(Arc::new(refused(Code::CredentialsWrong))), Action::OpenCircuit, Action::OpenCircuit),
        ] {
            assert_eq!(classify(&error, Intent::Read), read, "{error}");
            assert_eq!(classify(&error, Intent::Change), change, "{error}");
        }
    }
}
