//! A tenant's `api:`: where the vendor's API lies and how we say who we are.

use super::{
    keys,
    reader::{Field, Reader, Section},
    secrets::{self, Reported},
    settings::{Api, Credentials, Rate, SourceKind},
};
use crate::domain::Secret;
use std::{net::IpAddr, ops::Range, time::Duration};
use url::{Host, Url};

/// KeFu's documented prefix; its page's examples leave `/platform` out.
const PATH_PREFIX: &str = "/api/platform/tenants/{tenant_id}";

/// Calls a tenant may make when nothing else is said; no vendor publishes its limit.
const RATE: Rate = Rate { count: 2, per: Duration::from_secs(1) };

/// Reads `api:`.
pub(super) fn read(reader: &mut Reader<'_>, field: Field<'_>, kind: SourceKind) -> Option<Api> {
    let section = reader.section(field, keys::API)?;
    let rate = reader.rate(section.get("rate")).unwrap_or(RATE);
    let path_prefix = path_prefix(reader, &section, kind);
    let credentials = credentials(reader, &section, kind);
    let base_url = base_url(reader, &section, kind);
    Some(Api { base_url: base_url?, path_prefix, credentials: credentials?, rate })
}

fn base_url(reader: &mut Reader<'_>, section: &Section<'_>, kind: SourceKind) -> Option<Url> {
    let allow_http = reader.flag(section.get("allow_http")).unwrap_or(false);
    let default = match kind {
        SourceKind::Laigu => Some("https://api.laigu.com"),
        SourceKind::EasemobKefu => Some("https://kefu.easemob.com"),
        SourceKind::LaiguAutomation | SourceKind::Meiqia | SourceKind::Webhook => None,
    };
    if let (None, Some(default)) = (section.get("base_url"), default) {
        return Url::parse(default).ok();
    }
    let field = reader.required(section, "base_url", "such as `https://api.example.com`");
    let text = reader.filled(field)?;
    let url = match check_url(&text.value, allow_http) {
        Ok(url) => url,
        Err(label) => {
            reader.error("`base_url` cannot be used", &text.span, label);
            return None;
        }
    };
    if is_private(&url) {
        reader.warn(
            "`base_url` is on this machine or a private network",
            &text.span,
            "right for a stand-in or a proxy",
        );
    } else if url.scheme() == "http" {
        reader.warn("`base_url` is plain HTTP", &text.span, "credentials and records can be read on the way");
    }
    Some(url)
}

fn check_url(text: &str, allow_http: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "expected `https://host`")?;
    match url.scheme() {
        "https" => {}
        "http" if allow_http || is_loopback(&url) => {}
        "http" => return Err("expected `https://`; `allow_http: true` takes plain HTTP"),
        _ => return Err("expected `https://host`"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials have keys of their own here");
    }
    if url.query().is_some() || url.fragment().is_some() || url.path().contains('%') {
        return Err("expected `https://host:port/path`, nothing behind it");
    }
    if let Some(address) = address(&url)
        && (is_link_local(address) || address.is_unspecified() || address.is_multicast())
    {
        return Err("no API lies at such an address");
    }
    Ok(url)
}

fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)),
        // Schemes that `url` does not know keep their hosts as text.
        Host::Domain(name) => name.parse().ok(),
    }
}

