//! Laigu's records. Field names and types follow <https://laigu.com/docs/apis-v2-0> and what its API is seen to send.

use super::window::Window;
use crate::{
    domain::Timestamp,
    vendors::record::{FromFields, record},
};
use serde_json::Value;

record! {
    /// A conversation (对话). All fields are optional on the wire.
    Conversation {
        /// The vendor's number of the enterprise.
        enterprise_id: text "enterprise_id";
        /// The customer's id in the enterprise's own systems; often absent.
        dev_client_id: text "dev_client_id";
        /// Tags of the customer: names, most likely; no dictionary exists.
        visitor_tags: list "visitor_tags";
        /// The vendor's id of the customer. (The vendor's page describes it as the enterprise's own.)
        client_id: text "client_id";
        /// The customer's details; see [`Conversation::track_id`].
        client_info: object "client_info";
        /// The agent's mail address.
        agent_account: text "agent_account";
        /// The agent's name.
        agent_name: text "agent_name";
        /// The vendor's id of the agent; `agent_ID` here, `agent_id` in reports.
        agent_id: text "agent_ID" | "agent_id";
        /// The agent's nickname.
        agent_nick_name: text "agent_nick_name";
        /// The vendor's id of the agent's group.
        group_id: text "group_id";
        /// The group's name.
        group_name: text "group_name";
        /// The vendor's id of the conversation.
        conv_id: text "conv_id";
        /// Advertiser.
        advertiser_id: text "advertiser_id";
        /// Advertiser's name.
        advertiser_name: text "advertiser_name";
        /// Campaign.
        campaign_id: text "campaign_id";
        /// Campaign's name.
        campaign_name: text "campaign_name";
        /// Creative.
        creativity_id: text "creativity_id";
        /// Creative's name.
        creativity_name: text "creativity_name";
        /// When it began.
        conv_start_tm: moment "conv_start_tm";
        /// When it ended; absent while it is open.
        conv_end_tm: moment "conv_end_tm";
        /// Seconds until the first answer.
        conv_first_resp_wait_in_secs: number "conv_first_resp_wait_in_secs";
        /// The messages. They carry no id.
        conv_content: list "conv_content";
        /// Messages by the agent.
        conv_agent_msg_count: whole "conv_agent_msg_count";
        /// Messages by the customer.
        conv_visitor_msg_count: whole "conv_visitor_msg_count";
        /// Grade (gold, silver, bronze).
        conv_quality_grade: text "conv_quality_grade";
        /// Leads gathered; the vendor does not say in which form.
        conv_leads: value "conv_leads";
        /// Tags of the conversation; the vendor does not say in which form.
        conv_tags: value "conv_tags";
        /// The agent's summary.
        summary_content: text "summary_content";
        /// When the summary was last written.
        summary_update_at: moment "summary_update_at";
        /// Kind of the source of the visit.
        source_type: text "source_type";
        /// The source of the visit.
        source_field: text "source_field";
        /// The agent's mean time to answer.
        agent_resp_duration: number "agent_resp_duration";
        /// Whether it counts; the values are not documented.
        effective: text "effective";
        /// Whether it was missed; the values are not documented.
        missed: text "missed";
        /// How long it lasted.
        converse_duration: number "converse_duration";
        /// The app with the SDK.
        app_name: text "app_name";
        /// Channel.
        main_channel: text "main_channel";
        /// Channel within the channel.
        sub_channel: text "sub_channel";
    }
}

impl Conversation {
    /// The visitor it was held with: `client_info.track_id`, in older records `_m_track_id`.
    #[must_use]
    pub fn track_id(&self) -> Option<&str> {
        let info = self.client_info.as_ref()?;
        ["track_id", "_m_track_id"].iter().find_map(|name| info.get(*name)?.as_str()).filter(|id| !id.is_empty())
    }
}

