//! Who may do what: tokens, their roles, and the check before every endpoint.
//!
//! A token comes in `Authorization: Bearer …` and nowhere else. Hashes are compared, all of them, in constant time: an
//! answer's time tells neither a token nor its length. Without any `server.admin_tokens` everyone may do everything:
//! the listener is on loopback then.

use super::{AdminState, problem::Problem};
use crate::{
    config::settings::{AdminToken, Role},
    domain::Timestamp,
    ingress::serve::Peer,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use subtle::ConstantTimeEq;

/// Who asks, for the audit: the token's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub String);

/// Lets a request through whose token allows it.
///
/// # Errors
/// 401 without a token or with an unknown one, 403 if its role is too low.
pub fn admit(tokens: &[AdminToken], needed: Role, headers: &HeaderMap) -> Result<Who, Problem> {
    if tokens.is_empty() {
        return Ok(Who("anyone".to_owned()));
    }
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let presented = match (given.next(), given.next()) {
        (Some(one), None) => bearer(one.as_bytes()),
        _ => None,
    };
    let presented = presented.ok_or_else(unknown)?;
    let hash = Sha256::digest(presented);
    let known = tokens.iter().fold(None, |found, token| {
        let same: bool = Sha256::digest(token.token.expose().as_bytes()).ct_eq(&hash).into();
        if same { Some(token) } else { found }
    });
    let token = known.ok_or_else(unknown)?;
    if token.role < needed {
        let detail = format!("this takes the role `{}`; the token `{}` has less", role_text(needed), token.name);
        return Err(Problem { status: StatusCode::FORBIDDEN, detail });
    }
    Ok(Who(token.name.clone()))
}

/// What stands behind `Bearer`, whose case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn unknown() -> Problem {
    let detail = "send one of `server.admin_tokens` as `Authorization: Bearer …`".to_owned();
    Problem { status: StatusCode::UNAUTHORIZED, detail }
}

/// The word for a role.
#[must_use]
pub const fn role_text(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// The check before an endpoint, as a layer.
pub async fn check(
    State((state, needed)): State<(Arc<AdminState>, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    let (now, guesses) = (Timestamp::now(), request.headers().contains_key(header::AUTHORIZATION));
    let peer = request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip());
    if let Some(left) = peer.filter(|_| guesses).and_then(|peer| state.lockout.locked(peer, now)) {
        return locked_out(left);
    }
    let admitted = admit(&state.generation.load().settings.server.admin_tokens, needed, request.headers());
    match admitted {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(problem) => {
            let shown = peer.map(|peer| peer.to_string()).unwrap_or_default();
            tracing::warn!(status = problem.status.as_u16(), peer = shown, "an admin request was refused");
            let wrong = guesses && problem.status == StatusCode::UNAUTHORIZED;
            if peer.is_some_and(|peer| wrong && state.lockout.wrong(peer, now)) {
                tracing::warn!(
                    peer = shown,
                    "too many wrong admin tokens: tokens from there are not looked at for a while"
                );
            }
            problem.into_response()
        }
    }
}

fn locked_out(left: Duration) -> Response {
    let detail = "too many wrong tokens came from this address; wait, then send a right one".to_owned();
    let mut response = Problem { status: StatusCode::TOO_MANY_REQUESTS, detail }.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(left.as_secs() + 1));
    response
}

#[cfg(test)]
mod tests {
    use super::admit;
    use crate::{
        config::settings::{AdminToken, Role},
        domain::Secret,
    };
    use axum::http::{HeaderMap, header::AUTHORIZATION};

    fn tokens() -> Vec<AdminToken> {
        let token = |name: &str, role| AdminToken {
            name: name.to_owned(),
            role,
            token: Secret::new(format!("{name}-token-0123456789")),
        };
        vec![token("see", Role::Viewer), token("do", Role::Operator), token("own", Role::Admin)]
    }

    fn status(needed: Role, headers: &[&str]) -> u16 {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, value.parse().unwrap());
        }
        admit(&tokens(), needed, &map).map_or_else(|problem| problem.status.as_u16(), |_| 200)
    }

    #[test]
    fn each_role_may_what_the_lower_ones_may() {
        let names = ["see", "do", "own"];
        for (needed, expected) in
            [(Role::Viewer, [200, 200, 200]), (Role::Operator, [403, 200, 200]), (Role::Admin, [403, 403, 200])]
        {
            let got = names.map(|name| status(needed, &[&format!("Bearer {name}-token-0123456789")]));
            assert_eq!(got, expected, "{needed:?}");
        }
    }

    #[test]
    fn anything_but_one_known_bearer_token_is_unknown() {
        let good = "Bearer own-token-0123456789";
        for headers in [
            &[][..],
            &["Bearer "],
            &["Bearer own-token-012345678"],
            &["Bearer own-token-01234567890"],
            &["Basic own-token-0123456789"],
            &["own-token-0123456789"],
            &[good, good],
        ] {
            assert_eq!(status(Role::Viewer, headers), 401, "{headers:?}");
        }
        assert_eq!(status(Role::Admin, &["bearer own-token-0123456789"]), 200);
        assert!(admit(&[], Role::Admin, &HeaderMap::new()).is_ok());
    }
}
