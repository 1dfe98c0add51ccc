//! What can go wrong with a delivery, in the words of the contract.

use std::fmt;

/// Why something became a dead letter: a closed set, a filter and a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadCause {
    /// No queue was bound for it until `retry.unroutable` ran out.
    Unroutable,
    /// Signed, but not readable as an event.
    Unparsable,
    /// A condition failed to evaluate.
    Condition,
    /// A template failed to render, or rendered what the broker would not take.
    Template,
    /// A required record could not be had.
    EnrichmentRequired,
    /// Larger than the destination takes.
    TooLarge,
    /// Refused by the destination for good.
    Rejected,
    /// Older than `retry.max_age`.
    Expired,
    /// The stored row does not match its hash, or cannot be read.
    Damaged,
    /// The process died twice on it.
    Poison,
}

impl DeadCause {
    /// All of them, in the order they are documented.
    pub const ALL: [Self; 10] = [
        Self::Unroutable,
        Self::Unparsable,
        Self::Condition,
        Self::Template,
        Self::EnrichmentRequired,
        Self::TooLarge,
        Self::Rejected,
        Self::Expired,
        Self::Damaged,
        Self::Poison,
    ];

    /// The word in lists, filters and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unroutable => "unroutable",
            Self::Unparsable => "unparsable",
            Self::Condition => "condition",
            Self::Template => "template",
            Self::EnrichmentRequired => "enrichment_required",
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
            Self::Poison => "poison",
        }
    }

    /// Reads what [`DeadCause::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

impl fmt::Display for DeadCause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Why a whole lane stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// The destination cannot be reached, or does not answer.
    Down,
    /// The destination is there but takes nothing at the moment (memory or disk alarm).
    Blocked,
    /// Someone must act: missing exchange or topic, no permission, a common cause failing everything.
    Misconfigured,
}

impl StopReason {
    /// `down`, `blocked` or `misconfigured`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Blocked => "blocked",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// What kind of failure a try ended in. [`crate::core::retry::judge`] alone says what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The broker gave it back: no queue is bound for it.
    Returned,
    /// The broker refused it this time (a full queue, not enough replicas).
    Nacked,
    /// No answer: it may or may not have been taken.
    Unknown,
    /// It will never be taken as it is.
    Rejected(DeadCause),
    /// The lane as a whole cannot publish; this one was not taken, or it is not known.
    Lane(StopReason),
}

/// A try that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// What the other side said, for the operator; no payload, no secret.
    pub detail: Box<str>,
}

/// Prints an error with everything below it: `cannot do this: because of that: and that`.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(out, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