record! {
    /// A customer (顾客): a visitor who left a phone number, a WeChat id or a QQ number.
    Client {
        /// Advertiser.
        advertiser_id: text "advertiser_id";
        /// Advertiser's name.
        advertiser_name: text "advertiser_name";
        /// Campaign.
        campaign_id: text "campaign_id";
        /// Campaign's name.
        campaign_name: text "campaign_name";
        /// Creative.
        creativity_id: text "creativity_id";
        /// Creative's name.
        creativity_name: text "creativity_name";
        /// Where they came from (`redbook`, `douyin`, …): an open set.
        source: text "source";
        /// The channel within it.
        sub_source: text "sub_source";
        /// Name.
        name: text "name";
        /// Age, as the vendor writes it.
        age: text "age";
        /// `F`, `M`, …: an open set.
        gender: text "gender";
        /// A URL, never fetched.
        avatar: text "avatar";
        /// QQ number. (Its name is missing in the vendor's table.)
        qq: text "qq";
        /// Phone number.
        tel: text "tel";
        /// WeChat id.
        weixin: text "weixin";
        /// Address.
        address: text "address";
        /// The agents' note.
        comment: text "comment";
        /// When the record was made.
        created_on: moment "created_on";
        /// When it last changed: the record's version.
        updated_on: moment "updated_on";
        /// The vendor's token of the enterprise; customers have it, visitors do not.
        enterprise_token: text "enterprise_token";
        /// The vendor's id of the customer: opaque.
        track_id: text "track_id";
        /// Ids of tags; no dictionary exists.
        tags: list "tags";
        /// Fields of the enterprise's own, under its own labels.
        custom: object "custom";
    }
}

impl Client {
    /// Whether the API can show them at all: only who left a way to be reached is a customer.
    #[must_use]
    pub const fn is_contactable(&self) -> bool {
        self.tel.is_some() || self.weixin.is_some() || self.qq.is_some()
    }
}

record! {
    /// One agent's hours (`agent_online_stats`). Durations are seconds.
    AgentOnline {
        /// The vendor's id of the agent.
        agent_id: text "agent_id" | "agent_ID";
        /// The agent's name.
        agent_name: text "agent_name";
        /// The vendor's id of the group.
        group_id: text "group_id";
        /// The group's name.
        group_name: text "group_name";
        /// Staff number.
        work_num: text "work_num";
        /// Online, but hidden.
        online_offduty: number "online_offduty";
        /// Online.
        online_onduty: number "online_onduty";
        /// With notifications on.
        pns_onduty: number "pns_onduty";
        /// With notifications off.
        pns_offduty: number "pns_offduty";
        /// Offline.
        offline: number "offline";
    }
}

record! {
    /// One agent's work (`agent_service`).
    AgentService {
        /// The vendor's id of the agent.
        agent_id: text "agent_id" | "agent_ID";
        /// The agent's name.
        agent_name: text "agent_name";
        /// The vendor's id of the group.
        group_id: text "group_id";
        /// The group's name.
        group_name: text "group_name";
        /// Staff number.
        work_num: text "work_num";
        /// Conversations.
        conv_cnt: whole "conv_cnt";
        /// Of them, those that count.
        effective_conv_cnt: whole "effective_conv_cnt";
        /// Missed.
        missed_conv_cnt: whole "missed_conv_cnt";
        /// Answered late.
        delayed_conv_cnt: whole "delayed_conv_cnt";
        /// Messages.
        msg_cnt: whole "msg_cnt";
        /// How long conversations lasted.
        duration_time: number "duration_time";
        /// How long conversations waited for the first answer.
        conv_first_response_wait_time: number "conv_first_response_wait_time";
        /// How long the agent took for the first answer.
        agent_first_response_wait_time: number "agent_first_response_wait_time";
        /// Mean time to answer.
        avg_response_wait_time: number "avg_response_wait_time";
        /// Graded gold.
        gold_conv_cnt: whole "gold_conv_cnt";
        /// Graded silver.
        silver_conv_cnt: whole "silver_conv_cnt";
        /// Graded bronze.
        bronze_conv_cnt: whole "bronze_conv_cnt";
        /// Not graded.
        nograde_conv_cnt: whole "nograde_conv_cnt";
        /// Rated good.
        good_conv_cnt: whole "good_conv_cnt";
        /// Rated fair.
        medium_conv_cnt: whole "medium_conv_cnt";
        /// Rated bad.
        bad_conv_cnt: whole "bad_conv_cnt";
        /// Leads.
        clues_cnt: whole "clues_cnt";
        /// Notes.
        remark_cnt: whole "remark_cnt";
        /// Taken over from others.
        transfer_in_cnt: whole "transfer_in_cnt";
        /// Handed to others.
        transfer_out_cnt: whole "transfer_out_cnt";
        /// Conversations with a lead.
        clue_conv_cnt: whole "clue_conv_cnt";
    }
}

