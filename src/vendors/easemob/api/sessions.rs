//! Session history: every filter, and a pull over its pages, which begin at 1.

use super::{
    Api, envelope,
    error::{ApiError, Intent, Stopped, Trap, classify},
    records::Session,
};
use crate::{
    domain::Timestamp,
    vendors::{
        action::Action,
        http,
        record::{Batch, Record},
    },
};
use futures_util::stream::{self, Stream, TryStreamExt};

/// The most a page may hold.
pub const PER_PAGE_MAX: u32 = 50;

/// What is asked for: below the bound by either reading of "less than 50".
pub const PER_PAGE_DEFAULT: u32 = 40;

/// After "page size must be less than 50".
const PER_PAGE_FALLBACK: u32 = 49;

/// The most pages of one pull.
const PAGES_MAX: u32 = 10_000;

/// A span of time, open where an end is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Until this time.
    pub to: Option<Timestamp>,
}

/// `sortField`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortField {
    /// `stopDateTime`
    #[default]
    Stopped,
    /// `startDateTime`
    Started,
    /// `createDatetime`
    Created,
}

/// `sortOrder`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortOrder {
    /// Oldest first: pages that were read do not move when new sessions end.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// Which sessions; what is empty does not filter. Lists are joined by commas: the vendor does not say how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFilter {
    /// `originType`: `webim`, `app`, `weixin`, `weibo`, `phone`.
    pub origin_type: Option<String>,
    /// `customerName`
    pub customer_name: Option<String>,
    /// `transfered`
    pub transfered: Option<bool>,
    /// `fromAgentCallback`: an agent called, not the customer.
    pub from_agent_callback: Option<bool>,
    /// `enquirySummary`: 0 to 5.
    pub enquiry_summary: Option<u8>,
    /// `queueIds`
    pub queue_ids: Vec<String>,
    /// `agentIds`
    pub agent_ids: Vec<String>,
    /// `beginDate`, `endDate`: when an agent took it.
    pub taken: Span,
    /// `stopDateFrom`, `stopDateTo`
    pub stopped: Span,
    /// `createDateFrom`, `createDateTo`
    pub created: Span,
    /// `sortField`
    pub sort_field: SortField,
    /// `sortOrder`
    pub sort_order: SortOrder,
    /// `state`: `Terminal`, `Abort`. In the vendor's sample, not in its table; so are all that follow.
    pub states: Vec<String>,
    /// `isAgent`
    pub is_agent: Option<bool>,
    /// `techChannelId`
    pub tech_channel_id: Option<String>,
    /// `techChannelType`
    pub tech_channel_type: Option<String>,
    /// `enquiryTagIds`
    pub enquiry_tag_ids: Vec<String>,
    /// `orderType`
    pub order_type: Option<String>,
    /// `summaryIds`
    pub summary_ids: Vec<String>,
    /// `queueId`
    pub queue_id: Option<String>,
    /// `agentUserId`
    pub agent_user_id: Option<String>,
}

