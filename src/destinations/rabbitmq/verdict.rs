//! What became of each message of a batch, once all its confirms are there: pure.

use crate::{
    destinations::Outcome,
    domain::{Failure, FailureKind},
};
use lapin::{Confirmation, message::BasicReturnMessage, types::AMQPValue};

/// The header that names a delivery, in what we publish and in what comes back.
const IDENTITY: &str = "x-delivery";

/// How the broker answered one message of a batch.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whether it was confirmed, `None` when it was not asked to confirm.
    pub(super) taken: Option<bool>,
    /// The returned message that the library handed over with it: of this batch, but not necessarily its own.
    pub(super) returned: Option<Return>,
}

/// A message that no queue took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Return {
    pub(super) identity: Box<str>,
    pub(super) words: Box<str>,
}

impl From<Confirmation> for Answer {
    fn from(confirmation: Confirmation) -> Self {
        let (taken, returned) = match confirmation {
            Confirmation::Ack(returned) => (Some(true), returned),
            Confirmation::Nack(returned) => (Some(false), returned),
            Confirmation::NotRequested => (None, None),
        };
        Self { taken, returned: returned.as_ref().map(Return::from) }
    }
}

impl From<&BasicReturnMessage> for Return {
    fn from(message: &BasicReturnMessage) -> Self {
        let headers = message.delivery.properties.headers().as_ref();
        let identity = match headers.and_then(|headers| headers.inner().get(IDENTITY)) {
            Some(AMQPValue::LongString(text)) => text.to_string().into(),
            _ => "".into(),
        };
        Self { identity, words: format!("{} {}", message.reply_code, message.reply_text).into() }
    }
}

/// The outcomes of a batch, in its order. `identities` are those of the published messages.
///
/// Two replays of one event to one destination have one identity: each return of it counts for another of them, as they
/// went to the same queues. A return that belongs to none puts the whole batch in doubt: whose it is, is then not known.
pub(super) fn outcomes(identities: &[&str], answers: &[Answer]) -> Vec<Outcome> {
    let mut returned: Vec<Option<&Return>> = vec![None; identities.len()];
    for found in answers.iter().filter_map(|answer| answer.returned.as_ref()) {
        let mut slots = identities.iter().zip(&mut returned);
        let slot = slots.find(|(identity, slot)| ***identity == *found.identity && slot.is_none());
        let Some((_, slot)) = slot else {
            let words = format!("the broker returned a message that was not sent: {}", found.words);
            return identities.iter().map(|_| failed(FailureKind::Unknown, &words)).collect();
        };
        *slot = Some(found);
    }
    let judge = |(answer, returned): (&Answer, Option<&Return>)| match (returned, answer.taken) {
        (Some(returned), _) => failed(FailureKind::Returned, &returned.words),
        (None, Some(true)) => Outcome::Taken { answer: "ack".into() },
        (None, Some(false)) => failed(FailureKind::Nacked, "the broker did not take it (nack)"),
        (None, None) => failed(FailureKind::Unknown, "the channel does not confirm"),
    };
    answers.iter().zip(returned).map(judge).collect()
}

pub(super) fn failed(kind: FailureKind, words: &str) -> Outcome {
    Outcome::Failed(Failure { kind, detail: words.into() })
}

#[cfg(test)]
mod tests {
    use super::{Answer, Return, outcomes};
    use crate::{
        destinations::Outcome,
        domain::{Failure, FailureKind},
    };

    fn answer(taken: bool, returned: Option<&str>) -> Answer {
        let returned = returned.map(|identity| Return { identity: identity.into(), words: "312 NO_ROUTE".into() });
        Answer { taken: Some(taken), returned }
    }

    fn check(answers: &[Answer], expected: [Option<FailureKind>; 3]) {
        check_batch(["a", "b", "c"], answers, expected);
    }

    fn check_batch(identities: [&str; 3], answers: &[Answer], expected: [Option<FailureKind>; 3]) {
        let kinds = outcomes(&identities, answers).into_iter().map(|outcome| match outcome {
            Outcome::Taken { .. } => None,
            Outcome::Failed(Failure { kind, .. }) => Some(kind),
        });
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_return_is_matched_by_identity_and_not_by_the_confirm_that_carried_it() {
        let (returned, nacked, unknown) = (FailureKind::Returned, FailureKind::Nacked, FailureKind::Unknown);
        check(&[answer(true, None), answer(true, None), answer(true, None)], [None, None, None]);
        check(&[answer(true, Some("b")), answer(true, None), answer(true, None)], [None, Some(returned), None]);
        check(
            &[answer(true, Some("c")), answer(true, Some("a")), answer(true, None)],
            [Some(returned), None, Some(returned)],
        );
        check(&[answer(false, None), answer(true, None), answer(true, None)], [Some(nacked), None, None]);
        check(
            &[answer(false, Some("b")), answer(true, None), answer(true, None)],
            [Some(nacked), Some(returned), None],
        );
        check(&[answer(true, Some("z")), answer(true, None), answer(true, None)], [Some(unknown); 3]);
        check(&[answer(true, Some("")), answer(true, None), answer(true, None)], [Some(unknown); 3]);
    }

    #[test]
    fn each_return_of_an_identity_that_is_there_twice_counts() {
        let (returned, unknown) = (Some(FailureKind::Returned), Some(FailureKind::Unknown));
        let twice = |answers: [Option<&str>; 3], expected| {
            check_batch(["a", "b", "a"], &answers.map(|returned| answer(true, returned)), expected);
        };
        twice([Some("a"), Some("a"), None], [returned, None, returned]);
        twice([None, Some("a"), None], [returned, None, None]);
        twice([Some("a"), Some("a"), Some("a")], [unknown; 3]);
    }
}