/// What the paged lists need to know of a record.
pub trait Listed: FromFields + Send + Sync + 'static {
    /// What tells one record from another.
    fn key(&self) -> Option<&str>;
    /// The time by which [`Listed::key`]'s records replace each other.
    fn version(&self) -> Option<Timestamp>;
    /// Whether it ended, was made or changed within a window; one without that time counts as outside.
    fn is_within(&self, window: &Window) -> bool;
}

impl Listed for Conversation {
    fn key(&self) -> Option<&str> {
        self.conv_id.as_deref()
    }

    /// The later of the summary's time and the end: a conversation changes after it ended.
    fn version(&self) -> Option<Timestamp> {
        let times = [&self.summary_update_at, &self.conv_end_tm];
        times.into_iter().flatten().map(|moment| moment.instant).max()
    }

    fn is_within(&self, window: &Window) -> bool {
        self.conv_end_tm.as_ref().is_some_and(|end| window.holds(end.instant))
    }
}

impl Listed for Client {
    fn key(&self) -> Option<&str> {
        self.track_id.as_deref()
    }

    fn version(&self) -> Option<Timestamp> {
        self.updated_on.as_ref().map(|moment| moment.instant)
    }

    fn is_within(&self, window: &Window) -> bool {
        [&self.updated_on, &self.created_on].into_iter().flatten().any(|moment| window.holds(moment.instant))
    }
}

