//! What consumers must have in the end, known from the stand-in's people and the pushes that were sent alone.

use laigu_router::sandbox::{
    push::{Kind, Push},
    world::{World, is_customer},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An event, what it is about, and which version of it.
type Version = (String, String, String);

pub struct Truth {
    /// What the API shows: clients who can be reached, conversations that ended. Once each.
    shown: BTreeSet<Version>,
    /// What was pushed beside that: no list shows it any more, or ever did.
    pushed: BTreeSet<Version>,
}

impl Truth {
    pub fn of(world: &World, pushes: &[Push]) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let clients = world.clients.iter().filter(|row| is_customer(row));
        let clients = clients.map(|row| ("cus.upsert".to_owned(), row.id.clone(), text(&row.json["updated_on"])));
        let ended = world.conversations.iter().filter(|row| row.ended.is_some());
        let ended = ended.map(|row| ("conversation.closed".to_owned(), row.id.clone(), text(&row.json["conv_end_tm"])));
        let shown: BTreeSet<_> = clients.chain(ended).collect();
        let good = pushes.iter().filter(|push| matches!(push.kind, Kind::Fresh | Kind::Resent));
        let pushed: BTreeSet<_> = good.map(|push| version(&serde_json::from_slice(&push.body).unwrap())).collect();
        Self { pushed: pushed.difference(&shown).cloned().collect(), shown }
    }

    pub fn count(&self) -> usize {
        self.shown.len()
    }

    pub fn has_client(&self, id: &str) -> bool {
        self.shown.iter().any(|(event, key, _)| event == "cus.upsert" && key == id)
    }

    /// What is not delivered yet.
    pub fn missing(&self, delivered: &[Value]) -> Vec<Version> {
        let there: BTreeSet<_> = delivered.iter().map(|line| version(&line["data"])).collect();
        self.shown.union(&self.pushed).filter(|version| !there.contains(*version)).cloned().collect()
    }

    /// Nothing is missing, nothing came twice. A state of a client that was found before it changed again may be there, too.
    pub fn each_once(&self, delivered: &[Value]) {
        let mut times: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
        for line in delivered {
            times.entry(version(&line["data"])).or_default().push(line["id"].as_str().unwrap());
        }
        for (version, ids) in &times {
            // The same copy of an event may come again after a crash; another event never.
            let different: BTreeSet<_> = ids.iter().collect();
            assert_eq!(different.len(), 1, "{version:?} came as {ids:?}");
        }
        assert_eq!(self.missing(delivered), []);
    }
}

/// Which version of what a push is about, pushed or found.
fn version(push: &Value) -> Version {
    let event = push["event"].as_str().unwrap().to_owned();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    if event == "cus.upsert" {
        return (event, text(&push["body"]["track_id"]), text(&push["body"]["updated_on"]));
    }
    (event, text(&push["conversation"]["conv_id"]), text(&push["conversation"]["conv_end_tm"]))
}
