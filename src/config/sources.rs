//! `sources:`: what each vendor speaks, and how its pushes are told from forged ones.

use super::{
    keys,
    reader::{Field, Reader, Section},
    settings::{
        FieldPath, Fields, Probe, Signature, SignatureEncoding as Encoding, SignatureScheme as Scheme, Source,
        SourceKind, Tenant,
    },
    tenants,
};
use crate::domain::{SourceName, TenantName};
use std::collections::BTreeMap;

const KINDS: [(&str, SourceKind); 5] = [
    ("laigu", SourceKind::Laigu),
    ("laigu-automation", SourceKind::LaiguAutomation),
    ("meiqia", SourceKind::Meiqia),
    ("easemob-kefu", SourceKind::EasemobKefu),
    ("webhook", SourceKind::Webhook),
];

/// Keys that only one type has: without a `type`, the other mistakes can still be told.
const TELLTALES: [(&str, SourceKind); 1] = [("fields", SourceKind::Webhook)];

const SCHEMES: [(&str, Scheme); 7] = [
    ("sha1-suffix", Scheme::Sha1Suffix),
    ("hmac-sha1", Scheme::HmacSha1),
    ("hmac-sha256", Scheme::HmacSha256),
    ("standard-webhooks", Scheme::StandardWebhooks),
    ("meiqia-sign", Scheme::MeiqiaSign),
    ("token", Scheme::Token),
    ("none", Scheme::None),
];

/// The headers under which Laigu's and Meiqia's documents put the signature.
const LAIGU_HEADERS: [&str; 4] = ["meiqia-signature", "laigu-signature", "laigu-sign", "meiqia-sign"];

/// A source type's word.
pub(super) fn kind_word(kind: SourceKind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word)
}

/// What became of `sources:`.
pub(super) struct Sources {
    /// The good ones.
    pub(super) good: BTreeMap<SourceName, Source>,
    /// The type of every one, as far as it is known: routes are checked against these.
    pub(super) kinds: Vec<Option<SourceKind>>,
}

/// Reads `sources:`.
pub(super) fn read(reader: &mut Reader<'_>, file: &Section<'_>) -> Sources {
    let mut sources = Sources { good: BTreeMap::new(), kinds: Vec::new() };
    let field = reader.required(file, "sources", "who pushes to us");
    let fields = field.map_or_else(Vec::new, |field| reader.named_some(field));
    for field in fields {
        let name = reader.name(field, SourceName::parse);
        let kind = super::kind_of(reader, field, &KINDS, &TELLTALES);
        sources.kinds.push(kind);
        let Some(source) = kind.and_then(|kind| source(reader, field, kind)) else { continue };
        if let Some(name) = name {
            sources.good.insert(name, source);
        }
    }
    sources
}

fn source(reader: &mut Reader<'_>, field: Field<'_>, kind: SourceKind) -> Option<Source> {
    let section = reader.section(field, keys::SOURCE)?;
    let ack = reader.text(section.get("ack")).map(|text| text.value);
    let words = [("reject", Probe::Reject), ("accept", Probe::Accept)];
    let probe = reader.word(section.get("probe"), &words).unwrap_or(Probe::Reject);
    let signature = signature(reader, &section, kind);
    let fields = match (section.get("fields"), kind) {
        (Some(field), SourceKind::Webhook) => fields(reader, field),
        (Some(field), _) => {
            reader.error("`fields` has no use here", field.key_span, "only `type: webhook` has to say where they lie");
            None
        }
        (None, _) => None,
    };
    let mut tenants: BTreeMap<TenantName, Tenant> = BTreeMap::new();
    let all = reader.required(&section, "tenants", "whose pushes they are, by name");
    let named = all.map_or_else(Vec::new, |field| reader.named_some(field));
    for field in named {
        let name = reader.name(field, TenantName::parse);
        let tenant = tenants::read(reader, field, kind, signature.as_ref().map(|signature| signature.scheme));
        let (Some(name), Some(tenant)) = (name, tenant) else { continue };
        let same =
            |other: &&Tenant| tenant.enterprise_token.is_some() && other.enterprise_token == tenant.enterprise_token;
        if tenants.values().find(same).is_some() {
            let label = "a push to the source's own URL could be either's";
            reader.error("another tenant has the same `enterprise_token`", field.key_span, label);
        }
        tenants.insert(name, tenant);
    }
    Some(Source { kind, ack, probe, signature: signature?, tenants, fields })
}