impl SessionFilter {
    /// The query's parameters, without the page.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let list = |items: &[String]| (!items.is_empty()).then(|| items.join(","));
        let flag = |flag: Option<bool>| flag.map(|flag| flag.to_string());
        // RFC 3339 in UTC with milliseconds is the very notation of the vendor's table.
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let field = match self.sort_field {
            SortField::Stopped => "stopDateTime",
            SortField::Started => "startDateTime",
            SortField::Created => "createDatetime",
        };
        let order = match self.sort_order {
            SortOrder::Ascending => "asc",
            SortOrder::Descending => "desc",
        };
        [
            ("originType", self.origin_type.clone()),
            ("customerName", self.customer_name.clone()),
            ("transfered", flag(self.transfered)),
            ("fromAgentCallback", flag(self.from_agent_callback)),
            ("enquirySummary", self.enquiry_summary.map(|mark| mark.to_string())),
            ("queueIds", list(&self.queue_ids)),
            ("agentIds", list(&self.agent_ids)),
            ("beginDate", time(self.taken.from)),
            ("endDate", time(self.taken.to)),
            ("stopDateFrom", time(self.stopped.from)),
            ("stopDateTo", time(self.stopped.to)),
            ("createDateFrom", time(self.created.from)),
            ("createDateTo", time(self.created.to)),
            ("sortField", Some(field.to_owned())),
            ("sortOrder", Some(order.to_owned())),
            ("state", list(&self.states)),
            ("isAgent", flag(self.is_agent)),
            ("techChannelId", self.tech_channel_id.clone()),
            ("techChannelType", self.tech_channel_type.clone()),
            ("enquiryTagIds", list(&self.enquiry_tag_ids)),
            ("orderType", self.order_type.clone()),
            ("summaryIds", list(&self.summary_ids)),
            ("queueId", self.queue_id.clone()),
            ("agentUserId", self.agent_user_id.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// One page of sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionPage {
    /// Its records.
    pub records: Vec<Record<Session>>,
    /// How many more it has that are no JSON objects.
    pub unreadable: usize,
    /// `total_entries`: how many there are in all.
    pub total: Option<u64>,
}

impl SessionPage {
    /// What it has, read and unreadable.
    #[must_use]
    pub fn into_batch(self) -> Batch<Session> {
        Batch { records: self.records, unreadable: self.unreadable }
    }
}

/// A pull over session history. Nothing is asked for that nobody waits for.
#[derive(Debug)]
pub struct SessionPull {
    api: Api,
    filter: SessionFilter,
    page: u32,
    per_page: u32,
    seen: u64,
    last_first: Option<String>,
    done: bool,
}

impl SessionPull {
    pub(super) fn new(api: Api, filter: SessionFilter, per_page: u32) -> Self {
        let per_page = per_page.clamp(1, PER_PAGE_MAX);
        Self { api, filter, page: 1, per_page, seen: 0, last_first: None, done: false }
    }

    /// Whether every page was read.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.done
    }

    /// Makes one call for the next page; nothing when there are no more.
    ///
    /// # Errors
    /// [`Stopped`]; the same page is asked for by the next call, or, after [`Action::ShrinkPage`], the first one in
    /// its smaller size: records may come again.
    ///
    /// # Cancel safety
    /// A dropped call leaves the pull where it was.
    pub async fn next_page(&mut self) -> Result<Option<SessionPage>, Stopped> {
        if self.done {
            return Ok(None);
        }
        let outcome = self.api.sessions_page(&self.filter, self.page, self.per_page).await;
        let outcome = outcome.and_then(|page| {
            self.took(&page).map_err(ApiError::Paging)?;
            Ok(page)
        });
        match outcome {
            Ok(page) => Ok(Some(page)),
            Err(source) => Err(Stopped { list: "session history", action: self.failed(&source), source }),
        }
    }

    /// The records one by one; makes pages smaller by itself, ends at any other error.
    pub fn records(self) -> impl Stream<Item = Result<Record<Session>, Stopped>> + Send {
        let pages = stream::try_unfold(self, |mut pull| async move {
            loop {
                match pull.next_page().await {
                    Ok(page) => return Ok(page.map(|page| (page, pull))),
                    Err(Stopped { action: Action::ShrinkPage, .. }) => {}
                    Err(stopped) => return Err(stopped),
                }
            }
        });
        pages.map_ok(|page: SessionPage| stream::iter(page.records.into_iter().map(Ok))).try_flatten()
    }

    fn took(&mut self, page: &SessionPage) -> Result<(), Trap> {
        let count = page.records.len() + page.unreadable;
        let first = page.records.first().and_then(|record| record.typed.service_session_id.clone());
        if first.is_some() && first == self.last_first {
            return Err(Trap::PageRepeated);
        }
        self.seen += count as u64;
        let short = u32::try_from(count).unwrap_or(u32::MAX) < self.per_page;
        let all = page.total.is_none_or(|total| self.seen >= total);
        if count == 0 || (short && all) {
            self.done = true;
            return Ok(());
        }
        if self.page >= PAGES_MAX {
            return Err(Trap::TooManyPages);
        }
        // A short first page of a long list: the vendor has cut `per_page` without a word, and counts by its own.
        if short && self.page == 1 {
            self.per_page = u32::try_from(count).unwrap_or(self.per_page);
        }
        self.last_first = first;
        self.page += 1;
        Ok(())
    }

    fn failed(&mut self, error: &ApiError) -> Action {
        if matches!(error, ApiError::Http(http::Error::TooLarge)) && self.per_page > 1 {
            return self.shrink_to(self.per_page / 2);
        }
        match classify(error, Intent::Read) {
            Action::ShrinkPage if self.per_page > PER_PAGE_FALLBACK => self.shrink_to(PER_PAGE_FALLBACK),
            Action::ShrinkPage => Action::GiveUp,
            other => other,
        }
    }

    /// Begins again at the first page, with smaller ones.
    fn shrink_to(&mut self, per_page: u32) -> Action {
        self.per_page = per_page;
        (self.page, self.seen, self.last_first) = (1, 0, None);
        Action::ShrinkPage
    }
}

impl Api {
    /// Pulls session history. `per_page` is 1 to [`PER_PAGE_MAX`]; [`PER_PAGE_DEFAULT`] is safe.
    #[must_use]
    pub fn sessions(&self, filter: SessionFilter, per_page: u32) -> SessionPull {
        SessionPull::new(self.clone(), filter, per_page)
    }

