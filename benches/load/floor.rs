//! The floor: what any axum program pays to verify a push, parse it and answer 200, keeping nothing.
//!
//! Frozen: every ratio in `docs/benchmarks.md` stands on it. It shares no code with `src/`.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use tokio::net::TcpListener;

/// What a receiver must look at to know what it has got; borrowed, and the payload left as text.
#[derive(Deserialize)]
struct Push<'a> {
    id: &'a str,
    event: &'a str,
    enterprise_token: &'a str,
    created_at: u64,
    #[serde(borrow)]
    body: &'a RawValue,
}

async fn receive(State(secret): State<Arc<str>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(given) = headers.get("laigu-signature") else { return StatusCode::UNAUTHORIZED };
    let mut hash = Sha1::new();
    hash.update(&body);
    hash.update(secret.as_bytes());
    let mut expected = [0; 40];
    if hex::encode_to_slice(hash.finalize(), &mut expected).is_err() || given.as_bytes() != expected {
        return StatusCode::UNAUTHORIZED;
    }
    match serde_json::from_slice::<Push>(&body) {
        Ok(push) if push.id.is_empty() || push.event.is_empty() || push.enterprise_token.is_empty() => {
            StatusCode::BAD_REQUEST
        }
        Ok(push) if push.created_at == 0 || push.body.get().len() < 2 => StatusCode::BAD_REQUEST,
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

/// Serves on a loopback port until the process is ended.
#[expect(clippy::disallowed_methods, reason = "the floor is what people write first")]
pub fn serve(port: u16, secret: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = Router::new().route("/hooks/laigu/acme", post(receive)).with_state(Arc::from(secret));
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(axum::serve(listener, app).await?)
    })
}
