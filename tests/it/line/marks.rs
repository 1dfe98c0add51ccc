//! What a consumer must find on a message and on a record: every property and header of the contract, and no other.

use crate::{brokers::rabbitmq::Received, kafka::support::Seen};
use laigu_router::domain::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The push's own time, seconds: that of every push that is checked here.
pub const CREATED_AT: i64 = 1_726_824_224;

/// The marks of a `cus.upsert` from tenant `acme` by the route `leads`, on its first try.
pub struct Marks<'a> {
    pub subject: &'a str,
    pub vendor_id: &'a str,
}

impl Marks<'_> {
    /// What both brokers carry under their own names, without the CloudEvents ones.
    fn check_marks(&self, marks: &BTreeMap<String, String>, event: [&str; 6]) {
        let own = ["x-delivery", "x-route", "x-attempt", "x-vendor-id", "traceparent"];
        let names: BTreeSet<_> = own.iter().chain(&event).copied().collect();
        assert_eq!(marks.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
        let [version, id, source, kind, time, subject] = event.map(|name| &*marks[name]);
        assert_eq!([version, source, kind, subject], ["1.0", "/laigu/acme", "com.laigu.cus.upsert", self.subject]);
        assert!(id.starts_with("evt_"), "{id}");
        assert_eq!(Timestamp::parse_rfc3339(time), Some(Timestamp::from_millis(CREATED_AT * 1_000)));
        assert_eq!(marks["x-delivery"], format!("{id}/leads"));
        assert_eq!([&*marks["x-route"], &*marks["x-attempt"], &*marks["x-vendor-id"]], ["leads", "1", self.vendor_id]);
        let trace: Vec<_> = marks["traceparent"].split('-').map(str::len).collect();
        assert_eq!(trace, [2, 32, 16, 2], "{}", marks["traceparent"]);
    }

    pub fn check_message(&self, message: &Received, body: &str) {
        assert_eq!(message.value, body.as_bytes());
        let headers = message.properties.headers().as_ref().expect("headers").inner();
        let marks = headers.keys().map(|name| (name.to_string(), message.header(name.as_str()))).collect();
        self.check_marks(
            &marks,
            ["specversion", "id", "source", "type", "time", "subject"].map(|name| {
                headers.keys().map(|key| key.as_str()).find(|key| *key == format!("cloudEvents_{name}")).expect(name)
            }),
        );
        let properties = &message.properties;
        let text =
            |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(text(properties.message_id()), marks["cloudEvents_id"]);
        assert_eq!(text(properties.kind()), "com.laigu.cus.upsert");
        assert_eq!(text(properties.content_type()), "application/json");
        assert_eq!(text(properties.app_id()), "laigu-router");
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(*properties.timestamp(), Some(CREATED_AT.unsigned_abs()));
        assert!(properties.expiration().is_none() && properties.user_id().is_none() && properties.reply_to().is_none());
    }

    pub fn check_record(&self, record: &Seen, body: &str) {
        assert_eq!(record.value, body.as_bytes());
        assert_eq!(record.key.as_deref(), Some(&*format!("acme/{}", self.subject)));
        assert_eq!(record.timestamp, Some(CREATED_AT * 1_000));
        let mut marks = record.headers.clone();
        assert_eq!(marks.remove("content-type").as_deref(), Some("application/json"));
        self.check_marks(&marks, ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject"]);
    }
}

/// The id of the event that both are copies of.
pub fn same_event(message: &Received, record: &Seen) -> String {
    let id = message.header("cloudEvents_id");
    assert_eq!(record.headers["ce_id"], id);
    id
}
