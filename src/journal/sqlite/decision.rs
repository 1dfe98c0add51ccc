//! How a decision lies in ROUTED's `targets`, and the enrichment beside it.
//!
//! `targets` holds names only, so that a lane sees at a glance whether a row is its own.

use crate::{
    domain::{
        DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, EnrichmentStatus, Parts, Record, RouteName,
        Target, Timestamp,
    },
    journal::{
        Wanted,
        sqlite::pack::{Packer, Unpacker},
    },
};
use std::sync::Arc;

const DISCARDED: u8 = 1;
const SUPERSEDED: u8 = 2;
/// Behind the dead routes there is a byte for each target: what of the enrichment it carries.
const ENRICHED: u8 = 4;

/// Packs a decision.
pub fn pack(packer: &mut Packer, decision: &Decision) {
    let enriched = decision.targets.iter().any(|target| target.parts != Parts::default());
    let flags = [(decision.discarded, DISCARDED), (decision.superseded, SUPERSEDED), (enriched, ENRICHED)];
    packer.0.push(flags.iter().fold(0, |byte, (set, flag)| byte | (u8::from(*set) * flag)));
    packer.put_number(decision.targets.len() as u64);
    packer.put_number(decision.dead.len() as u64);
    for target in &decision.targets {
        packer.put_bytes(target.destination.as_str().as_bytes());
        packer.put_bytes(target.route.as_str().as_bytes());
        packer.put_text_or_none(target.address.as_deref());
    }
    for dead in &decision.dead {
        packer.put_text_or_none(dead.route.as_ref().map(RouteName::as_str));
        packer.0.push(cause_code(dead.cause));
        packer.put_bytes(dead.detail.as_bytes());
    }
    if enriched {
        packer.0.extend(decision.targets.iter().map(|target| target.parts.0));
    }
}

/// Reads what [`pack`] wrote.
pub fn unpack(bytes: &[u8]) -> Option<Decision> {
    let mut unpacker = Unpacker(bytes);
    let flags = unpacker.take_byte()?;
    let (targets, dead) = (unpacker.take_count()?, unpacker.take_count()?);
    let mut decision = Decision {
        targets: Vec::with_capacity(targets),
        dead: Vec::with_capacity(dead),
        discarded: flags & DISCARDED != 0,
        superseded: flags & SUPERSEDED != 0,
    };
    for _ in 0..targets {
        decision.targets.push(Target {
            destination: DestinationName::parse(unpacker.take_text()?).ok()?,
            route: RouteName::parse(unpacker.take_text()?).ok()?,
            address: unpacker.take_text_or_none()?.map(Into::into),
            parts: Parts::default(),
        });
    }
    for _ in 0..dead {
        decision.dead.push(DeadRoute {
            route: unpacker.take_text_or_none()?.map(RouteName::parse).transpose().ok()?,
            cause: cause(unpacker.take_byte()?)?,
            detail: unpacker.take_text()?.into(),
        });
    }
    if flags & ENRICHED != 0 {
        for target in &mut decision.targets {
            target.parts = Parts(unpacker.take_byte()?);
        }
    }
    unpacker.0.is_empty().then_some(decision)
}

/// Whether a packed decision concerns a reader, without building it. `None` for damaged bytes.
pub fn concerns(bytes: &[u8], wanted: &Wanted) -> Option<bool> {
    let mut unpacker = Unpacker(bytes);
    unpacker.take_byte()?;
    let (targets, dead) = (unpacker.take_count()?, unpacker.take_count()?);
    match wanted {
        Wanted::All => Some(true),
        Wanted::Dead => Some(dead > 0),
        Wanted::Destination(name) => {
            for _ in 0..targets {
                if unpacker.take_bytes()? == name.as_str().as_bytes() {
                    return Some(true);
                }
                unpacker.take_bytes()?;
                unpacker.take_text_or_none()?;
            }
            Some(false)
        }
    }
}

/// Packs what enriched an event; `reference` names where a record is stored.
///
/// # Errors
/// Those of `reference`.
pub fn pack_enrichment<E>(
    packer: &mut Packer,
    parts: &[EnrichmentPart],
    mut reference: impl FnMut(&Record) -> Result<i64, E>,
) -> Result<(), E> {
    packer.put_number(parts.len() as u64);
    for part in parts {
        packer.put_bytes(part.what.as_bytes());
        packer.0.push(status_code(part.status));
        packer.put_text_or_none(part.reason.as_deref());
        packer.0.push(u8::from(part.fetched_at.is_some()));
        if let Some(at) = part.fetched_at {
            packer.put_signed(at.as_millis());
        }
        let place = part.record.as_ref().map(|record| reference(record)).transpose()?;
        packer.put_signed(place.unwrap_or(0));
    }
    Ok(())
}

/// Reads what [`pack_enrichment`] wrote; `record` finds a stored record, or says what is wrong with it.
///
/// # Errors
/// What is wrong, in words.
pub fn unpack_enrichment(
    bytes: &[u8],
    record: impl FnMut(i64) -> Result<Arc<Record>, String>,
) -> Result<Vec<EnrichmentPart>, String> {
    // Most rows are not enriched.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut unpacker = Unpacker(bytes);
    let parts = raw_parts(&mut unpacker).ok_or("its enrichment cannot be read")?;
    let mut record = record;
    let whole = |(mut part, place): (EnrichmentPart, i64)| {
        part.record = if place == 0 { None } else { Some(record(place)?) };
        Ok(part)
    };
    parts.into_iter().map(whole).collect()
}