    /// One page of session history; pages begin at 1. [`SessionPull`] is the safer way.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn sessions_page(
        &self,
        filter: &SessionFilter,
        page: u32,
        per_page: u32,
    ) -> Result<SessionPage, ApiError> {
        let mut parameters = vec![("page", page.to_string()), ("per_page", per_page.to_string())];
        parameters.extend(filter.parameters());
        let query: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = self.read(&["serviceSessionHistorys"], &query).await?;
        let envelope = self.open(&answer)?;
        let members = envelope::members(envelope.entity()?)?;
        let items = envelope::items(members.get("items").copied().ok_or(ApiError::Shape("items"))?)?;
        let Batch { records, unreadable } = self.batch(items);
        let total = members.get("total_entries").and_then(|total| total.get().trim_matches('"').parse().ok());
        Ok(SessionPage { records, unreadable, total })
    }
}

#[cfg(test)]
mod tests {
    use super::{SessionFilter, SortField, SortOrder, Span};
    use crate::domain::Timestamp;

    #[test]
    fn an_empty_filter_only_sorts() {
        let parameters = SessionFilter::default().parameters();
        assert_eq!(parameters, [("sortField", "stopDateTime".to_owned()), ("sortOrder", "asc".to_owned())]);
    }

    #[test]
    fn every_parameter_of_the_vendors_table_and_sample_can_be_sent() {
        let text = |text: &str| Some(text.to_owned());
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let time = Timestamp::parse_rfc3339("2018-06-16T23:59:59.000Z");
        let span = Span { from: time, to: time };
        let filter = SessionFilter {
            origin_type: text("webim"),
            customer_name: text("王伟"),
            transfered: Some(true),
            from_agent_callback: Some(false),
            enquiry_summary: Some(5),
            queue_ids: list(&["1", "2"]),
            agent_ids: list(&["a", "b"]),
            taken: span,
            stopped: span,
            created: span,
            sort_field: SortField::Created,
            sort_order: SortOrder::Descending,
            states: list(&["Terminal", "Abort"]),
            is_agent: Some(false),
            tech_channel_id: text("1"),
            tech_channel_type: text("easemob"),
            enquiry_tag_ids: list(&["3"]),
            order_type: text("x"),
            summary_ids: list(&["4"]),
            queue_id: text("0"),
            agent_user_id: text("u"),
        };
        let parameters = filter.parameters();
        let of = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(of("beginDate"), Some("2018-06-16T23:59:59.000Z"));
        assert_eq!(of("state"), Some("Terminal,Abort"));
        assert_eq!(of("queueIds"), Some("1,2"));
        assert_eq!(of("sortField"), Some("createDatetime"));
        let names = [
            "originType",
            "customerName",
            "transfered",
            "fromAgentCallback",
            "enquirySummary",
            "queueIds",
            "beginDate",
            "endDate",
            "stopDateFrom",
            "stopDateTo",
            "createDateFrom",
            "createDateTo",
            "agentIds",
            "sortField",
            "sortOrder",
            "state",
            "isAgent",
            "techChannelId",
            "techChannelType",
            "enquiryTagIds",
            "orderType",
            "summaryIds",
            "queueId",
            "agentUserId",
        ];
        assert!(names.iter().all(|name| of(name).is_some()));
        assert_eq!(parameters.len(), names.len());
    }
}
