//! One of a source's `tenants`: its secrets, its API, what is polled.

use super::{
    api, keys,
    reader::{Field, Reader, Section},
    secrets::{self, Given},
    server::networks,
    settings::{Reconcile, Reports, SignatureScheme, SourceKind, Tenant},
    sources::kind_word,
};
use crate::domain::Secret;
use base64::prelude::{BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD, Engine};
use std::time::Duration;

/// A shorter one can be guessed.
const PATH_SECRET_CHARS_MIN: usize = 16;
/// The largest whole number that every JSON reader keeps.
const ENTERPRISE_ID_MAX: u64 = (1 << 53) - 1;
/// What a suffix hash should have for a secret.
const SHA1_SECRET_BYTES_GOOD: usize = 32;

const DAY: Duration = Duration::from_secs(86_400);
/// How often a vendor may be polled.
const POLL_MIN: Duration = Duration::from_secs(1);
/// The shortest period that a report is asked for.
const REPORT_MIN: Duration = Duration::from_secs(60);

/// Reads a tenant; `scheme` is `None` when the source's signature has been reported already.
pub(super) fn read(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    kind: SourceKind,
    scheme: Option<SignatureScheme>,
) -> Option<Tenant> {
    let section = reader.section(field, keys::TENANT)?;
    refuse_foreign_keys(reader, &section, kind);
    let enterprise_id = reader.whole(section.get("enterprise_id"), 0..=ENTERPRISE_ID_MAX);
    let enterprise_token = reader.filled(section.get("enterprise_token")).map(|text| text.value);
    let tenant_id = reader.parsed(section.get("tenant_id"), "1 to 64 letters, digits, `-` or `_`", |text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
    });
    let secrets = signing_secrets(reader, &section, scheme);
    let path_secret = path_secret(reader, &section, scheme);
    let allow_from = networks(reader, &section, "allow_from");
    let api_field = section.get("api").filter(|_| has_api(kind));
    let api = api_field.and_then(|field| api::read(reader, field, kind));
    let vendor_id = match kind {
        SourceKind::EasemobKefu => "tenant_id",
        _ => "enterprise_id",
    };
    if let (Some(field), None) = (api_field, section.get(vendor_id)) {
        reader.error(
            format!("`{vendor_id}` is missing in `sources.*.tenants.*`"),
            field.key_span,
            "every call needs it",
        );
    }
    let reconcile = section.get("reconcile").filter(|_| has_reconcile(kind));
    let reconcile = needs_api(reader, &section, reconcile).and_then(|field| reconcile_of(reader, field));
    let poll = section.get("poll").filter(|_| kind == SourceKind::EasemobKefu);
    let poll = needs_api(reader, &section, poll).and_then(|field| reader.section(field, keys::POLL));
    let poll_sessions = poll.and_then(|section| {
        let field = reader.required(&section, "sessions", "how often, such as `5m`");
        reader.duration(field, POLL_MIN..=7 * DAY)
    });
    let reports = section.get("reports").filter(|_| has_reconcile(kind));
    let reports = needs_api(reader, &section, reports).and_then(|field| reports_of(reader, field));
    Some(Tenant {
        enterprise_token,
        enterprise_id,
        tenant_id,
        secrets,
        path_secret,
        allow_from,
        api,
        reconcile,
        poll_sessions,
        reports,
    })
}

/// Whether the type has an API that we speak.
const fn has_api(kind: SourceKind) -> bool {
    matches!(kind, SourceKind::Laigu | SourceKind::Meiqia | SourceKind::EasemobKefu)
}

const fn has_reconcile(kind: SourceKind) -> bool {
    matches!(kind, SourceKind::Laigu | SourceKind::Meiqia)
}

fn refuse_foreign_keys(reader: &mut Reader<'_>, section: &Section<'_>, kind: SourceKind) {
    let named = !matches!(kind, SourceKind::Webhook | SourceKind::EasemobKefu);
    for (key, taken) in [
        ("api", has_api(kind)),
        ("reconcile", has_reconcile(kind)),
        ("poll", kind == SourceKind::EasemobKefu),
        ("reports", has_reconcile(kind)),
        ("tenant_id", kind == SourceKind::EasemobKefu),
        ("enterprise_id", named),
        ("enterprise_token", named),
    ] {
        if let (Some(field), false) = (section.get(key), taken) {
            let label = format!("`type: {}` has none", kind_word(kind));
            reader.error(format!("`{key}` has no use here"), field.key_span, label);
        }
    }
}

fn needs_api<'n>(reader: &mut Reader<'_>, section: &Section<'n>, field: Option<Field<'n>>) -> Option<Field<'n>> {
    let field = field?;
    if section.get("api").is_none() {
        reader.error(format!("`{}` needs `api`", field.key), field.key_span, "there is nothing to ask without it");
    }
    Some(field)
}

