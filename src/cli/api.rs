//! `api laigu …` and `api easemob …`: the vendors' APIs by hand, with the credentials of `routes.yaml`.
//!
//! Lists come as they are read, page by page: a table for people, with `--json` one object a line whose integers beyond
//! 2^53 are texts, with `--raw` the vendor's own bytes. Calls keep to the tenant's rate and are repeated a few times where
//! that is safe; calls that change an agent are made once. Passwords are read from standard input, tokens never shown.

mod easemob;
mod laigu;
mod pace;
mod print;
pub(super) mod table;

pub use print::Io;

use crate::{
    config::{
        settings::{Api, Settings, SourceKind, Tenant},
        units,
    },
    domain::Timestamp,
    vendors::{
        laigu::api::window::Window,
        times::{BEIJING, Moment},
    },
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::time::Duration;

/// The arguments of `api`.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Whose API
    #[command(subcommand)]
    vendor: Vendor,
    /// The source in `routes.yaml`; needed where several have this vendor's API
    #[arg(long, global = true)]
    source: Option<String>,
    /// The tenant of the source; needed where several have this vendor's API
    #[arg(long, global = true)]
    tenant: Option<String>,
    /// One JSON object a line; integers beyond 2^53 as texts
    #[arg(long, global = true, conflicts_with = "raw")]
    json: bool,
    /// The vendor's own bytes, one record a line
    #[arg(long, global = true)]
    raw: bool,
}

#[derive(Debug, Clone, Subcommand)]
enum Vendor {
    /// Laigu (来鼓) or Meiqia (美洽)
    Laigu {
        /// What to ask for
        #[command(subcommand)]
        call: laigu::Call,
    },
    /// Easemob KeFu (环信客服云)
    Easemob {
        /// What to ask for
        #[command(subcommand)]
        call: easemob::Call,
    },
}

/// A span of time on the command line.
#[derive(Debug, Clone, Args)]
struct TimeRange {
    /// Begins here: `2024-09-20`, `2024-09-20 17:00:00` (Beijing time) or RFC 3339
    #[arg(long, conflicts_with = "last", value_parser = parse_time)]
    from: Option<Timestamp>,
    /// Ends here; now if left out
    #[arg(long, value_parser = parse_time)]
    to: Option<Timestamp>,
    /// Begins this long before the end, such as `2h` or `7d`
    #[arg(long, value_parser = parse_duration, default_value = "1h")]
    last: Duration,
}

impl TimeRange {
    fn window(&self, now: Timestamp) -> anyhow::Result<Window> {
        let to = self.to.unwrap_or(now);
        let back = i64::try_from(self.last.as_millis()).unwrap_or(i64::MAX);
        let from = self.from.unwrap_or(Timestamp::from_millis(to.as_millis().saturating_sub(back)));
        if from >= to {
            bail!("the range is empty: --from {from} is not before --to {to}");
        }
        Ok(Window { from, to })
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    let moment = Moment::parse(text, BEIJING);
    moment.map(|moment| moment.instant).ok_or_else(|| "use 2024-09-20, 2024-09-20 17:00:00 or RFC 3339".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| format!("use {}", units::DURATION_FORM))
}

/// Runs one call and writes what came of it.
///
/// # Errors
/// With the way out in words: no such tenant, a vendor's refusal, a broken pipe.
pub async fn run(args: &ApiArgs, settings: &Settings, io: &mut Io<'_>) -> anyhow::Result<()> {
    let format = match (args.json, args.raw) {
        (true, _) => print::Format::Json,
        (_, true) => print::Format::Raw,
        (false, false) => print::Format::Table,
    };
    match &args.vendor {
        Vendor::Laigu { call } => {
            let (tenant, api) = pick(settings, args, &[SourceKind::Laigu, SourceKind::Meiqia])?;
            let enterprise_id = tenant.enterprise_id.context("this tenant has no `enterprise_id`")?;
            laigu::run(call, api, enterprise_id, format, io).await
        }
        Vendor::Easemob { call } => {
            let (tenant, api) = pick(settings, args, &[SourceKind::EasemobKefu])?;
            let tenant_id = tenant.tenant_id.as_deref().context("this tenant has no `tenant_id`")?;
            easemob::run(call, api, tenant_id, format, io).await
        }
    }
}

/// The one tenant that is meant: by name, or because there is no other with such an API.
fn pick<'a>(settings: &'a Settings, args: &ApiArgs, kinds: &[SourceKind]) -> anyhow::Result<(&'a Tenant, &'a Api)> {
    let fits = |given: &Option<String>, name: &str| given.as_deref().is_none_or(|given| given == name);
    let mut found = Vec::new();
    for (source_name, source) in &settings.sources {
        if !kinds.contains(&source.kind) || !fits(&args.source, source_name.as_str()) {
            continue;
        }
        for (name, tenant) in &source.tenants {
            if let Some(api) = tenant.api.as_ref().filter(|_| fits(&args.tenant, name.as_str())) {
                found.push((format!("{source_name}/{name}"), tenant, api));
            }
        }
    }
    match found.as_slice() {
        [(_, tenant, api)] => Ok((tenant, api)),
        [] => bail!("no tenant with such a name has an `api:` of this vendor in routes.yaml"),
        several => {
            let names: Vec<_> = several.iter().map(|(name, ..)| name.as_str()).collect();
            bail!("several tenants have such an API: choose one of {} with --source and --tenant", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiArgs, TimeRange, parse_time};
    use crate::domain::Timestamp;
    use clap::Parser;
    use std::time::Duration;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        api: ApiArgs,
    }

    fn is_taken(line: &str) -> bool {
        Line::try_parse_from(std::iter::once("api").chain(line.split(' '))).is_ok()
    }

    #[test]
    fn every_call_of_both_vendors_has_a_verb() {
        for line in [
            "laigu conversation 7",
            "laigu conversations --last 2h",
            "laigu conversations --v1 --last 2h",
            "laigu clients --from 2024-09-20 --to 2024-09-21",
            "laigu clients-updated --last 1d --limit 5 --json",
            "laigu agent-online --last 1d --raw",
            "laigu agent-service --last 1d --source laigu --tenant acme",
            "easemob token",
            "easemob agents --search 138",
            "easemob agent create a@b.c --nicename x --role 1",
            "easemob agent update a@b.c --true-name x",
            "easemob agent delete a@b.c --yes",
            "easemob agent disable a@b.c",
            "easemob agent enable a@b.c",
            "easemob agent password a@b.c --yes",
            "easemob roles",
            "easemob sessions --last 1d --state Terminal,Abort --origin webim --transfered true",
        ] {
            assert!(is_taken(line), "{line}");
        }
        for line in [
            "laigu",
            "laigu conversation",
            "laigu clients --from yesterday",
            "laigu clients --from 2024-09-20 --last 2h",
            "laigu clients --json --raw",
            "easemob agent password a@b.c hunter2hunter2",
        ] {
            assert!(!is_taken(line), "{line}");
        }
    }

    #[test]
    fn a_range_ends_now_and_begins_an_hour_before_if_nothing_is_said() {
        let now = Timestamp::from_millis(10 * 3_600_000);
        let range = |from, to, last| TimeRange { from, to, last: Duration::from_secs(last) };
        let window = range(None, None, 3600).window(now).unwrap();
        assert_eq!((window.from.as_millis(), window.to), (9 * 3_600_000, now));
        assert!(range(Some(now), None, 3600).window(now).is_err());
        assert_eq!(parse_time("2024-09-20").unwrap().to_string(), "2024-09-19T16:00:00.000Z");
    }
}
