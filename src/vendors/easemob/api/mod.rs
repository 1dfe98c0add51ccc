//! A client for Easemob KeFu's open API (环信客服云).
//!
//! Ten calls: an access token; agents listed, made, changed, deleted, disabled, enabled, given a password; roles;
//! session history. The token is bought when it is needed ([`token`]). One call is one attempt, but for one: a call
//! that was refused for its token (`API_002`) was not carried out, and is made once more with a new one.
//! [`classify`](error::classify) says what any other failure means; for calls that change an agent it never says
//! "again" where the first one may have been carried out.
//!
//! Credentials go over https only; the vendor's samples say `http`.

pub mod agents;
pub mod envelope;
pub mod error;
pub mod records;
pub mod sessions;
pub mod token;

use crate::{
    config::settings::{self, Credentials},
    domain::Secret,
    vendors::{
        guard::is_segment,
        http::{self, Answer, Call, Http},
        record::{Batch, FromFields, Record},
        times::BEIJING,
    },
};
use ::http::Method;
use envelope::Envelope;
use error::{ApiError, Code};
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use token::{LIFE_DEFAULT, LIFE_MAX, Token, Tokens};
use tokio::time::Instant;

/// What stands before each path, as the vendor's online page says.
pub const PREFIX_DEFAULT: &str = "/api/platform/tenants/{tenant_id}";

/// The prefix of the page's samples; there the token's own is in the singular.
const PREFIX_OF_SAMPLES: &str = "/api/tenants/{tenant_id}";
const PREFIX_OF_SAMPLES_TOKEN: &str = "/api/tenant/{tenant_id}";

/// The client of one tenant; cheap to clone. Clones share the token.
#[derive(Debug, Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    prefix: Vec<String>,
    buyer: Arc<Buyer>,
    tokens: Tokens,
}

/// What buys tokens. By itself, so that a purchase that nobody waits for keeps nothing else alive.
#[derive(Debug)]
struct Buyer {
    http: Http,
    tenant_id: String,
    client_id: Secret,
    secret_id: Secret,
    prefix: Vec<String>,
}

impl Api {
    /// Makes the client of a tenant.
    ///
    /// # Errors
    /// [`http::Error`] when the base URL may not be called, the prefix is no path, or the credentials are not
    /// Easemob's.
    pub fn new(api: &settings::Api, tenant_id: &str, options: http::Options) -> Result<Self, http::Error> {
        let Credentials::Client { client_id, secret_id } = &api.credentials else {
            return Err(http::Error::Setup("Easemob's API takes `client_id` and `secret_id`"));
        };
        let given = api.path_prefix.as_deref().unwrap_or(PREFIX_DEFAULT);
        let of_samples = given.trim_end_matches('/') == PREFIX_OF_SAMPLES;
        let of_token = if of_samples { PREFIX_OF_SAMPLES_TOKEN } else { given };
        let buyer = Buyer {
            http: Http::new(&api.base_url, options)?,
            tenant_id: tenant_id.to_owned(),
            client_id: client_id.clone(),
            secret_id: secret_id.clone(),
            prefix: prefix(of_token, tenant_id)?,
        };
        let prefix = prefix(given, tenant_id)?;
        Ok(Self { inner: Arc::new(Inner { prefix, buyer: Arc::new(buyer), tokens: Tokens::default() }) })
    }

    /// The access token, bought if need be. [`Token::secret`] must never be shown whole.
    ///
    /// # Errors
    /// [`ApiError::Token`].
    pub async fn token(&self) -> Result<Token, ApiError> {
        let buyer = Arc::clone(&self.inner.buyer);
        self.inner.tokens.get(Instant::now(), || async move { buyer.buy().await }.boxed()).await
    }

    async fn read(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, ApiError> {
        self.call(&Method::GET, path, query, None).await
    }

    async fn change(&self, method: &Method, path: &[&str], body: &Value) -> Result<Answer, ApiError> {
        self.call(method, path, &[], Some(body.to_string().as_bytes())).await
    }

    /// Makes a call, and once more if its token was refused: then the first one was certainly not carried out.
    async fn call(
        &self,
        method: &Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ApiError> {
        let path: Vec<&str> = self.inner.prefix.iter().map(String::as_str).chain(path.iter().copied()).collect();
        let token = self.token().await?;
        let credentials = [("kefu-token", token.secret.expose())];
        let call = Call { method, path: &path, query, credentials: &credentials, body };
        let answer = self.inner.buyer.http.send(call).await?;
        if !self.is_token_refused(&answer) {
            return Ok(answer);
        }
        self.inner.tokens.refused(&token);
        let token = self.token().await?;
        let credentials = [("kefu-token", token.secret.expose())];
        Ok(self.inner.buyer.http.send(Call { credentials: &credentials, ..call }).await?)
    }

    fn is_token_refused(&self, answer: &Answer) -> bool {
        matches!(
            self.open(answer),
            Err(ApiError::Refused { code: Code::TokenInvalid, .. } | ApiError::Status { status: 401, .. })
        )
    }

    fn open<'a>(&self, answer: &'a Answer) -> Result<Envelope<'a>, ApiError> {
        self.open_with(answer, None)
    }

