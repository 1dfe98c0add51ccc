//! The vendors' APIs as the process meets them: slow, wrong, behind, limited, refusing and dead; and the schedule that asks.

use crate::world::{Happening, World};
use fastrand::Rng;
use laigu_router::{
    config::settings::Rate,
    core::{
        enrich::{Effect, End, Found, Input, Reason, Target, Tenant, Trouble, Want, What, deadline},
        gate::Gate,
        router::{Input as RouterInput, Need},
    },
    domain::{EnrichmentPart, EnrichmentStatus, Event, Record, Timestamp},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Tenants: those of keys with an even number, and those with an odd one or none.
pub const TENANTS: usize = 2;
/// How long a call may take.
const CALL: Duration = Duration::from_millis(900);
/// Records a page.
const PAGE: usize = 3;
/// How far the API is behind what was pushed, at most.
const BEHIND: u64 = 60;

/// How one tenant's API is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Good,
    Slow,
    /// It never answers.
    Dead,
    /// Answers that cannot be used.
    Wrong,
    /// It shows what was true a while ago.
    Behind,
    Limits,
    Refuses,
    /// It has none of the records.
    Empty,
}

pub const MOODS: [Mood; 7] =
    [Mood::Slow, Mood::Dead, Mood::Wrong, Mood::Behind, Mood::Limits, Mood::Refuses, Mood::Empty];

/// The schedules of a partition's process.
pub struct Enriching {
    tenants: [(Tenant, Gate); TENANTS],
    asked: BTreeMap<u64, Asked>,
    /// For each want: its event, its part, and what was wanted.
    wants: BTreeMap<u64, (u64, usize, Want)>,
    next: u64,
    /// How many pages of each list were read.
    pages: BTreeMap<(usize, u64), usize>,
    out: BTreeMap<(usize, u64), Target>,
}

struct Asked {
    ticket: u64,
    parts: Vec<Option<EnrichmentPart>>,
}