/// Where the records lie that packed enrichment refers to. `None` for damage.
pub fn records(bytes: &[u8]) -> Option<Vec<i64>> {
    let parts = raw_parts(&mut Unpacker(bytes))?;
    Some(parts.into_iter().map(|(_, place)| place).filter(|place| *place != 0).collect())
}

fn raw_parts(unpacker: &mut Unpacker<'_>) -> Option<Vec<(EnrichmentPart, i64)>> {
    let count = unpacker.take_count()?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let what = unpacker.take_text()?.into();
        let status = status(unpacker.take_byte()?)?;
        let reason = unpacker.take_text_or_none()?.map(Into::into);
        let fetched = unpacker.take_byte()? != 0;
        let fetched_at = if fetched { Some(Timestamp::from_millis(unpacker.take_signed()?)) } else { None };
        let place = unpacker.take_signed()?;
        parts.push((EnrichmentPart { what, status, reason, fetched_at, record: None }, place));
    }
    Some(parts)
}

/// The number that stands for a cause in the store. Never given to another one.
pub const fn cause_code(cause: DeadCause) -> u8 {
    match cause {
        DeadCause::Unroutable => 1,
        DeadCause::Unparsable => 2,
        DeadCause::Condition => 3,
        DeadCause::Template => 4,
        DeadCause::EnrichmentRequired => 5,
        DeadCause::TooLarge => 6,
        DeadCause::Rejected => 7,
        DeadCause::Expired => 8,
        DeadCause::Damaged => 9,
        DeadCause::Poison => 10,
    }
}

/// Reads what [`cause_code`] wrote.
pub fn cause(code: u8) -> Option<DeadCause> {
    DeadCause::ALL.into_iter().find(|cause| cause_code(*cause) == code)
}

const STATUSES: [EnrichmentStatus; 4] =
    [EnrichmentStatus::Ok, EnrichmentStatus::Failed, EnrichmentStatus::NotApplicable, EnrichmentStatus::Missing];

const fn status_code(status: EnrichmentStatus) -> u8 {
    match status {
        EnrichmentStatus::Ok => 1,
        EnrichmentStatus::Failed => 2,
        EnrichmentStatus::NotApplicable => 3,
        EnrichmentStatus::Missing => 4,
    }
}

fn status(code: u8) -> Option<EnrichmentStatus> {
    STATUSES.into_iter().find(|status| status_code(*status) == code)
}

#[cfg(test)]
mod tests {
    use super::{concerns, pack, pack_enrichment, records, unpack, unpack_enrichment};
    use crate::{
        domain::{
            DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, EnrichmentStatus, Parts, Record,
            RouteName, Target, Timestamp,
        },
        journal::{Wanted, sqlite::pack::Packer},
    };
    use std::sync::Arc;

    fn decision() -> Decision {
        let target = |route: &str, destination: &str, address: Option<&str>| Target {
            route: RouteName::parse(route).unwrap(),
            destination: DestinationName::parse(destination).unwrap(),
            address: address.map(Into::into),
            parts: Default::default(),
        };
        Decision {
            targets: vec![target("leads", "crm", Some("customer.wx")), target("everything", "lake", None)],
            dead: vec![DeadRoute { route: None, cause: DeadCause::Poison, detail: "died twice".into() }],
            discarded: false,
            superseded: true,
        }
    }

    #[test]
    fn a_decision_is_read_as_it_was_packed_and_seen_through() {
        let mut packer = Packer::default();
        pack(&mut packer, &decision());
        assert_eq!(unpack(&packer.0), Some(decision()));
        for name in ["crm", "lake", "lak", "leads", "customer.wx"] {
            let wanted = Wanted::Destination(DestinationName::parse(name).unwrap());
            assert_eq!(concerns(&packer.0, &wanted), Some(wanted.matches(&decision())), "{name}");
        }
        assert_eq!(concerns(&packer.0, &Wanted::Dead), Some(true));
        for end in 0..packer.0.len() {
            assert_eq!(unpack(&packer.0[..end]), None, "{end}");
        }
    }

    #[test]
    fn what_each_target_carries_is_packed_behind_the_rest() {
        let mut decision = decision();
        if let Some(target) = decision.targets.last_mut() {
            target.parts = Parts(0b101);
        }
        let mut packer = Packer::default();
        pack(&mut packer, &decision);
        assert_eq!(unpack(&packer.0), Some(decision.clone()));
        let wanted = Wanted::Destination(DestinationName::parse("lake").unwrap());
        assert_eq!(concerns(&packer.0, &wanted), Some(true));
        for end in 0..packer.0.len() {
            assert_eq!(unpack(&packer.0[..end]), None, "{end}");
        }
    }

    #[test]
    fn enrichment_refers_to_its_records() {
        let record = Arc::new(Record { bytes: "{}".into(), hash: 5 });
        let part = |record: Option<&Arc<Record>>| EnrichmentPart {
            what: "client".into(),
            status: if record.is_some() { EnrichmentStatus::Ok } else { EnrichmentStatus::Failed },
            reason: record.is_none().then(|| "timeout".into()),
            fetched_at: record.map(|_| Timestamp::from_millis(1_726_824_222_989)),
            record: record.cloned(),
        };
        let parts = vec![part(Some(&record)), part(None)];
        let mut packer = Packer::default();
        pack_enrichment(&mut packer, &parts, |record| Ok::<_, String>(i64::try_from(record.hash).unwrap())).unwrap();
        assert_eq!(records(&packer.0), Some(vec![5]));
        assert_eq!(records(&packer.0[..packer.0.len() - 1]), None);
        let found = unpack_enrichment(&packer.0, |place| if place == 5 { Ok(record.clone()) } else { Err("".into()) });
        assert_eq!(found, Ok(parts));
    }
}
