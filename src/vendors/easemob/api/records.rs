//! Easemob KeFu's records, with the wire's own spellings (`nicename`, `transfered`, `summarys`) and zone-less Beijing
//! times.

use crate::vendors::record::record;

record! {
    /// An agent (坐席).
    Agent {
        /// The tenant.
        tenant_id: text "tenantId";
        /// The agent's id.
        user_id: text "userId";
        /// `Agent`, …
        user_type: text "userType";
        /// `Tenant`, …
        user_scope: text "userScope";
        /// Nickname.
        nicename: text "nicename";
        /// Mail address: what calls name the agent by.
        username: text "username";
        /// Roles, separated by commas.
        roles: text "roles";
        /// When the account was made.
        created: moment "createDateTime" | "createDatetime";
        /// When it last changed.
        updated: moment "lastUpdateDateTime" | "lastUpdateDatetime";
        /// `Enable` or `Disable`.
        status: text "status";
        /// Whether they are online.
        state: text "state";
        /// Conversations they take at a time; a text or a number on the wire.
        max_service_session_count: whole "maxServiceSessionCount";
        /// Real name.
        true_name: text "trueName";
        /// Phone: a text, or leading zeros would go.
        mobile_phone: text "mobilePhone";
        /// Staff number: a text, or leading zeros would go.
        agent_number: text "agentNumber";
        /// `Message`, …
        agent_type: text "agentType";
        /// Language.
        language: text "language";
        /// Zone, such as `UTC+8`.
        time_zone: text "timeZone";
        /// Roles as `{role_id, role_name}`.
        role_list: list "roleList";
        /// Scope.
        scope: text "scope";
        /// The business they belong to.
        biz_id: text "bizId";
        /// Whether they are online.
        on_line_state: text "onLineState";
        /// Whether they are online now.
        current_on_line_state: text "currentOnLineState";
        /// Always empty; read so that it is not taken for something unknown.
        password: text "password";
    }
}

record! {
    /// A role (角色).
    Role {
        /// Its id.
        role_id: text "role_id";
        /// Its name.
        role_name: text "role_name";
        /// What it is for.
        role_description: text "role_description";
        /// `SYSTEM` or `CUSTOMIZED`.
        role_type: text "role_type";
        /// When it was made; system roles have no time. Written `+0800`, without a colon.
        created_at: moment "created_at";
        /// When it last changed.
        updated_at: moment "updated_at";
        /// `ENABLE`, …
        status: text "status";
    }
}

record! {
    /// A session that is over (历史会话). It holds no messages.
    Session {
        /// Its id; equal to the webhook's `payload.serviceSession.id`.
        service_session_id: text "serviceSessionId";
        /// The tenant.
        tenant_id: text "tenantId";
        /// The channel it came by.
        tech_channel_id: text "techChannelId";
        /// The agents' queue.
        queue_id: text "queueId";
        /// `Terminal` or `Abort`.
        state: text "state";
        /// The visitor's group: an integer beyond 2^53, so a text here.
        chat_group_id: text "chatGroupId";
        /// The last message's number.
        message_seq_id: text "messageSeqId";
        /// The agent's id.
        agent_user_id: text "agentUserId";
        /// The agent's nickname.
        agent_user_nice_name: text "agentUserNiceName";
        /// The agent's real name.
        agent_user_true_name: text "agentUserTrueName";
        /// Kind of agent; a text or a number on the wire.
        agent_user_type: text "agentUserType";
        /// When it was made.
        created: moment "createDatetime" | "createDateTime";
        /// When an agent took it.
        started: moment "startDateTime" | "startDatetime";
        /// When the agent last wrote.
        agent_last_message: moment "agentLastMessageDate";
        /// When it ended.
        stopped: moment "stopDateTime" | "stopDatetime";
        /// Kind of channel.
        tech_channel_type: text "techChannelType";
        /// Its name.
        tech_channel_name: text "techChannelName";
        /// Tags: a list of lists of `{id, name, color, parentId}`.
        summarys: list "summarys";
        /// The customer's mark, 0 to 5.
        enquiry_summary: whole "enquirySummary";
        /// What they wrote with it.
        enquiry_detail: text "enquiryDetail";
        /// `webim`, `app`, `weixin`, `weibo`, `phone`; a text or a list on the wire.
        origin_type: texts "originType";
        /// The agent's note.
        comment: text "comment";
        /// The visitor: `{userId, nicename, username}`.
        visitor_user: object "visitorUser";
        /// The customer: `{customerId, customerNiceName, customerTrueName}`.
        customer: object "customer";
        /// Details of messages; null wherever it was seen.
        message_detail: value "messageDetail";
        /// A call's recording.
        record_file_url: text "recordFileUrl";
        /// Whether an agent called back.
        from_agent_callback: flag "fromAgentCallback";
        /// Whether it was handed over.
        transfered: flag "transfered";
        /// The visitor's tags.
        visitor_user_tags: value "visitorUserTags";
        /// Tags of the mark.
        enquiry_tags: value "enquiryTags";
        /// Messages; null wherever it was seen.
        chat_messages: value "chatMessages";
        /// The last message; null wherever it was seen.
        last_chat_message: value "lastChatMessage";
        /// Agents who took part: `{userId, username, nicename, trueName, tenantId}`.
        agent_user_set: list "agentUserSet";
        /// Queues it was in.
        agent_queue_set: value "agentQueueSet";
        /// Names of the mark's tags.
        enquiry_tag_names: value "enquiryTagNames";
        /// The summary.
        summarys_detail: text "summarysDetail";
    }
}