impl Enriching {
    pub fn new() -> Self {
        let tenant = || (Tenant::default(), Gate::new(Rate { count: 200, per: Duration::from_secs(1) }));
        Self {
            tenants: [tenant(), tenant()],
            asked: BTreeMap::new(),
            wants: BTreeMap::new(),
            next: 0,
            pages: BTreeMap::new(),
            out: BTreeMap::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Other credentials, or the same: what was refused is tried again.
    pub fn configure(&mut self, other_credentials: bool) -> bool {
        let mut opened = false;
        for (_, gate) in &mut self.tenants {
            opened |= gate.is_closed() && other_credentials;
            gate.configure(Rate { count: 200, per: Duration::from_secs(1) }, other_credentials);
        }
        opened
    }
}

fn tenant_of(event: &Event) -> usize {
    let number =
        event.key.as_deref().and_then(|key| key.strip_prefix("key-")).and_then(|key| key.parse::<usize>().ok());
    number.map_or(1, |number| number % TENANTS)
}

impl World {
    fn enriching(&mut self, number: u16) -> Option<&mut Enriching> {
        let run = self.process.as_mut()?.partitions.get_mut(usize::from(number))?;
        Some(&mut run.enriching)
    }

    /// The router asks for an event's records.
    pub fn fetch(&mut self, number: u16, ticket: u64, event: &Event, needs: &[Need]) {
        let (now, tenant) = (self.now, tenant_of(event));
        let Some(enriching) = self.enriching(number) else { return };
        let asked = enriching.number();
        enriching.asked.insert(asked, Asked { ticket, parts: vec![None; needs.len()] });
        let mut wants = Vec::new();
        for (index, need) in needs.iter().enumerate() {
            let Some(key) = &event.key else {
                let Some(enriching) = self.enriching(number) else { return };
                if let Some(asked) = enriching.asked.get_mut(&asked) {
                    asked.parts[index] = Some(part(&need.what, EnrichmentStatus::NotApplicable, None));
                }
                continue;
            };
            let Some(enriching) = self.enriching(number) else { return };
            let want = Want {
                ticket: enriching.number(),
                what: What::parse(&need.what).expect("the simulator's own words"),
                id: key.clone(),
                at: event.received_at,
                version: Some(event.received_at),
                received_at: event.received_at,
                deadline: deadline(event.received_at, need.within, need.required, now),
            };
            enriching.wants.insert(want.ticket, (asked, index, want.clone()));
            wants.push(want);
        }
        self.answer(number, asked);
        for want in wants {
            self.enrich(number, tenant, Input::Want(want, 0));
        }
    }

    /// Tells the router, when the last part is there.
    fn answer(&mut self, number: u16, asked: u64) {
        let Some(enriching) = self.enriching(number) else { return };
        if enriching.asked.get(&asked).is_none_or(|asked| asked.parts.iter().any(Option::is_none)) {
            return;
        }
        let Some(Asked { ticket, parts }) = enriching.asked.remove(&asked) else { return };
        let parts = parts.into_iter().flatten().collect();
        self.soon(2, Happening::Router(number, RouterInput::Fetched(ticket, parts)));
    }

    pub fn enrich(&mut self, number: u16, tenant: usize, input: Input) {
        let now = self.now;
        let Some(enriching) = self.enriching(number) else { return };
        let (schedule, gate) = &mut enriching.tenants[tenant];
        if matches!(input, Input::Tick) && schedule.wake_at().is_none_or(|at| at > now) {
            return;
        }
        let mut effects = Vec::new();
        schedule.step(now, input, gate, &mut effects);
        let wake = schedule.wake_at();
        if let Some(at) = wake {
            self.at(at.max(now.plus(Duration::from_millis(1))), Happening::Enrich(number, tenant, Input::Tick));
        }
        for effect in effects {
            match effect {
                Effect::Call(lookup, target) => self.call(number, tenant, lookup, target),
                Effect::Close(lookup) => {
                    if let Some(enriching) = self.enriching(number) {
                        enriching.pages.remove(&(tenant, lookup));
                    }
                }
                Effect::Done(ticket, end, _) => self.looked_up(number, ticket, end),
            }
        }
    }

    fn call(&mut self, number: u16, tenant: usize, lookup: u64, target: Target) {
        let Some(enriching) = self.enriching(number) else { return };
        let twice = enriching.out.iter().any(|((of, _), out)| *of == tenant && *out == target);
        enriching.out.insert((tenant, lookup), target);
        if twice {
            self.wrong(format!("partition {number}: one record is asked for twice at a time"));
        }
        let pause = match self.moods[tenant] {
            Mood::Dead => {
                self.hit("an API is dead");
                let at = self.now.plus(CALL);
                let input = Input::Failed(lookup, Trouble::Again, Reason::Timeout);
                self.at(at, Happening::Enrich(number, tenant, input));
                return;
            }
            Mood::Slow => {
                self.hit("an API is slow");
                700
            }
            _ => 15,
        };
        self.soon(pause, Happening::Api(number, tenant, lookup));
    }

    /// The API answers a call.
    pub fn api_answers(&mut self, number: u16, tenant: usize, lookup: u64) {
        let Some(target) = self.enriching(number).and_then(|one| one.out.get(&(tenant, lookup)).cloned()) else {
            return;
        };
        let what = match self.moods[tenant] {
            Mood::Wrong => match self.rng.u32(..4) {
                0 => Some((Trouble::Few, Reason::BadAnswer, "an API answers what cannot be read")),
                1 => Some((Trouble::Again, Reason::VendorError, "an API fails")),
                2 => Some((Trouble::Never, Reason::Refused, "an API refuses a request")),
                _ => Some((Trouble::Anew, Reason::Refused, "a list begins anew")),
            },
            Mood::Limits => Some((Trouble::Slow(None), Reason::RateLimited, "an API limits us")),
            Mood::Refuses => Some((Trouble::Closed, Reason::Credentials, "an API refuses the credentials")),
            Mood::Empty if matches!(target, Target::One(..)) => {
                Some((Trouble::NotFound, Reason::Refused, "an API does not have the record"))
            }
            Mood::Good | Mood::Slow | Mood::Behind | Mood::Dead | Mood::Empty => None,
        };
        if let Some((trouble, reason, hit)) = what {
            self.hit(hit);
            self.lookup_answered(number, tenant, Input::Failed(lookup, trouble, reason));
            return;
        }
        let behind = if self.moods[tenant] == Mood::Behind { 5_000 } else { self.rng.u64(0..BEHIND) };
        let version = Timestamp::from_millis(self.now.as_millis() - i64::try_from(behind).unwrap_or(0));
        let empty = self.moods[tenant] == Mood::Empty;
        let (found, more) = match target {
            Target::One(_, id) => (vec![found(&id, version)], false),
            Target::List(..) if empty => (Vec::new(), false),
            Target::List(..) => {
                let keys: Vec<_> = (0..self.plan.keys).filter(|key| key % TENANTS == tenant).collect();
                let Some(enriching) = self.enriching(number) else { return };
                let page = enriching.pages.entry((tenant, lookup)).or_default();
                *page += 1;
                let shown = keys.iter().skip((*page - 1) * PAGE).take(PAGE);
                let more = *page * PAGE < keys.len();
                (shown.map(|key| found(&format!("key-{key}"), version)).collect(), more)
            }
        };
        if more {
            self.hit("a list has another page");
        }
        self.lookup_answered(number, tenant, Input::Answered { lookup, found, more });
    }

    fn looked_up(&mut self, number: u16, ticket: u64, end: End) {
        let (now, late) = (self.now, self.plan.jumps);
        let Some(enriching) = self.enriching(number) else { return };
        let Some((asked, index, want)) = enriching.wants.remove(&ticket) else {
            self.wrong(format!("partition {number}: a want ends twice"));
            return;
        };
        if now > want.deadline.plus(Duration::from_millis(1)) && end != End::Failed(Reason::TooLate) && !late {
            // What is known already is given out also behind the budget.
            if !matches!(end, End::Ok(..) | End::Missing) {
                self.wrong(format!("partition {number}: a lookup ends at {now}, and its budget at {}", want.deadline));
            }
        }
        let what = want.what.as_str();
        let part = match end {
            End::Ok(record, at) => {
                if !is_good(&record, &want) {
                    self.wrong(format!("partition {number}: {what} of {} is older than its event", want.id));
                }
                EnrichmentPart { record: Some(record), fetched_at: Some(at), ..part(what, EnrichmentStatus::Ok, None) }
            }
            End::Missing => {
                self.hit("a record is missing");
                part(what, EnrichmentStatus::Missing, None)
            }
            End::Failed(reason) => {
                if reason == Reason::Stale {
                    self.hit("an API goes on showing an older record");
                }
                part(what, EnrichmentStatus::Failed, Some(reason))
            }
        };
        let Some(enriching) = self.enriching(number) else { return };
        if let Some(asked) = enriching.asked.get_mut(&asked) {
            asked.parts[index] = Some(part);
        }
        self.answer(number, asked);
    }

    /// The schedule hears how a call ended, if it is one that it waits for, or that time has come.
    pub fn lookup_answered(&mut self, number: u16, tenant: usize, input: Input) {
        if let Input::Answered { lookup, .. } | Input::Failed(lookup, ..) = &input
            && let Some(enriching) = self.enriching(number)
        {
            enriching.out.remove(&(tenant, *lookup));
        }
        self.enrich(number, tenant, input);
    }

    pub fn api_fate(&mut self) {
        let tenant = self.rng.usize(..TENANTS);
        self.moods[tenant] = if self.rng.u32(..3) == 0 { Mood::Good } else { pick(&mut self.rng) };
    }

    /// What the records of an event came to, held against what the event says of itself.
    pub fn judge_enrichment(event: &Event, parts: &[EnrichmentPart]) -> Result<(), String> {
        let names: BTreeSet<_> = parts.iter().map(|part| &part.what).collect();
        if names.len() != parts.len() {
            return Err("a record is there twice".into());
        }
        for part in parts {
            let Some(record) = &part.record else { continue };
            let want = Want {
                ticket: 0,
                what: What::Client,
                id: event.key.clone().unwrap_or_default(),
                at: event.received_at,
                version: Some(event.received_at),
                received_at: event.received_at,
                deadline: event.received_at,
            };
            if part.status != EnrichmentStatus::Ok || !is_good(record, &want) {
                return Err(format!("{} is somebody else's, or older than the event", part.what));
            }
        }
        Ok(())
    }
}

fn pick(rng: &mut Rng) -> Mood {
    MOODS[rng.usize(..MOODS.len())]
}

fn part(what: &str, status: EnrichmentStatus, reason: Option<Reason>) -> EnrichmentPart {
    let reason = reason.map(|reason| reason.as_str().into());
    EnrichmentPart { what: what.into(), status, reason, fetched_at: None, record: None }
}

fn found(id: &str, version: Timestamp) -> Found {
    let text = format!("{{\"id\":\"{id}\",\"version\":{}}}", version.as_millis());
    let record = Record { hash: crate::client::KEYS.body(text.as_bytes()), bytes: text.into() };
    Found { id: id.into(), version: Some(version), record: Some(Arc::new(record)) }
}

/// Whether a record is the one that was wanted, and no older; read without the schedule's own code.
fn is_good(record: &Record, want: &Want) -> bool {
    let text = String::from_utf8_lossy(&record.bytes);
    let version = text.rsplit(':').next().and_then(|tail| tail.trim_end_matches('}').parse::<i64>().ok());
    let Some(version) = version else { return false };
    // A version that is a whole second may be any time within it.
    let latest = if version % 1_000 == 0 { version + 999 } else { version };
    text.contains(&format!("\"id\":\"{}\"", want.id)) && want.version.is_none_or(|wanted| latest >= wanted.as_millis())
}
