//! Made-up pushes, one of each common kind: conditions are tried on them when the file is read, and the benches run
//! on them. No name, number or place in them belongs to anyone.

use crate::domain::{
    EnrichmentPart, EnrichmentStatus, Event, EventId, Fingerprint, Headers, Incarnation, NewEvent, Origin, Position,
    Record, SourceName, TenantName, Timestamp,
};
use bytes::Bytes;
use std::sync::Arc;

/// A lead from an advertisement, as Laigu sends it: 1 KB, Chinese throughout.
pub const LEAD: &str = r#"{"id":"sub_00000000000000000000000000000000_1726824224_9975","event":"cus.upsert","enterprise_token":"00000000000000000000000000000000","created_at":1726824224,"body":{"advertiser_name":"示例广告主(测试)1","advertiser_id":"111","campaign_name":"客资收集_计划2","campaign_id":"222","creativity_name":"客资收集_创意3","creativity_id":"333","source":"redbook","sub_source":"62b1fcaf000000001b0260c1","name":"示例顾客","age":"18","gender":"F","avatar":"https://img.example.com/widget/104/0ZIX/gaMZnhi9PwwQjIrHh5kd.jpg","qq":"100000001","tel":"13800000000","weixin":"example_wx","address":"四川省成都市高新区","comment":"想了解价格,请尽快联系","updated_on":"2024-09-20T09:23:42.989Z","created_on":"2024-09-05T08:58:33Z","track_id":"2aaaaaaaaaaaaaaaaaaaaaaaaaa","tags":[9,10,13,18,61,77],"custom":{"意向产品":["套餐甲","套餐乙"],"预约时间":"2024-09-20T09:23:12.916Z"}}}"#;

const CONVERSATION: &str = r#"{"id":"sub_00000000000000000000000000000000_1726824300","event":"conversation.closed","enterprise_token":"00000000000000000000000000000000","created_at":1726824300,"conversation":{"enterprise_id":104,"conv_id":900001,"client_id":800001,"track_id":"2aaaaaaaaaaaaaaaaaaaaaaaaaa","agent_id":700001,"agent_name":"示例客服","conv_start_tm":"2024-09-20 17:20:00.000001","conv_end_tm":"2024-09-20 17:25:00.000001","conv_agent_msg_count":3,"conv_visitor_msg_count":"5","effective":"true","missed":"false","tags":["售前"],"client_info":{"visitor_name":"示例顾客","tel":"13800000000"},"conv_content":[{"from":"client","content":"你好","timestamp":"2024-09-20 17:20:01.000001"},{"from":"agent","content":"您好","timestamp":"2024-09-20 17:20:05.000001"}]}}"#;

const SESSION: &str = r#"{"eventId":"ses_0000000000000000","event":"session.closed","timestamp":1726824300000,"payload":{"serviceSessionId":"00000000-0000-4000-8000-000000000000","state":"Terminal","agentUserId":"agent-1","visitorUser":{"nicename":"示例顾客","phone":"13800000000"},"originType":["weixin"]}}"#;

/// An event with that body. `payload` is the text of its payload object within the body.
///
/// # Panics
/// When the texts are not what a caller of ours writes: a name that is none, a payload that is not in the body.
#[must_use]
pub fn event(kind: &str, key: Option<&str>, body: &str, payload: &str) -> Event {
    let start = body.find(payload).expect("the payload is part of the body");
    let range = |at: usize| u32::try_from(at).expect("samples are small");
    let received_at = Timestamp::from_millis(1_726_824_225_000);
    Event {
        id: EventId { received_at, incarnation: Incarnation(7), position: Position::default() },
        conflict: false,
        content: NewEvent {
            source: SourceName::parse("laigu").expect("a name"),
            tenant: TenantName::parse("acme").expect("a name"),
            kind: kind.into(),
            key: key.map(Box::from),
            vendor_id: None,
            origin: Origin::Push,
            sent_at: Some(Timestamp::from_millis(1_726_824_224_000)),
            received_at,
            headers: Headers("content-type: application/json\nuser-agent: Go-http-client/1.1".into()),
            body: Bytes::copy_from_slice(body.as_bytes()),
            payload: Some(range(start)..range(start + payload.len())),
            order: None,
            id_hash: 0,
            body_hash: 0,
            fingerprint: Fingerprint::default(),
            superseded: false,
        },
    }
}

/// A record that was found and holds nothing.
#[must_use]
pub fn part(what: &str) -> EnrichmentPart {
    let record = Record { bytes: Bytes::from_static(b"{}"), hash: 0 };
    EnrichmentPart {
        what: what.into(),
        status: EnrichmentStatus::Ok,
        reason: None,
        fetched_at: Some(Timestamp::from_millis(1_726_824_226_000)),
        record: Some(Arc::new(record)),
    }
}

/// The lead as an event.
#[must_use]
pub fn lead() -> Event {
    event("cus.upsert", Some("2aaaaaaaaaaaaaaaaaaaaaaaaaa"), LEAD, payload(LEAD, "\"body\":"))
}

/// All samples.
#[must_use]
pub fn all() -> Vec<Event> {
    let lead = |kind| event(kind, Some("2aaaaaaaaaaaaaaaaaaaaaaaaaa"), LEAD, payload(LEAD, "\"body\":"));
    let talk = |kind| event(kind, Some("900001"), CONVERSATION, payload(CONVERSATION, "\"conversation\":"));
    let session = |kind| event(kind, Some("00000000"), SESSION, payload(SESSION, "\"payload\":"));
    vec![
        lead("cus.upsert"),
        lead("client.created"),
        lead("client.updated"),
        talk("conversation.created"),
        talk("conversation.updated"),
        talk("conversation.closed"),
        session("session.closed"),
    ]
}

/// What follows a member's name up to the brace that closes the push.
fn payload(body: &'static str, name: &str) -> &'static str {
    let after = body.split_once(name).map_or("{}}", |(_, after)| after);
    after.strip_suffix('}').unwrap_or(after)
}
