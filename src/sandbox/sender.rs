//! Pushes that go on: first about everyone there is, then about changes that keep happening. Some never come.

use super::{
    Sandbox,
    push::{Kind, Mix, Push, Pusher, client_push, conversation_push, pushes, sign},
    world::{Row, World},
};
use crate::{
    domain::{Secret, Timestamp},
    vendors::http,
};
use bytes::Bytes;
use fastrand::Rng;
use std::time::Duration;
use tokio::time;

/// How a stand-in pushes.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Where to.
    pub pusher: Pusher,
    /// What signs.
    pub secret: Secret,
    /// What goes wrong.
    pub mix: Mix,
    /// Between two pushes.
    pub every: Duration,
    /// The same number, the same mishaps.
    pub seed: u64,
}

impl Sender {
    /// Pushes until it is dropped; each push that was sent is told with the status it got.
    pub async fn run(&self, sandbox: &Sandbox, mut told: impl FnMut(&Push, Result<u16, http::Error>)) {
        let mut ticks = time::interval(self.every.max(Duration::from_millis(1)));
        let token = sandbox.options().enterprise_token.clone();
        let first = sandbox.with_world(|world| pushes(world, &token, &self.secret, self.mix, self.seed));
        for push in first {
            ticks.tick().await;
            told(&push, self.pusher.send(&push).await);
        }
        let mut rng = Rng::with_seed(self.seed);
        for number in (0..10_000).cycle() {
            ticks.tick().await;
            let now = Timestamp::now();
            let changed = sandbox.with_world(|world| change(world, &mut rng, &token, now, number));
            let Some(body) = changed.filter(|_| rng.u32(0..100) >= self.mix.dropped) else { continue };
            let push = Push { kind: Kind::Fresh, signature: sign(&body, &self.secret), body };
            told(&push, self.pusher.send(&push).await);
        }
    }
}

/// Something happens: a visitor comes or changes, a conversation begins or ends. The push about it.
fn change(world: &mut World, rng: &mut Rng, token: &str, now: Timestamp, number: u32) -> Option<Bytes> {
    let any = |rng: &mut Rng, rows: &[Row]| rng.choice(rows).map(|row| row.id.clone());
    let find = |rows: &[Row], id: &str| rows.iter().find(|row| row.id == id).cloned();
    match rng.u32(0..10) {
        0..3 => {
            let id = world.add_client(now);
            Some(client_push(&find(&world.clients, &id)?, token, now, number))
        }
        3..7 => {
            let id = any(rng, &world.clients)?;
            world.touch_client(&id, now);
            Some(client_push(&find(&world.clients, &id)?, token, now, number))
        }
        7..9 => {
            let id = world.add_conversation(now);
            Some(conversation_push(&find(&world.conversations, &id)?, "conversation.created", token, now, number))
        }
        _ => {
            let open: Vec<Row> = world.conversations.iter().filter(|row| row.ended.is_none()).cloned().collect();
            let id = any(rng, &open)?;
            world.end_conversation(&id, now);
            Some(conversation_push(&find(&world.conversations, &id)?, "conversation.closed", token, now, number))
        }
    }
}