/// Whether a URL's host is this machine, without asking DNS.
pub(super) fn is_loopback(url: &Url) -> bool {
    match address(url) {
        Some(address) => address.is_loopback(),
        None => url.host_str().is_some_and(|host| host == "localhost" || host.ends_with(".localhost")),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_private(url: &Url) -> bool {
    is_loopback(url)
        || address(url).is_some_and(|address| match address {
            IpAddr::V4(address) => address.is_private(),
            IpAddr::V6(address) => address.is_unique_local(),
        })
}

fn path_prefix(reader: &mut Reader<'_>, section: &Section<'_>, kind: SourceKind) -> Option<String> {
    let field = section.get("path_prefix");
    if kind != SourceKind::EasemobKefu {
        if let Some(field) = field {
            reader.error("`path_prefix` has no use here", field.key_span, "only `type: easemob-kefu` has one");
        }
        return None;
    }
    let form = "a path such as `/api/tenants/{tenant_id}`";
    let read = reader.parsed(field, form, |text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
        let rest = text.replace("{tenant_id}", "");
        let good = text.starts_with('/') && rest.bytes().all(plain) && !text.contains("//");
        good.then(|| text.trim_end_matches('/').to_owned())
    });
    Some(read.unwrap_or_else(|| PATH_PREFIX.to_owned()))
}

/// The ways to say who we are: the mode's keys and how they make it up.
struct Mode {
    keys: &'static [(&'static str, &'static str)],
    kinds: &'static [SourceKind],
}

const MODES: [Mode; 3] = [
    Mode { keys: &[("access_token", "access_token_file")], kinds: &[SourceKind::Laigu, SourceKind::Meiqia] },
    Mode { keys: &[("app_id", "app_id_file"), ("sign", "sign_file")], kinds: &[SourceKind::Laigu, SourceKind::Meiqia] },
    Mode {
        keys: &[("client_id", "client_id_file"), ("secret_id", "secret_id_file")],
        kinds: &[SourceKind::EasemobKefu],
    },
];

/// A mode all of whose keys are there.
struct Filled {
    secrets: Vec<Secret>,
    place: Range<usize>,
}

fn credentials(reader: &mut Reader<'_>, section: &Section<'_>, kind: SourceKind) -> Option<Credentials> {
    let mut complete: Vec<Filled> = Vec::new();
    let mut reported = false;
    for mode in &MODES {
        match mode_of(reader, section, mode, kind) {
            Ok(Some(found)) => complete.push(found),
            Ok(None) => {}
            Err(Reported) => reported = true,
        }
    }
    if let Some(second) = complete.get(1) {
        reader.error("two ways to authorise are given", &second.place, "keep one of them");
        return None;
    }
    let Some(Filled { secrets, .. }) = complete.pop() else {
        if !reported {
            let label = match kind {
                SourceKind::EasemobKefu => "expected `client_id` and `secret_id`",
                _ => "expected `access_token`, or `app_id` and `sign`",
            };
            reader.error("`api` has no credentials", section.place, label);
        }
        return None;
    };
    let mut secrets = secrets.into_iter();
    match (secrets.next()?, secrets.next(), kind) {
        (token, None, _) => Some(Credentials::Bearer(token)),
        (client_id, Some(secret_id), SourceKind::EasemobKefu) => Some(Credentials::Client { client_id, secret_id }),
        (app_id, Some(sign), _) => Some(Credentials::AppSign { app_id, sign }),
    }
}

fn mode_of(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    mode: &Mode,
    kind: SourceKind,
) -> Result<Option<Filled>, Reported> {
    let fields = mode.keys.iter().flat_map(|(key, file)| [section.get(key), section.get(file)]).flatten();
    let Some(first) = fields.into_iter().next() else { return Ok(None) };
    if !mode.kinds.contains(&kind) {
        let label = "this vendor's API is authorised otherwise";
        reader.error(format!("`{}` has no use here", first.key), first.key_span, label);
        return Err(Reported);
    }
    let mut secrets = Vec::new();
    for (key, file) in mode.keys {
        match secrets::optional(reader, section, key, file) {
            Ok(Some(given)) => secrets.push(given.secret),
            // Empty, or not there while its sibling is.
            Ok(None) => {
                let place = section.get(key).map_or(first.key_span, |field| &field.node.span);
                reader.error(format!("`{key}` is missing or empty"), place, "calls could not be authorised");
            }
            Err(Reported) => {}
        }
    }
    if secrets.len() < mode.keys.len() {
        return Err(Reported);
    }
    Ok(Some(Filled { secrets, place: first.key_span.clone() }))
}