/// The text of a value that may be an id: a text or a number.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentOnline, AgentService, Client, Conversation, Listed};
    use crate::vendors::{record::Record, times::BEIJING};

    fn conversation(json: &str) -> Conversation {
        Record::parse(json, BEIJING).unwrap().typed
    }

    #[test]
    fn the_vendors_client_sample_is_read_whole() {
        let client: Client = Record::parse(
            r#"{"advertiser_name":"微亿璀璨(来鼓)1","advertiser_id":"111","campaign_name":"客资收集_计划2","campaign_id":"222",
            "creativity_name":"客资收集_计划3","creativity_id":"333","source":"redbook","sub_source":"62b1fcaf000000001b0260c1",
            "name":"小黄鸭","age":"18","gender":"F","avatar":"https://example.invalid/a.jpg","qq":"1234456","tel":"13877779999",
            "weixin":"fz123456","address":"四川省","comment":"备注","updated_on":"2024-09-20T09:23:42.989Z",
            "created_on":"2024-09-05T08:58:33Z","track_id":"2ldmFOXB7aDMXHSs7upv5PMZsa0","tags":[9,10,13,18,61,77],
            "custom":{"自定义字段1":["checkbox1","checkbox2"],"自定义字段2":"2024-09-20T09:23:12.916Z"},
            "enterprise_token":"b6bd473a003a99216d3f63cc329869b3"}"#,
            BEIJING,
        )
        .unwrap()
        .typed;
        assert!(client.rest.is_empty(), "{:?}", client.rest);
        assert!(client.is_contactable());
        assert_eq!(client.version().unwrap().to_string(), "2024-09-20T09:23:42.989Z");
        assert_eq!(client.key(), Some("2ldmFOXB7aDMXHSs7upv5PMZsa0"));
        assert_eq!(client.custom.unwrap().len(), 2);
    }

    #[test]
    fn every_field_of_the_vendors_conversation_table_has_a_place() {
        // Each field in the type the vendor's table gives it.
        let all = conversation(
            r#"{"enterprise_id":104,"dev_client_id":"d","visitor_tags":["t"],"client_id":5,"client_info":{"track_id":"x"},
            "agent_account":"a","agent_name":"n","agent_ID":"9","agent_nick_name":"k","group_id":"g","group_name":"组","conv_id":7,
            "advertiser_id":"1","advertiser_name":"2","campaign_id":"3","campaign_name":"4","creativity_id":"5","creativity_name":"6",
            "conv_start_tm":"2017-04-20 10:42:33.465659","conv_end_tm":"2017-04-20 10:52:33.465659","conv_first_resp_wait_in_secs":3,
            "conv_content":[],"conv_agent_msg_count":"2","conv_visitor_msg_count":"3","conv_quality_grade":"gold","conv_leads":"l",
            "conv_tags":"t","summary_content":"s","summary_update_at":"2017-04-20 11:00:00","source_type":"t","source_field":"f",
            "agent_resp_duration":"1.5","effective":"true","missed":"0","converse_duration":"600","app_name":"a","main_channel":"m",
            "sub_channel":"s"}"#,
        );
        assert!(all.rest.is_empty(), "{:?}", all.rest);
        assert_eq!(all.conv_agent_msg_count, Some(2));
        assert_eq!(all.agent_resp_duration.as_ref().and_then(serde_json::Number::as_f64), Some(1.5));
        assert_eq!(all.version().unwrap().to_string(), "2017-04-20T03:00:00.000Z");
    }

    #[test]
    fn a_conversations_visitor_has_two_spellings() {
        assert_eq!(conversation(r#"{"client_info":{"track_id":"a","_m_track_id":"b"}}"#).track_id(), Some("a"));
        assert_eq!(conversation(r#"{"client_info":{"_m_track_id":"b"}}"#).track_id(), Some("b"));
        assert_eq!(conversation(r#"{"client_info":{"track_id":""}}"#).track_id(), None);
        assert_eq!(conversation("{}").track_id(), None);
    }

    #[test]
    fn counters_come_as_numbers_too_and_an_open_conversation_has_no_version() {
        let open = conversation(r#"{"conv_id":"7","conv_agent_msg_count":4,"conv_end_tm":null,"agent_id":10004906}"#);
        assert_eq!((open.conv_agent_msg_count, open.version()), (Some(4), None));
        assert_eq!((open.key(), open.agent_id.as_deref()), (Some("7"), Some("10004906")));
    }

    #[test]
    fn both_report_samples_are_read_whole() {
        let online: AgentOnline = Record::parse(
            r#"{"agent_id":10004906,"agent_name":"超级管理员x","group_id":4372,"group_name":"默认分组","work_num":"",
            "online_offduty":0,"online_onduty":0,"pns_onduty":0,"pns_offduty":0,"offline":50400}"#,
            BEIJING,
        )
        .unwrap()
        .typed;
        assert!(online.rest.is_empty());
        assert_eq!(online.offline.and_then(|seconds| seconds.as_i64()), Some(50_400));
        let service: AgentService = Record::parse(
            r#"{"agent_id":10004906,"agent_name":"超级管理员x","group_id":4372,"group_name":"默认分组","work_num":"","conv_cnt":1,
            "effective_conv_cnt":0,"missed_conv_cnt":0,"delayed_conv_cnt":0,"msg_cnt":0,"duration_time":0,
            "conv_first_response_wait_time":0,"agent_first_response_wait_time":0,"avg_response_wait_time":0,"gold_conv_cnt":0,
            "silver_conv_cnt":0,"bronze_conv_cnt":0,"nograde_conv_cnt":0,"good_conv_cnt":0,"medium_conv_cnt":0,"bad_conv_cnt":0,
            "clues_cnt":0,"remark_cnt":0,"transfer_in_cnt":0,"transfer_out_cnt":0,"clue_conv_cnt":0}"#,
            BEIJING,
        )
        .unwrap()
        .typed;
        assert!(service.rest.is_empty(), "{:?}", service.rest);
        assert_eq!(service.conv_cnt, Some(1));
    }
}
