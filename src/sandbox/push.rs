//! Pushes of the stand-in's people, signed the way Laigu signs: also re-sent, forged and unparsable ones.

use super::world::{Row, World};
use crate::{
    domain::{Secret, Timestamp},
    vendors::http::{self, Call, Http},
};
use bytes::Bytes;
use fastrand::Rng;
use http_types::Method;
use serde_json::json;
use sha1::{Digest, Sha1};
use std::time::Duration;
use url::Url;

use ::http as http_types;

/// What a push is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A good one, for the first time.
    Fresh,
    /// The same bytes as one before.
    Resent,
    /// Signed with another secret.
    Forged,
    /// Rightly signed, and not JSON.
    Unparsable,
}

/// One push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// What it is meant to be.
    pub kind: Kind,
    /// The body.
    pub body: Bytes,
    /// The signature header's value.
    pub signature: String,
}

/// How many pushes of each kind, in percent of the fresh ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mix {
    /// Sent again later.
    pub resent: u32,
    /// With a wrong signature.
    pub forged: u32,
    /// Signed, but not JSON.
    pub unparsable: u32,
    /// Never sent: what reconciling is for.
    pub dropped: u32,
    /// Sent a few places later than their turn.
    pub reordered: u32,
}

/// `SHA1(body + secret)` in hexadecimal: Laigu's signature, and Meiqia's.
#[must_use]
pub fn sign(body: &[u8], secret: &Secret) -> String {
    let digest = Sha1::new().chain_update(body).chain_update(secret.expose()).finalize();
    hex::encode(digest)
}

/// The `cus.upsert` of a client, as Laigu words it. `number` makes its id unique within the second.
#[must_use]
pub fn client_push(row: &Row, enterprise_token: &str, now: Timestamp, number: u32) -> Bytes {
    let mut body = row.json.clone();
    // Only the API shows it inside the record; the push has it in its envelope.
    body.remove("enterprise_token");
    let seconds = now.as_millis().div_euclid(1000);
    let push = json!({
        "id": format!("sub_{enterprise_token}_{seconds}_{number:04}"),
        "event": "cus.upsert",
        "enterprise_token": enterprise_token,
        "created_at": seconds,
        "body": body,
    });
    Bytes::from(push.to_string())
}

/// The `conversation.…` of a conversation.
#[must_use]
pub fn conversation_push(row: &Row, event: &str, enterprise_token: &str, now: Timestamp, number: u32) -> Bytes {
    let seconds = now.as_millis().div_euclid(1000);
    let push = json!({
        "id": format!("sub_{enterprise_token}_{seconds}_{number:04}"),
        "event": event,
        "enterprise_token": enterprise_token,
        "created_at": seconds,
        "conversation": row.json,
    });
    Bytes::from(push.to_string())
}

/// Pushes about everyone in a world, oldest change first, mixed with what goes wrong. The same seed, the same pushes.
#[must_use]
pub fn pushes(world: &World, enterprise_token: &str, secret: &Secret, mix: Mix, seed: u64) -> Vec<Push> {
    let mut rng = Rng::with_seed(seed);
    let clients = world.clients.iter().map(|row| (row.updated, row, None));
    let conversations = world.conversations.iter().map(|row| {
        let event = if row.ended.is_some() { "conversation.closed" } else { "conversation.created" };
        (row.updated, row, Some(event))
    });
    let mut changes: Vec<_> = clients.chain(conversations).collect();
    changes.sort_by_key(|(updated, ..)| *updated);

    let mut placed: Vec<(usize, Push)> = Vec::new();
    let percent = |rng: &mut Rng, share: u32| rng.u32(0..100) < share;
    for (turn, (updated, row, event)) in changes.into_iter().enumerate() {
        let number = u32::try_from(turn % 10_000).unwrap_or(0);
        let body = match event {
            None => client_push(row, enterprise_token, updated, number),
            Some(event) => conversation_push(row, event, enterprise_token, updated, number),
        };
        let good = Push { kind: Kind::Fresh, signature: sign(&body, secret), body };
        let turn = turn * 2;
        if percent(&mut rng, mix.forged) {
            let signature = sign(&good.body, &Secret::new("someone else's".into()));
            placed.push((turn, Push { kind: Kind::Forged, signature, ..good.clone() }));
        }
        if percent(&mut rng, mix.unparsable) {
            let body = good.body.slice(..good.body.len() / 2);
            placed.push((turn, Push { kind: Kind::Unparsable, signature: sign(&body, secret), body }));
        }
        if percent(&mut rng, mix.dropped) {
            continue;
        }
        let late = if percent(&mut rng, mix.reordered) { rng.usize(1..20) * 2 } else { 0 };
        if percent(&mut rng, mix.resent) {
            let again = turn + late + rng.usize(1..40) * 2 + 1;
            placed.push((again, Push { kind: Kind::Resent, ..good.clone() }));
        }
        placed.push((turn + late, good));
    }
    placed.sort_by_key(|(turn, _)| *turn);
    placed.into_iter().map(|(_, push)| push).collect()
}

