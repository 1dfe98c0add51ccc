//! The access token: bought once, shared by everyone, renewed before it runs out.
//!
//! However many calls need one at the same time, one call to the vendor gets it. The call is a shared future that
//! whoever waits drives on: nobody owns it, so nobody who goes away takes it along, and no lock is held meanwhile.

use super::error::ApiError;
use crate::domain::Secret;
use futures_util::{FutureExt, future::BoxFuture, future::Shared};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What the vendor documents; taken where an answer does not say.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(7200);

/// A token is held for so long at most, whatever the vendor says.
pub const LIFE_MAX: Duration = Duration::from_secs(86_400);

/// The share of its life after which a token is renewed: the vendor does not promise the rest.
const RENEW_PERCENT: u32 = 80;

/// A token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The text of `Kefu-Token`.
    pub secret: Secret,
    /// How long it lives, from `got`.
    pub life: Duration,
    /// When it was asked for.
    pub got: Instant,
}

impl Token {
    /// Whether it should be used without a second thought.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.got) < self.life * RENEW_PERCENT / 100
    }

    /// Whether the vendor should still take it.
    #[must_use]
    pub fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.got) < self.life
    }
}

type Bought = Result<Token, Arc<ApiError>>;
type Purchase = Shared<BoxFuture<'static, Bought>>;

/// The one place of a tenant's token.
#[derive(Default)]
pub struct Tokens {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Token>,
    purchase: Option<Purchase>,
}

impl Tokens {
    /// The token, bought with `buy` if there is none that is fresh `now`.
    ///
    /// # Errors
    /// [`ApiError::Token`] when it cannot be bought and the old one has run out.
    ///
    /// # Cancel safety
    /// Dropped, the purchase waits for the next caller.
    pub async fn get(
        &self,
        now: Instant,
        buy: impl FnOnce() -> BoxFuture<'static, Result<Token, ApiError>>,
    ) -> Result<Token, ApiError> {
        let purchase = {
            let mut state = self.lock();
            if let Some(token) = state.held.as_ref().filter(|token| token.is_fresh(now)) {
                return Ok(token.clone());
            }
            state.purchase.get_or_insert_with(|| buy().map(|bought| bought.map_err(Arc::new)).boxed().shared()).clone()
        };
        let bought = purchase.clone().await;
        let mut state = self.lock();
        // Everyone who waited comes by here; the first to come puts the token in its place.
        if state.purchase.as_ref().is_some_and(|current| current.ptr_eq(&purchase)) {
            state.purchase = None;
            if let Ok(token) = &bought {
                state.held = Some(token.clone());
            }
        }
        let old = state.held.as_ref().filter(|token| token.is_alive(now));
        match (bought, old) {
            (Ok(token), _) => Ok(token),
            // Between 80 and 100 % of its life the old one is worth a try.
            (Err(_), Some(old)) => Ok(old.clone()),
            (Err(error), None) => Err(ApiError::Token(error)),
        }
    }

    /// The vendor refused this token: the next caller buys another, unless somebody has already.
    pub fn refused(&self, token: &Token) {
        let mut state = self.lock();
        if state.held.as_ref().is_some_and(|held| held.secret == token.secret) {
            state.held = None;
        }
    }

    /// A panic of another thread leaves plain data as it was.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tokens([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, Tokens};
    use crate::{domain::Secret, vendors::easemob::api::error::ApiError};
    use futures_util::{FutureExt, future::join_all};
    use std::{cell::Cell, time::Duration};
    use tokio::time::Instant;

    const LIFE: Duration = Duration::from_secs(7200);

    /// A vendor that takes a moment and numbers its tokens.
    #[derive(Default)]
    struct Vendor {
        tokens: Tokens,
        bought: Cell<u32>,
        fails: Cell<bool>,
    }

    impl Vendor {
        async fn get(&self, now: Instant) -> Result<String, ApiError> {
            let token = self.tokens.get(now, || {
                let (number, fails) = (self.bought.get() + 1, self.fails.get());
                self.bought.set(number);
                async move {
                    tokio::task::yield_now().await;
                    if fails {
                        return Err(ApiError::Shape("token"));
                    }
                    Ok(Token { secret: Secret::new(number.to_string()), life: LIFE, got: now })
                }
                .boxed()
            });
            token.await.map(|token| token.secret.expose().to_owned())
        }
    }

    #[tokio::test]
    async fn a_hundred_callers_buy_one_token() {
        let (vendor, now) = (Vendor::default(), Instant::now());
        let all = join_all((0..100).map(|_| vendor.get(now))).await;
        assert!(all.into_iter().all(|token| token.is_ok_and(|token| token == "1")));
        assert_eq!(vendor.get(now).await.unwrap(), "1");
    }

    #[tokio::test]
    async fn a_token_is_renewed_at_eighty_percent_of_its_life() {
        let (vendor, now) = (Vendor::default(), Instant::now());
        for (percent, expected) in [(0, "1"), (79, "1"), (80, "2"), (159, "2"), (160, "3")] {
            assert_eq!(vendor.get(now + LIFE * percent / 100).await.unwrap(), expected, "{percent} %");
        }
    }

    #[tokio::test]
    async fn when_renewing_fails_the_old_one_serves_until_it_has_run_out() {
        let (vendor, now) = (Vendor::default(), Instant::now());
        vendor.get(now).await.unwrap();
        vendor.fails.set(true);
        assert_eq!(vendor.get(now + LIFE * 99 / 100).await.unwrap(), "1");
        assert!(matches!(vendor.get(now + LIFE).await, Err(ApiError::Token(_))));
        vendor.fails.set(false);
        assert_eq!(vendor.get(now + LIFE).await.unwrap(), "4");
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once_for_everyone() {
        let (vendor, now) = (Vendor::default(), Instant::now());
        vendor.get(now).await.unwrap();
        let old = Token { secret: Secret::new("1".into()), life: LIFE, got: now };
        vendor.tokens.refused(&old);
        assert_eq!(vendor.get(now).await.unwrap(), "2");
        // Somebody whose call was under way with the old one comes late.
        vendor.tokens.refused(&old);
        assert_eq!(vendor.get(now).await.unwrap(), "2");
    }

    #[tokio::test]
    async fn a_purchase_goes_on_when_whoever_began_it_goes_away() {
        let (vendor, now) = (Vendor::default(), Instant::now());
        assert!(vendor.get(now).now_or_never().is_none(), "the vendor takes a moment");
        assert_eq!(vendor.get(now).await.unwrap(), "1");
    }
}
