//! The senders: what they posted, and what they were answered. Outlives every process.

use crate::plan::{KINDS, Plan};
use fastrand::Rng;
use laigu_router::{
    domain::{Fingerprint, HashKeys, Headers, NewEvent, OrderKey, Origin, SourceName, TenantName, Timestamp, Version},
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
    /// Whether the vendor's list shows it, and from when on.
    pub listed: bool,
    pub made_at: Timestamp,
    /// Whether the push itself says which version it is about.
    pub says_version: bool,
    /// Whether its sender loses it.
    pub dropped: bool,
    /// Whether it is posted later, or never.
    pub late: bool,
    /// Tries that are not answered yet.
    pub open: usize,
    pub posts: u32,
}

impl Push {
    /// Whether the vendor's list shows it.
    pub fn is_record(&self) -> bool {
        self.listed
    }

    /// The bytes of its record.
    pub fn record_body(&self) -> String {
        format!("{{\"record\":{}}}", self.body)
    }

    /// Each record has one version only: its number.
    pub fn fingerprint(&self, origin: Origin) -> Fingerprint {
        if !self.listed {
            return Fingerprint::default();
        }
        let says = self.says_version || origin == Origin::Reconcile;
        let version = Version { key: self.body.clone().into(), at: says.then_some(self.made_at), stands_for_all: true };
        Fingerprint::of(&KEYS, ("laigu", "acme"), "k", Some(&version), origin)
    }

    pub fn partition(&self, partitions: u16) -> u16 {
        let place = self.key.map(order).map_or_else(|| KEYS.body(self.body.as_bytes()), |order| order.0);
        u16::try_from(place % u64::from(partitions)).unwrap_or(0)
    }
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
        let index = if again { rng.usize(..self.pushes.len()) } else { self.new_push(rng, plan, now)? };
        let push = self.pushes.get(index)?;
        if push.dropped || (push.late && !again) {
            return None;
        }
        // A sender re-sends only its latest of a key: it does not reach back behind what it sent since. What is late is.
        if again && !(push.late && push.posts == 0) {
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
        Some((push.partition(plan.partitions), event(push, now), self.token))
    }

    fn new_push(&mut self, rng: &mut Rng, plan: &Plan, now: Timestamp) -> Option<usize> {
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
        // Only what keeps order with something is a record, and not what shares its id with another.
        let listed = plan.reconciles && key.is_some() && !same_id && rng.bool();
        let (dropped, late, says_version) =
            (listed && rng.u32(..4) == 0, listed && rng.u32(..3) == 0, rng.u32(..4) > 0);
        let push = Push {
            key,
            kind,
            id,
            body,
            accepted: false,
            listed,
            made_at: now,
            says_version,
            dropped,
            late,
            open: 0,
            posts: 0,
        };
        self.pushes.push(push);
        if let Some(key) = key.filter(|_| !dropped && !late) {
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

pub fn event(push: &Push, now: Timestamp) -> NewEvent {
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
        fingerprint: push.fingerprint(Origin::Push),
        superseded: false,
    }
}
