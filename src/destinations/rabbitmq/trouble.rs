//! What a broker's or the client library's error means for the outlet, in the broker's own words.

use crate::domain::Chain;
use lapin::{Error, ErrorKind, protocol::AMQPErrorKind};

/// What went wrong, and so what has to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection: everything on it is unknown.
    Connection(Box<str>),
    /// Someone must act: the exchange is missing, access is refused, a declaration does not fit.
    Misconfigured(Box<str>),
    /// One of the messages on the channel: the broker closed the channel for it, and does not say for which.
    Message(Box<str>),
    /// The channel, for a reason that is not known any more.
    Channel(Box<str>),
}

/// AMQP 0-9-1 reply codes that mean a person must act.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const INVALID_PATH: u16 = 402;
const NOT_ALLOWED: u16 = 530;

impl Trouble {
    /// Judges an error that ended a publish, or a channel.
    pub(super) fn of(error: &Error) -> Self {
        let words: Box<str> = words(error).into();
        match error.kind() {
            ErrorKind::ProtocolError(amqp) => match (amqp.kind(), amqp.get_id()) {
                (_, ACCESS_REFUSED | NOT_FOUND | INVALID_PATH | NOT_ALLOWED) => Self::Misconfigured(words),
                (AMQPErrorKind::Soft(_), _) => Self::Message(words),
                (AMQPErrorKind::Hard(_), _) => Self::Connection(words),
            },
            ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) => Self::Channel(words),
            _ => Self::Connection(words),
        }
    }

    /// Judges an error of a declaration: what would be a message's fault elsewhere is a setting's here.
    pub(super) fn of_declaration(error: &Error) -> Self {
        match Self::of(error) {
            Self::Message(words) => Self::Misconfigured(words),
            trouble => trouble,
        }
    }

    pub(super) fn words(&self) -> &str {
        match self {
            Self::Connection(words) | Self::Misconfigured(words) | Self::Message(words) | Self::Channel(words) => words,
        }
    }

    /// Which of two errors of one batch says more about why it failed.
    pub(super) fn worse(self, other: Self) -> Self {
        let rank = |trouble: &Self| match trouble {
            Self::Connection(_) => 3,
            Self::Misconfigured(_) => 2,
            Self::Message(_) => 1,
            Self::Channel(_) => 0,
        };
        if rank(&other) > rank(&self) { other } else { self }
    }
}

/// The broker's own sentence where there is one, such as `NOT_FOUND - no exchange 'crm' in vhost '/'`.
fn words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => amqp.get_message().to_string(),
        ErrorKind::IOError(source) => Chain(&**source).to_string(),
        ErrorKind::MissingHeartbeatError => "the broker has not sent a heartbeat for too long".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Trouble;
    use lapin::{Error, ErrorKind, protocol::AMQPError};

    fn trouble(code: u16, text: &str) -> Trouble {
        let amqp = AMQPError::from_id(code, text.into()).unwrap();
        Trouble::of(&Error::from(ErrorKind::ProtocolError(amqp)))
    }

    #[test]
    fn reply_codes_are_told_apart() {
        let words = || "why".into();
        for code in [402, 403, 404, 530] {
            assert_eq!(trouble(code, "why"), Trouble::Misconfigured(words()), "{code}");
        }
        assert_eq!(trouble(406, "why"), Trouble::Message(words()));
        assert_eq!(trouble(311, "why"), Trouble::Message(words()));
        assert_eq!(trouble(320, "why"), Trouble::Connection(words()));
        assert_eq!(trouble(501, "why"), Trouble::Connection(words()));
        let lost = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(Trouble::of(&lost), Trouble::Connection(_)));
    }
}
