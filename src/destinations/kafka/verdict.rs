//! What an error code of Kafka's means for the record, and for the lane.

use crate::domain::{DeadCause, FailureKind, StopReason};
use rdkafka::types::RDKafkaErrorCode as Code;

/// What follows from a delivery that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is this record's own affair; the session goes on.
    Record(FailureKind),
    /// The batch was more than the topic takes: this record alone may be, or may not.
    BatchTooLarge,
    /// Nothing more can be had from this producer: everything in flight is not known, and the lane stops.
    Session(StopReason),
}

/// Judges the code of a delivery report, of a send that was refused, or of a topic's metadata.
///
/// What librdkafka tries again by itself (leader changes, time-outs, too few replicas) never comes here.
#[must_use]
pub fn judge(code: Code) -> Verdict {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => Verdict::BatchTooLarge,
        // The broker named this very record (KIP-467).
        Code::InvalidRecord | Code::InvalidTimestamp => Verdict::Record(FailureKind::Rejected(DeadCause::Rejected)),
        // Its batch fell for the sake of another record.
        Code::InvalidDifferentRecord => Verdict::Record(FailureKind::Nacked),
        code if needs_someone(code) => Verdict::Session(StopReason::Misconfigured),
        _ => Verdict::Session(StopReason::Down),
    }
}

/// Whether waiting will not help: someone must change the destination or our settings.
#[must_use]
pub fn needs_someone(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SSL
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedFeature
            | Code::PolicyViolation
            | Code::InvalidRequiredAcks
    )
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};
    use crate::domain::{DeadCause, FailureKind, StopReason};
    use rdkafka::types::RDKafkaErrorCode as Code;

    #[test]
    fn each_code_has_its_verdict() {
        for (code, verdict) in [
            (Code::MessageSizeTooLarge, Verdict::BatchTooLarge),
            (Code::InvalidRecord, Verdict::Record(FailureKind::Rejected(DeadCause::Rejected))),
            (Code::InvalidDifferentRecord, Verdict::Record(FailureKind::Nacked)),
            (Code::UnknownTopic, Verdict::Session(StopReason::Misconfigured)),
            (Code::TopicAuthorizationFailed, Verdict::Session(StopReason::Misconfigured)),
            (Code::Fatal, Verdict::Session(StopReason::Down)),
            (Code::MessageTimedOut, Verdict::Session(StopReason::Down)),
            (Code::PurgeInflight, Verdict::Session(StopReason::Down)),
        ] {
            assert_eq!(judge(code), verdict, "{code:?}");
        }
    }
}
