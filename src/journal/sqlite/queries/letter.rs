//! How a dead letter is named from outside, and what may be asked of its event.
//!
//! A dead letter's id is its place: `dl_` and base64url of `lane|partition|row|route`.

use crate::{
    domain::{Event, Offset, Partition, RouteName},
    journal::{
        LaneName,
        sqlite::state_rows::{lane_name, lane_text},
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The id of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterId {
    /// Whose shelf.
    pub lane: LaneName,
    /// The ROUTED row.
    pub row: Offset,
    /// The route.
    pub route: Option<RouteName>,
}

impl DeadLetterId {
    /// As it is shown.
    #[must_use]
    pub fn text(&self) -> String {
        let route = self.route.as_ref().map(RouteName::as_str).unwrap_or_default();
        let place = format!("{}|{}|{}|{route}", lane_text(&self.lane), Partition(0).0, self.row);
        format!("dl_{}", BASE64_URL_SAFE_NO_PAD.encode(place))
    }

    /// Reads what [`DeadLetterId::text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix("dl_")?).ok()?;
        let place = String::from_utf8(bytes).ok()?;
        let mut parts = place.split('|');
        let (lane, partition, row, route) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || partition != "0" {
            return None;
        }
        let route = if route.is_empty() { None } else { Some(RouteName::parse(route).ok()?) };
        Some(Self { lane: lane_name(lane)?, row: row.parse().ok()?, route })
    }
}

/// What an event must be; what is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventWords {
    /// From this source.
    pub source: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this type.
    pub kind: Option<String>,
    /// About this.
    pub key: Option<String>,
}

impl EventWords {
    /// Whether an event is so; one that cannot be read has no words.
    #[must_use]
    pub fn matches(&self, event: Option<&Event>) -> bool {
        let fits = |wanted: &Option<String>, is: fn(&Event) -> Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| event.and_then(is) == Some(wanted))
        };
        fits(&self.source, |event| Some(event.source.as_str()))
            && fits(&self.tenant, |event| Some(event.tenant.as_str()))
            && fits(&self.kind, |event| Some(&event.kind))
            && fits(&self.key, |event| event.key.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::DeadLetterId;
    use crate::{
        domain::{DestinationName, RouteName},
        journal::LaneName,
    };

    #[test]
    fn an_id_names_its_place_and_nothing_else_is_one() {
        let crm = LaneName::Destination(DestinationName::parse("crm.events-2").unwrap());
        for (lane, route) in [(crm, Some("a.b")), (LaneName::Morgue, None)] {
            let id = DeadLetterId { lane, row: u64::MAX, route: route.map(|route| RouteName::parse(route).unwrap()) };
            assert_eq!(DeadLetterId::parse(&id.text()), Some(id));
        }
        for bad in ["", "dl_", "evt_1", "dl_bW9yZ3Vl", "dl_bW9yZ3VlfDF8MXw", "dl_%2e"] {
            assert_eq!(DeadLetterId::parse(bad), None, "{bad}");
        }
    }
}
