//! What the demo expects: which push must be where, and with which record of the vendor's beside it.
//!
//! Read from the pushes and from the stand-in's own people, without the router's code.

use crate::sandbox::{
    push::{Kind, Push},
    world::{World, is_customer},
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What must arrive: for each destination the pushes by their vendor id.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expected {
    pub(super) destinations: BTreeMap<&'static str, BTreeMap<String, Value>>,
    pub(super) unrouted: usize,
    pub(super) dead: usize,
}

/// One delivery, as it was read.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) vendor_id: String,
    pub(super) data: Value,
}

/// By destination.
pub(super) type Arrived = BTreeMap<&'static str, Vec<Copy>>;

/// How the lookups ended that deliveries show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Enriched {
    pub(super) ok: u64,
    pub(super) not_applicable: u64,
}

impl Expected {
    /// What `profiles` takes goes there beside its record; all else goes to its folder, and to all of `brokers`.
    pub(super) fn of(pushes: &[Push], brokers: &[&'static str], world: &World) -> anyhow::Result<Self> {
        let mut expected = Self::default();
        for push in pushes {
            match push.kind {
                Kind::Unparsable => expected.dead += 1,
                Kind::Resent | Kind::Forged => {}
                Kind::Fresh => expected.add(serde_json::from_slice(&push.body)?, brokers, world)?,
            }
        }
        Ok(expected)
    }

    fn add(&mut self, push: Value, brokers: &[&'static str], world: &World) -> anyhow::Result<()> {
        let text = |pointer| push.pointer(pointer).and_then(Value::as_str);
        let id = text("/id").context("a push of ours has an id")?.to_owned();
        let event = text("/event").unwrap_or_default();
        let reachable = |name| push.get("body").and_then(|body| body.get(name)).is_some();
        let folder = match event {
            "cus.upsert" if reachable("tel") || reachable("weixin") => Some("crm"),
            event if event.starts_with("conversation.") => Some("service"),
            _ => None,
        };
        let profile = (event == "cus.upsert" && text("/body/source") == Some("douyin"))
            .then(|| beside_record(&push, world))
            .transpose()?;
        self.unrouted += usize::from(folder.is_none() && profile.is_none());
        if let Some(profile) = profile {
            self.destinations.entry("profiles").or_default().insert(id.clone(), profile);
        }
        if let Some(folder) = folder {
            for name in brokers.iter().chain([&folder]) {
                self.destinations.entry(name).or_default().insert(id.clone(), push.clone());
            }
        }
        Ok(())
    }

    /// How many deliveries there must be.
    pub(super) fn len(&self) -> usize {
        self.destinations.values().map(BTreeMap::len).sum()
    }

    /// Holds what arrived against it.
    pub(super) fn compare(&self, arrived: &Arrived) -> anyhow::Result<Enriched> {
        let mut enriched = Enriched::default();
        for (name, pushes) in &self.destinations {
            let mut seen = BTreeSet::new();
            for Copy { vendor_id: id, data } in arrived.get(name).into_iter().flatten() {
                let sent = pushes.get(id).with_context(|| format!("{name} has {id}, which was not sent there"))?;
                let mut data = data.clone();
                take_time(&mut data).with_context(|| format!("{name} has {id} with a record of no time"))?;
                ensure!(data == *sent, "{name} has {id} with other content, or another record, than it should");
                ensure!(seen.insert(id), "{name} has {id} twice");
                match data.pointer("/enrichment/client/status").and_then(Value::as_str) {
                    Some("ok") => enriched.ok += 1,
                    Some(_) => enriched.not_applicable += 1,
                    None => {}
                }
            }
            ensure!(seen.len() == pushes.len(), "{name} has {} of {} pushes", seen.len(), pushes.len());
        }
        Ok(enriched)
    }
}

/// A push about a client, with the record that the API shows of them; a visitor who left no contact is not in the API.
fn beside_record(push: &Value, world: &World) -> anyhow::Result<Value> {
    let id = push.pointer("/body/track_id").and_then(Value::as_str);
    let row = world.clients.iter().find(|row| Some(row.id.as_str()) == id).context("a push about nobody")?;
    let client = if is_customer(row) {
        json!({ "status": "ok", "record": row.json })
    } else {
        json!({ "status": "not_applicable", "reason": "no_contact" })
    };
    let mut push = push.clone();
    push.as_object_mut()
        .context("a push of ours is an object")?
        .insert("enrichment".into(), json!({ "client": client }));
    Ok(push)
}

/// Takes the time of fetching out, which nobody can know before; a record must have one.
fn take_time(data: &mut Value) -> Option<()> {
    let Some(Value::Object(client)) = data.pointer_mut("/enrichment/client") else { return Some(()) };
    let time = client.remove("fetched_at");
    (client.contains_key("record") == time.is_some_and(|time| time.is_string())).then_some(())
}

#[cfg(test)]
mod tests {
    use super::{Arrived, Copy, Enriched, Expected};
    use crate::{
        domain::{Secret, Timestamp},
        sandbox::{
            push::{Mix, pushes},
            world::{Plan, World},
        },
    };
    use serde_json::{Value, json};
    use std::time::Duration;

    type Spoil = fn(&mut Value);

    /// What must arrive of a small world, and deliveries of just that.
    fn small() -> (Expected, Arrived) {
        let now = Timestamp::from_millis(1_726_824_222_989);
        let past = Duration::from_secs(3_600);
        let plan = Plan { seed: 3, now, past, clients: 200, conversations: 20, agents: 1, sessions: 0 };
        let world = World::new(&plan, 104, "t", "1");
        let all = pushes(&world, "t", &Secret::new("s".into()), Mix::default(), 1);
        let expected = Expected::of(&all, &["kafka"], &world).unwrap();
        let mut arrived = Arrived::new();
        for (name, pushes) in &expected.destinations {
            for (id, data) in pushes {
                let mut data = data.clone();
                if let Some(client) = data.pointer_mut("/enrichment/client").filter(|part| part["status"] == "ok") {
                    client["fetched_at"] = json!("2024-09-20T09:23:44.120Z");
                }
                arrived.entry(name).or_default().push(Copy { vendor_id: id.clone(), data });
            }
        }
        (expected, arrived)
    }

    #[test]
    fn what_is_as_it_should_be_is_counted() {
        let (expected, arrived) = small();
        let Enriched { ok, not_applicable } = expected.compare(&arrived).unwrap();
        assert!(ok > 20 && not_applicable > 0, "{ok} {not_applicable}");
        assert_eq!(arrived["profiles"].len() as u64, ok + not_applicable);
        assert!(expected.unrouted > 0);
        assert_eq!(arrived["kafka"].len(), arrived["crm"].len() + arrived["service"].len());
    }

    #[test]
    fn another_record_none_and_one_where_none_was_asked_for_are_found() {
        let spoilings: [(&str, Spoil); 5] = [
            ("profiles", |data| data["enrichment"]["client"]["record"]["name"] = json!("somebody else")),
            ("profiles", |data| data["enrichment"]["client"] = json!({"status": "failed", "reason": "timeout"})),
            ("profiles", |data| drop(data.as_object_mut().unwrap().remove("enrichment"))),
            ("profiles", |data| {
                drop(data["enrichment"]["client"].as_object_mut().unwrap().remove("fetched_at"));
            }),
            ("crm", |data| data["enrichment"] = json!({})),
        ];
        for (index, (folder, spoil)) in spoilings.into_iter().enumerate() {
            let (expected, mut arrived) = small();
            let with_record =
                |copy: &&mut Copy| folder == "crm" || copy.data.pointer("/enrichment/client/record").is_some();
            let copy = arrived.get_mut(folder).unwrap().iter_mut().find(with_record).unwrap();
            spoil(&mut copy.data);
            assert!(expected.compare(&arrived).is_err(), "spoiling {index}");
        }
    }
}