/// Sends pushes to one webhook.
#[derive(Debug, Clone)]
pub struct Pusher {
    http: Http,
    header: &'static str,
}

impl Pusher {
    /// To a hook's URL, with the signature in a header (lower case; `meiqia-signature` is what Laigu documents).
    ///
    /// # Errors
    /// [`http::Error`] when the URL is none that may be called.
    pub fn new(hook: &Url, header: &'static str) -> Result<Self, http::Error> {
        let options = http::Options { deadline: Duration::from_secs(15), ..http::Options::default() };
        Ok(Self { http: Http::new(hook, options)?, header })
    }

    /// Sends one; returns the HTTP status.
    ///
    /// # Errors
    /// [`http::Error`]; the push may have arrived all the same.
    pub async fn send(&self, push: &Push) -> Result<u16, http::Error> {
        let credentials = [(self.header, push.signature.as_str())];
        let call =
            Call { method: &Method::POST, path: &[], query: &[], credentials: &credentials, body: Some(&push.body) };
        Ok(self.http.send(call).await?.status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mix, pushes, sign};
    use crate::{
        domain::{Secret, Timestamp},
        sandbox::world::{Plan, World},
    };
    use std::{collections::HashSet, time::Duration};

    fn world() -> World {
        let now = Timestamp::from_millis(1_726_824_222_989);
        let past = Duration::from_secs(86_400);
        let plan = Plan { seed: 3, now, past, clients: 200, conversations: 100, agents: 1, sessions: 0 };
        World::new(&plan, 104, "b6bd473a003a99216d3f63cc329869b3", "1")
    }

    #[test]
    fn the_signature_is_sha1_of_body_then_secret() {
        let body = r#"{"id":"sub_b6bd473a003a99216d3f63cc329869b3_1726824224_9975","event":"cus.upsert","enterprise_token":"b6bd473a003a99216d3f63cc329869b3","created_at":1726824224,"body":{"track_id":"2ldmFOXB7aDMXHSs7upv5PMZsa0","name":"小黄鸭"}}"#;
        let signature = sign(body.as_bytes(), &Secret::new("test_secret".into()));
        assert_eq!(signature, "3505dee0530011c2ec8c3aae44661976932172b8");
    }

    #[test]
    fn every_kind_is_what_it_is_meant_to_be() {
        let secret = Secret::new("s".into());
        let mix = Mix { resent: 20, forged: 5, unparsable: 5, dropped: 5, reordered: 10 };
        let all = pushes(&world(), "t", &secret, mix, 9);
        assert_eq!(all, pushes(&world(), "t", &secret, mix, 9));
        let count = |kind: Kind| all.iter().filter(|push| push.kind == kind).count();
        assert!((270..300).contains(&count(Kind::Fresh)), "{}", count(Kind::Fresh));
        for kind in [Kind::Resent, Kind::Forged, Kind::Unparsable] {
            assert!(count(kind) > 0, "{kind:?}");
        }
        let mut seen = HashSet::new();
        for push in &all {
            let good = push.signature == sign(&push.body, &secret);
            assert_eq!(good, push.kind != Kind::Forged);
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&push.body).is_ok(), push.kind != Kind::Unparsable);
            match push.kind {
                Kind::Fresh => assert!(seen.insert(push.body.clone()), "ids are unique"),
                Kind::Resent => assert!(seen.contains(&push.body), "a re-send comes after the first"),
                Kind::Forged | Kind::Unparsable => {}
            }
        }
    }
}