fn signing_secrets(reader: &mut Reader<'_>, section: &Section<'_>, scheme: Option<SignatureScheme>) -> Vec<Secret> {
    let Ok(given) = secrets::all(reader, section, "secret", "secret_file") else { return Vec::new() };
    let Some(scheme) = scheme else { return Vec::new() };
    if scheme == SignatureScheme::None {
        if let Some(given) = given.first() {
            let label = "this source is not signed; `path_secret` guards its URL";
            reader.error("`secret` has no use here", &given.span, label);
        }
        return Vec::new();
    }
    if given.is_empty() {
        let label = "this source is signed: without a secret every push would be refused";
        reader.error("`secret` is missing in `sources.*.tenants.*`", section.place, label);
    }
    given.into_iter().filter_map(|given| usable(reader, given, scheme)).collect()
}

fn usable(reader: &mut Reader<'_>, given: Given, scheme: SignatureScheme) -> Option<Secret> {
    let text = given.secret.expose();
    if text.is_empty() {
        reader.error("`secret` is empty", &given.span, "an empty secret would let anyone in");
        return None;
    }
    if scheme == SignatureScheme::StandardWebhooks && !is_standard_webhooks(text) {
        reader.error(
            "this is not a secret of Standard Webhooks",
            &given.span,
            "expected base64, with `whsec_` before it or not",
        );
    }
    if scheme == SignatureScheme::Sha1Suffix && text.len() < SHA1_SECRET_BYTES_GOOD {
        let label =
            format!("SHA1(body + secret) is weak: {SHA1_SECRET_BYTES_GOOD} bytes or more, and `allow_from`, help");
        reader.warn("this secret is short", &given.span, label);
    }
    Some(given.secret)
}

fn is_standard_webhooks(text: &str) -> bool {
    let written = text.strip_prefix("whsec_").unwrap_or(text).trim_end_matches('=');
    !written.is_empty() && (STANDARD_NO_PAD.decode(written).is_ok() || URL_SAFE_NO_PAD.decode(written).is_ok())
}

fn path_secret(reader: &mut Reader<'_>, section: &Section<'_>, scheme: Option<SignatureScheme>) -> Option<Secret> {
    let given = secrets::optional(reader, section, "path_secret", "path_secret_file").ok()?;
    let Some(given) = given else {
        if scheme == Some(SignatureScheme::None) {
            let place = section.get("path_secret").map_or(section.place, |field| &field.node.span);
            let label = "this source is not signed: only a secret in its URL tells its pushes from forged ones";
            reader.error("`path_secret` is missing or empty", place, label);
        }
        return None;
    };
    let text = given.secret.expose();
    if text.chars().count() < PATH_SECRET_CHARS_MIN {
        let label = format!("at least {PATH_SECRET_CHARS_MIN} characters; `openssl rand -hex 16` makes a good one");
        reader.error("`path_secret` is too short", &given.span, label);
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')) {
        reader.error("`path_secret` does not fit into a URL", &given.span, "letters, digits, `-`, `_`, `.` and `~`");
    }
    Some(given.secret)
}

fn reconcile_of(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Reconcile> {
    let section = reader.section(field, keys::RECONCILE)?;
    let often = POLL_MIN..=7 * DAY;
    if section.get("clients").is_none() && section.get("conversations").is_none() {
        reader.error("`reconcile` asks for nothing", section.place, "give `clients`, `conversations` or both");
    }
    Some(Reconcile {
        clients: reader.duration(section.get("clients"), often.clone()),
        conversations: reader.duration(section.get("conversations"), often),
        lag: reader.duration(section.get("lag"), Duration::ZERO..=DAY).unwrap_or(Duration::from_secs(120)),
        overlap: reader
            .duration(section.get("overlap"), Duration::ZERO..=Duration::from_secs(3_600))
            .unwrap_or(Duration::from_secs(3)),
        lookback: reader.duration(section.get("lookback"), POLL_MIN..=365 * DAY).unwrap_or(DAY),
    })
}

fn reports_of(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Reports> {
    let section = reader.section(field, keys::REPORTS)?;
    if section.get("agent_online").is_none() && section.get("agent_service").is_none() {
        reader.error("`reports` asks for nothing", section.place, "give `agent_online`, `agent_service` or both");
    }
    Some(Reports {
        agent_online: reader.duration(section.get("agent_online"), REPORT_MIN..=7 * DAY),
        agent_service: reader.duration(section.get("agent_service"), REPORT_MIN..=7 * DAY),
    })
}
