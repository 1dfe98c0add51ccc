//! `explain`: why an event goes where it goes, of a push in a file or of an event that a server has.

use super::{
    Global, Status,
    client::Client,
    config_file,
    output::print,
    show::{escaped_lines, is_private, masked, without_phones},
};
use crate::{
    app::generation::Generation,
    domain::{Event, Fingerprint, HashKeys, Headers, Incarnation, NewEvent, Origin, Partition, Timestamp},
    routing::explain::{Answer, Explanation},
    vendors,
};
use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use std::path::{Path, PathBuf};

/// The arguments of `explain`.
#[derive(Debug, Clone, Args)]
pub(super) struct ExplainArgs {
    /// A push as it would arrive (`-`: from the input), asked by the file's routes; or an event's id, evt_…, asked on the
    /// server
    #[arg(value_name = "FILE|ID")]
    event: String,
    /// The source that a file's push would come to; needed where there are several
    #[arg(long)]
    source: Option<String>,
    /// The tenant of that source
    #[arg(long)]
    tenant: Option<String>,
    /// Show phone numbers and the like as they are
    #[arg(long)]
    reveal: bool,
}

pub(super) async fn run(global: &Global, args: &ExplainArgs) -> anyhow::Result<Status> {
    let is_id = args.event.starts_with("evt_") && !Path::new(&args.event).exists();
    let mut explanation: Explanation = if is_id {
        let body = Client::new(global)?.get(&["events", &args.event, "explain"], &[]).await?;
        if global.json {
            print(&(body + "\n"))?;
            return Ok(Status::Done);
        }
        serde_json::from_str(&body).context("the server speaks another version")?
    } else {
        of_file(global, args)?
    };
    if global.json {
        print(&(serde_json::to_string(&explanation)? + "\n"))?;
        return Ok(Status::Done);
    }
    if !args.reveal {
        hide(&mut explanation);
    }
    print(&escaped_lines(&explanation.to_string()))?;
    Ok(Status::Done)
}

fn of_file(global: &Global, args: &ExplainArgs) -> anyhow::Result<Explanation> {
    let loaded = config_file::load(&global.config)?;
    let (source, tenant) = config_file::pick(&loaded, args.source.as_deref(), args.tenant.as_deref())?;
    let generation = Generation::compile(1, loaded).map_err(|mistakes| config_file::mistakes(&mistakes))?;
    let body = config_file::read_input(&PathBuf::from(&args.event))?;
    let settings = generation.settings.sources.get(&source).context("a picked source is there")?;
    let headers = Headers::default();
    let identity = vendors::identify(settings.kind, settings.fields.as_ref(), &headers, &body)
        .map_err(|defect| anyhow::anyhow!("this push would become a dead letter `unparsable`: {defect}"))?;
    // The hashes tell re-sends and damage, which no route asks about.
    let keys = HashKeys { first: 0, second: 0 };
    let event: Event = NewEvent {
        order: identity.key.as_deref().map(|key| keys.order(source.as_str(), tenant.as_str(), key)),
        source,
        tenant,
        kind: identity.kind,
        key: identity.key,
        vendor_id: identity.id,
        origin: Origin::Push,
        sent_at: identity.sent_at,
        received_at: Timestamp::now(),
        headers,
        body: Bytes::from(body),
        payload: identity.payload,
        id_hash: 0,
        body_hash: 0,
        fingerprint: Fingerprint::default(),
        superseded: false,
    }
    .at(Partition(0), 0, Incarnation(0), false);
    Ok(generation.table.explain(&event, None))
}

/// Masks the values of private members, and phone numbers anywhere.
fn hide(explanation: &mut Explanation) {
    for route in &mut explanation.routes {
        let because = match &mut route.answer {
            Answer::NotMatched { because, .. } => because,
            Answer::Dead { because, detail, .. } => {
                *detail = without_phones(detail);
                because
            }
            Answer::Matched { to } => {
                to.iter_mut().filter_map(|to| to.address.as_mut()).for_each(|text| *text = without_phones(text));
                continue;
            }
            Answer::Waits { .. } | Answer::NotAsked { .. } | Answer::Unparsable => continue,
        };
        for saw in because.iter_mut().flat_map(|reason| &mut reason.saw) {
            let private = is_private(&saw.name);
            saw.value = saw.value.take().map(|text| if private { masked(&text) } else { without_phones(&text) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hide;
    use crate::routing::explain::{Answer, Explanation, Reason, RouteExplained, Saw};

    #[test]
    fn values_of_private_members_are_not_shown() {
        let saw = |name: &str, value: &str| Saw { name: name.to_owned(), value: Some(value.to_owned()) };
        let reason = Reason {
            expression: "body.weixin == body.name".to_owned(),
            result: "false".to_owned(),
            saw: vec![saw("body.weixin", "\"wxid_7\""), saw("body.name", "\"13812345678 x\"")],
        };
        let answer = Answer::NotMatched { condition: "when".into(), because: vec![reason] };
        let routes = vec![RouteExplained { route: "leads".to_owned(), answer }];
        let mut explanation = Explanation { event: String::new(), kind: String::new(), routes };
        hide(&mut explanation);
        let text = explanation.to_string();
        assert!(!text.contains("wxid_7") && !text.contains("13812345678"), "{text}");
        assert!(text.contains("138****5678"), "{text}");
    }
}