#[cfg(test)]
mod tests {
    use super::{Agent, Role, Session};
    use crate::vendors::{record::Record, times::BEIJING};

    #[test]
    fn the_vendors_session_sample_is_read_whole_and_its_large_id_exactly() {
        let raw = r#"{"serviceSessionId":"29b04e8e-4e79-4eeb-a24a-bad04b9669d4","tenantId":1,"techChannelId":1,"queueId":null,
            "state":"Abort","chatGroupId":1493629159358939434,"messageSeqId":1,"agentUserId":null,"agentUserNiceName":null,
            "agentUserTrueName":null,"agentUserType":1,"createDatetime":"2018-04-19 15:00:59","startDateTime":null,
            "agentLastMessageDate":null,"stopDateTime":"2018-04-19 15:00:59","techChannelType":"easemob",
            "summarys":[[{"id":123,"name":"test summary name","color":1,"parentId":0}]],"enquirySummary":"1",
            "enquiryDetail":"enquiry detail","techChannelName":"优信测试","originType":["webim"],"comment":"comment",
            "visitorUser":{"userId":"e11668c4","nicename":"n","username":"u"},
            "customer":{"customerId":"a56a735c","customerNiceName":"n","customerTrueName":null},"messageDetail":null,
            "recordFileUrl":null,"fromAgentCallback":false,"transfered":false,"visitorUserTags":null,"enquiryTags":null,
            "chatMessages":null,"lastChatMessage":null,"agentUserSet":[{"userId":"425b496b","username":null,"nicename":"t",
            "trueName":"t","tenantId":"1"}],"agentQueueSet":null,"enquiryTagNames":null,"summarysDetail":"s"}"#;
        let record = Record::<Session>::parse(raw, BEIJING).unwrap();
        let session = record.typed;
        assert!(session.rest.is_empty(), "{:?}", session.rest);
        assert_eq!(session.chat_group_id.as_deref(), Some("1493629159358939434"));
        assert_eq!(session.stopped.unwrap().instant.to_string(), "2018-04-19T07:00:59.000Z");
        assert_eq!((session.enquiry_summary, session.agent_user_type.as_deref()), (Some(1), Some("1")));
        assert_eq!(session.origin_type, Some(vec!["webim".to_owned()]));
        assert_eq!(&record.raw[..], raw.as_bytes());
    }

    #[test]
    fn both_agent_samples_are_read_whole() {
        let listed = r#"{"tenantId":1,"userId":"43efaf15","userType":"Agent","userScope":"Tenant","password":"",
            "username":"a@example.com","roles":"admin,agent","createDateTime":"2018-06-10 14:19:41",
            "lastUpdateDateTime":"2018-06-10 16:44:47","status":"Enable","state":"Offline","maxServiceSessionCount":10,
            "trueName":"","mobilePhone":"","agentType":"Message","roleList":[{"role_id":1,"role_name":"admin"}],
            "scope":"Tenant","bizId":"1","onLineState":"Offline","currentOnLineState":"Offline"}"#;
        let agent = Record::<Agent>::parse(listed, BEIJING).unwrap().typed;
        assert!(agent.rest.is_empty(), "{:?}", agent.rest);
        assert_eq!(agent.max_service_session_count, Some(10));
        let made = r#"{"nicename":"123","language":"zh_CN","timeZone":"UTC+8","maxServiceSessionCount":"10","agentNumber":"007"}"#;
        let agent = Record::<Agent>::parse(made, BEIJING).unwrap().typed;
        assert!(agent.rest.is_empty());
        assert_eq!((agent.max_service_session_count, agent.agent_number.as_deref()), (Some(10), Some("007")));
    }

    #[test]
    fn a_roles_time_has_a_zone_without_a_colon() {
        let raw = r#"{"role_id":3,"role_name":"123","role_description":null,"role_type":"CUSTOMIZED",
            "created_at":"2018-03-23T16:02:02.000+0800","updated_at":null,"status":"ENABLE"}"#;
        let role = Record::<Role>::parse(raw, BEIJING).unwrap().typed;
        assert!(role.rest.is_empty());
        assert_eq!(role.created_at.unwrap().instant.to_string(), "2018-03-23T08:02:02.000Z");
    }
}