/// Reads `signature:`, whose defaults follow from the source's type.
fn signature(reader: &mut Reader<'_>, source: &Section<'_>, kind: SourceKind) -> Option<Signature> {
    let default = match kind {
        SourceKind::Laigu | SourceKind::Meiqia => Some(Scheme::Sha1Suffix),
        SourceKind::LaiguAutomation | SourceKind::EasemobKefu => Some(Scheme::None),
        SourceKind::Webhook => None,
    };
    let Some(field) = source.get("signature") else {
        if default.is_none() {
            let message = "`signature` is missing in `sources.*`";
            reader.error(message, source.place, "a `webhook` must say how it is signed, or `scheme: none`");
        }
        return default.map(|scheme| standard(scheme, kind));
    };
    let section = reader.section(field, keys::SIGNATURE)?;
    let scheme = match (section.get("scheme"), default) {
        (None, Some(default)) => Some(default),
        _ => {
            let field = reader.required(&section, "scheme", "how pushes are signed");
            reader.word(field, &SCHEMES)
        }
    };
    let given: Vec<String> = {
        let texts = section.get("headers").map_or_else(Vec::new, |field| reader.one_or_more(field));
        texts.into_iter().filter_map(|text| header(reader, &text.value, &text.span)).collect()
    };
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let encoding = reader.word(section.get("encoding"), &encodings);
    let prefix = reader.text(section.get("prefix")).map(|text| text.value);
    let mut signature = standard(scheme?, kind);
    let (takes_headers, takes_prefix, takes_encoding) = match signature.scheme {
        Scheme::Sha1Suffix | Scheme::HmacSha1 | Scheme::HmacSha256 => (true, true, true),
        // A token's prefix is what stands before it, such as `Bearer `.
        Scheme::Token | Scheme::MeiqiaSign => (true, true, false),
        Scheme::StandardWebhooks => (true, false, false),
        Scheme::None => (false, false, false),
    };
    for (key, taken) in [("headers", takes_headers), ("encoding", takes_encoding), ("prefix", takes_prefix)] {
        if let (Some(field), false) = (section.get(key), taken) {
            reader.error(format!("`{key}` has no use here"), field.key_span, "the scheme fixes it");
        }
    }
    if takes_headers && !given.is_empty() {
        signature.headers = given;
    } else if takes_headers && signature.headers.is_empty() {
        let place = section.get("headers").map_or(section.place, |field| field.key_span);
        reader.error("`headers` is missing in `sources.*.signature`", place, "such as `headers: [X-Signature]`");
    }
    signature.encoding = encoding.unwrap_or(signature.encoding);
    signature.prefix = prefix.unwrap_or_default();
    Some(signature)
}

/// A scheme as it is without a word more; no headers where they must be given.
fn standard(scheme: Scheme, kind: SourceKind) -> Signature {
    let laigu = matches!(kind, SourceKind::Laigu | SourceKind::Meiqia);
    let headers: &[&str] = match scheme {
        Scheme::Sha1Suffix if laigu => &LAIGU_HEADERS,
        Scheme::StandardWebhooks => &["webhook-signature"],
        Scheme::MeiqiaSign => &["authorization"],
        Scheme::Sha1Suffix | Scheme::HmacSha1 | Scheme::HmacSha256 | Scheme::Token | Scheme::None => &[],
    };
    let encoding = match scheme {
        Scheme::StandardWebhooks | Scheme::MeiqiaSign => Encoding::Base64,
        Scheme::Sha1Suffix | Scheme::HmacSha1 | Scheme::HmacSha256 | Scheme::Token | Scheme::None => Encoding::Hex,
    };
    let headers = headers.iter().map(|name| (*name).to_owned()).collect();
    Signature { scheme, headers, encoding, prefix: String::new() }
}

/// A header's name, in lower case.
fn header(reader: &mut Reader<'_>, text: &str, span: &std::ops::Range<usize>) -> Option<String> {
    let parsed = http::HeaderName::from_bytes(text.as_bytes()).ok().map(|name| name.as_str().to_owned());
    if parsed.is_none() {
        reader.error("this is not a header's name", span, "expected letters, digits and `-`, such as `X-Signature`");
    }
    parsed
}

fn fields(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Fields> {
    let section = reader.section(field, keys::FIELDS)?;
    let form = "a JSON pointer such as `/customer/id`, or `header:X-Event-Id`";
    let mut path = |key| reader.parsed(section.get(key), form, field_path);
    Some(Fields { id: path("id"), kind: path("type"), key: path("key"), time: path("time"), payload: path("payload") })
        .inspect(|fields| {
            if let (Some(FieldPath::Header(_)), Some(field)) = (&fields.payload, section.get("payload")) {
                reader.error("`payload` cannot be a header", &field.node.span, "expected a JSON pointer to an object");
            }
        })
}

fn field_path(text: &str) -> Option<FieldPath> {
    if let Some(name) = text.strip_prefix("header:") {
        let name = http::HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        return Some(FieldPath::Header(name.as_str().to_owned()));
    }
    // RFC 6901: `~` only as `~0` or `~1`.
    let escapes_good = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    (text.starts_with('/') && escapes_good).then(|| FieldPath::Pointer(text.to_owned()))
}
