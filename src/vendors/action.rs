//! What a caller does about an API error: the vendors' codes, boiled down to a closed set.

/// What follows from a failed call. The vendor's client only names it; the caller carries it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask again, with growing and jittered pauses, within the caller's budget.
    Retry,
    /// Ask again a few times, then treat it as final: the vendor documents no such answer.
    RetryAFew,
    /// Ask again, and lower this tenant's rate first.
    SlowDown,
    /// Ask a few times within a minute (a record may be read before it can be); then it does not exist.
    AwaitThenMissing,
    /// Read this time window again from its first page.
    RestartWindow,
    /// Read this time window in two halves.
    HalveWindow,
    /// Ask for smaller pages, from the first one.
    ShrinkPage,
    /// Get a new token, then ask once more. The Easemob client does that itself before it says so.
    RenewToken,
    /// Stop asking for this tenant until its credentials change, and raise the alarm. Never fetch a new Laigu token:
    /// that would void the one others use.
    OpenCircuit,
    /// Never ask this again as it is: the request or the configuration is wrong, or the answer is final.
    GiveUp,
    /// The change may have been made: look before it is tried again.
    LookFirst,
}