    /// Opens an answer; a password that was sent is taken out of what the vendor says of it.
    fn open_with<'a>(&self, answer: &'a Answer, password: Option<&Secret>) -> Result<Envelope<'a>, ApiError> {
        let mut secrets = vec![self.inner.buyer.secret_id.expose(), self.inner.buyer.client_id.expose()];
        secrets.extend(password.map(Secret::expose));
        Envelope::open(answer, &secrets)
    }

    fn batch<T: FromFields>(&self, items: Vec<&str>) -> Batch<T> {
        Batch::read(items, BEIJING)
    }

    fn record<T: FromFields>(&self, raw: &str) -> Result<Record<T>, ApiError> {
        Record::parse(raw, BEIJING).map_err(|_| ApiError::Shape("record that is an object"))
    }
}

impl Buyer {
    async fn buy(&self) -> Result<Token, ApiError> {
        let got = Instant::now();
        let path: Vec<&str> = self.prefix.iter().map(String::as_str).chain(["accessToken"]).collect();
        let body = json!({
            "tenantId": self.tenant_id,
            "clientId": self.client_id.expose(),
            "secretId": self.secret_id.expose(),
        })
        .to_string();
        let call =
            Call { method: &Method::POST, path: &path, query: &[], credentials: &[], body: Some(body.as_bytes()) };
        let answer = self.http.send(call).await?;
        let envelope = Envelope::open(&answer, &[self.secret_id.expose(), self.client_id.expose()])?;
        let entity: Value = serde_json::from_str(envelope.entity()?).map_err(|_| ApiError::Shape("entity"))?;
        let text = entity.get("accessToken").and_then(Value::as_str).filter(|token| !token.is_empty());
        let secret = Secret::new(text.ok_or(ApiError::Shape("accessToken"))?.to_owned());
        Ok(Token { secret, life: life(entity.get("expireTime")), got })
    }
}

/// How long a token lives by its `expireTime`, in seconds; "for ever" is written as a huge number.
fn life(expire_time: Option<&Value>) -> Duration {
    let seconds = match expire_time {
        Some(Value::String(text)) => text.trim().parse().ok(),
        other => other.and_then(Value::as_u64),
    };
    seconds.map_or(LIFE_DEFAULT, Duration::from_secs).min(LIFE_MAX)
}

/// The segments of a prefix with the tenant's number put in.
fn prefix(template: &str, tenant_id: &str) -> Result<Vec<String>, http::Error> {
    let segments: Vec<String> = template
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| segment.replace("{tenant_id}", tenant_id))
        .collect();
    if segments.iter().all(|segment| is_segment(segment)) {
        return Ok(segments);
    }
    Err(http::Error::Setup("`path_prefix` and `tenant_id` must make a path of letters, digits, `_` and `-`"))
}

#[cfg(test)]
mod tests {
    use super::{
        PREFIX_DEFAULT, life, prefix,
        token::{LIFE_DEFAULT, LIFE_MAX, Token},
    };
    use crate::domain::Secret;
    use serde_json::json;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn whatever_life_the_vendor_names_a_token_can_be_asked_whether_it_is_fresh() {
        for (named, expected) in [
            (json!(3600), Duration::from_secs(3600)),
            (json!("3600"), Duration::from_secs(3600)),
            (json!(i64::MAX), LIFE_MAX),
            (json!("18446744073709551615"), LIFE_MAX),
            (json!(-1), LIFE_DEFAULT),
            (json!("soon"), LIFE_DEFAULT),
            (json!(null), LIFE_DEFAULT),
        ] {
            let token = Token { secret: Secret::new("t".into()), life: life(Some(&named)), got: Instant::now() };
            assert_eq!(token.life, expected, "{named}");
            assert!(token.is_fresh(token.got) && token.is_alive(token.got), "{named}");
        }
        assert_eq!(life(None), LIFE_DEFAULT);
    }

    #[test]
    fn a_prefix_takes_the_tenants_number_and_nothing_that_climbs() {
        assert_eq!(prefix(PREFIX_DEFAULT, "1").unwrap(), ["api", "platform", "tenants", "1"]);
        assert_eq!(prefix("/api/tenants/{tenant_id}/", "77").unwrap(), ["api", "tenants", "77"]);
        assert!(prefix("", "1").unwrap().is_empty());
        for (template, tenant) in [
            (PREFIX_DEFAULT, "../2"),
            (PREFIX_DEFAULT, "a b"),
            (PREFIX_DEFAULT, ""),
            ("/api/../{tenant_id}", "1"),
            ("/a?b", "1"),
        ] {
            assert!(prefix(template, tenant).is_err(), "{template} {tenant}");
        }
    }
}
