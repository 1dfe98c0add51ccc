//! The pace of calls made by hand: the tenant's rate, and a few repeats where they are safe.

use crate::{
    config::settings::Rate,
    core::rate::{Bucket, Take},
    domain::Timestamp,
    vendors::action::Action,
};
use std::time::Duration;

/// Repeats of one call, at the most.
const REPEATS_MAX: u32 = 6;

/// Repeats of a call whose failure the vendor does not explain.
const REPEATS_FEW: u32 = 2;

/// The first pause; each later one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Paces the calls of one command.
pub struct Pace {
    bucket: Bucket,
    repeats: u32,
}

impl Pace {
    /// At a tenant's rate.
    pub fn new(rate: Rate) -> Self {
        Self { bucket: Bucket::new(rate), repeats: 0 }
    }

    /// Waits until a call may be made.
    pub async fn turn(&mut self) {
        loop {
            let now = Timestamp::now();
            match self.bucket.take(now) {
                Take::Ready => return,
                Take::WaitUntil(time) => tokio::time::sleep(time.since(now)).await,
            }
        }
    }

    /// A call was answered.
    pub fn answered(&mut self) {
        self.bucket.ok(Timestamp::now());
        self.repeats = 0;
    }

    /// Whether a failed call is made again; waits before it says so.
    pub async fn again(&mut self, action: Action) -> bool {
        let repeats_max = match action {
            // The pull has gone back by itself, and does so a bounded number of times.
            Action::RestartWindow | Action::HalveWindow | Action::ShrinkPage => return true,
            Action::SlowDown => {
                self.bucket.limited(Timestamp::now());
                REPEATS_MAX
            }
            Action::Retry => REPEATS_MAX,
            Action::RetryAFew | Action::AwaitThenMissing => REPEATS_FEW,
            Action::RenewToken | Action::OpenCircuit | Action::GiveUp | Action::LookFirst => return false,
        };
        if self.repeats >= repeats_max {
            return false;
        }
        let pause = PAUSE_FIRST * 2_u32.pow(self.repeats);
        self.repeats += 1;
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        true
    }
}

/// What a person does about a failure that is not repeated.
pub const fn advice(action: Action) -> &'static str {
    match action {
        Action::OpenCircuit => "check the tenant's credentials in routes.yaml",
        Action::RenewToken => "the vendor refuses even a new token: check the tenant's credentials in routes.yaml",
        Action::GiveUp => "asking again will not help",
        Action::AwaitThenMissing => "check the id",
        Action::LookFirst => "the change may have been made all the same: look before you try again",
        Action::SlowDown => "the vendor says it was asked too often: try later, or lower `rate` in routes.yaml",
        Action::Retry | Action::RetryAFew | Action::RestartWindow | Action::HalveWindow | Action::ShrinkPage => {
            "try again later"
        }
    }
}
