//! The senders: what they posted, and what they were answered. Outlives every process.

use crate::plan::{KINDS, Plan};
use fastrand::Rng;
use laigu_router::{
    domain::{Fingerprint, HashKeys, Headers, NewEvent, OrderKey, Origin, SourceName, TenantName, Timestamp},
    ingress::Answer,
};
use std::collections::BTreeMap;

pub const KEYS: HashKeys = HashKeys { first: 7, second: 8 };

/// One push, as its sender knows it. Re-sends are the same push.
#[derive(Debug, Clone)]
pub struct Push {
    /// `None`: keeps order with nothing.
    pub key: Option<usize>,
    pub kind: u8,
    pub id: String,
    pub body: String,
    pub accepted: bool,
    /// Tries that are not answered yet.
    pub open: usize,
    pub posts: u32,
}

#[derive(Debug, Default)]
pub struct Clients {
    pub pushes: Vec<Push>,
    /// Open tries: token to push.
    tries: BTreeMap<u64, usize>,
    token: u64,
    /// The last push of each key; the next is posted only when this one is answered or given up.
    last: BTreeMap<usize, usize>,
    keys: usize,
}

impl Clients {
    pub fn new(plan: &Plan) -> Self {
        Self { keys: plan.keys, ..Self::default() }
    }

    pub fn finished(&self, plan: &Plan) -> bool {
        self.pushes.len() >= plan.events
    }

    pub fn nothing_open(&self) -> bool {
        self.tries.is_empty()
    }

    pub fn any_key(&self, rng: &mut Rng) -> u64 {
        order(rng.usize(..self.keys)).0
    }

    /// The next post: a new push or a re-send, its partition and token.
    pub fn next(&mut self, rng: &mut Rng, plan: &Plan, now: Timestamp) -> Option<(u16, NewEvent, u64)> {
        let again = !self.pushes.is_empty() && rng.u32(..5) == 0;
        let index = if again { rng.usize(..self.pushes.len()) } else { self.new_push(rng, plan)? };
        // A sender re-sends only its latest of a key: it does not reach back behind what it sent since.
        if again {
            let push = self.pushes.get(index)?;
            let latest = push.key.is_none_or(|key| self.last.get(&key) == Some(&index));
            if !latest && !push.accepted {
                return None;
            }
        }
        let push = self.pushes.get_mut(index)?;
        push.open += 1;
        push.posts += 1;
        self.token += 1;
        self.tries.insert(self.token, index);
        let order = push.key.map(order);
        let place = order.map_or_else(|| KEYS.body(push.body.as_bytes()), |order| order.0);
        let partition = u16::try_from(place % u64::from(plan.partitions)).unwrap_or(0);
        Some((partition, event(push, now), self.token))
    }

    fn new_push(&mut self, rng: &mut Rng, plan: &Plan) -> Option<usize> {
        let key = match rng.u32(..10) {
            0 => None,
            1..9 if plan.hot => Some(0),
            _ => Some(rng.usize(..self.keys)),
        };
        if let Some(last) = key.and_then(|key| self.last.get(&key)).and_then(|last| self.pushes.get(*last))
            && last.open > 0
        {
            return None;
        }
        let index = self.pushes.len();
        let kind = rng.u8(..KINDS);
        // Now and then an id comes again with another body.
        let same_id = rng.u32(..12) == 0 && index > 0;
        let id = if same_id { self.pushes.last().map(|push| push.id.clone())? } else { format!("id-{index}") };
        let body = format!("{{\"push\":{index}}}");
        self.pushes.push(Push { key, kind, id, body, accepted: false, open: 0, posts: 0 });
        if let Some(key) = key {
            self.last.insert(key, index);
        }
        Some(index)
    }

    pub fn answered(&mut self, token: u64, answer: Answer) {
        let index = self.tries.remove(&token).expect("a try is answered once");
        if let Some(push) = self.pushes.get_mut(index) {
            push.open -= 1;
            push.accepted |= crate::writer::is_accepted(answer);
        }
    }

    /// Nobody answers what was open.
    pub fn process_died(&mut self) {
        for (_, index) in std::mem::take(&mut self.tries) {
            if let Some(push) = self.pushes.get_mut(index) {
                push.open -= 1;
            }
        }
    }
}

pub fn order(key: usize) -> OrderKey {
    KEYS.order("laigu", "acme", &format!("key-{key}"))
}

fn event(push: &Push, now: Timestamp) -> NewEvent {
    NewEvent {
        source: SourceName::parse("laigu").expect("a good name"),
        tenant: TenantName::parse("acme").expect("a good name"),
        kind: format!("k{}", push.kind).into(),
        key: push.key.map(|key| format!("key-{key}").into()),
        vendor_id: Some(push.id.clone().into()),
        origin: Origin::Push,
        sent_at: None,
        received_at: now,
        headers: Headers::default(),
        body: push.body.clone().into(),
        payload: None,
        order: push.key.map(order),
        id_hash: KEYS.id("laigu", "acme", &push.id),
        body_hash: KEYS.body(push.body.as_bytes()),
        fingerprint: Fingerprint::default(),
        superseded: false,
    }
}
