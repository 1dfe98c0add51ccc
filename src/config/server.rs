//! `server:`: the listeners, who may use the admin one, and what a request may cost.

use super::{
    keys, pem,
    reader::{Reader, Section, Text},
    secrets,
    settings::{AdminToken, Limits, Role, Server},
};
use crate::domain::Secret;
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// A token shorter than this can be guessed.
const TOKEN_CHARS_GOOD: usize = 16;

/// What a server without a word about it is like.
fn defaults() -> Server {
    Server {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
        admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
        admin_tokens: Vec::new(),
        trusted_proxies: Vec::new(),
        shutdown_delay: Duration::from_secs(5),
        tls: None,
        limits: Limits::default(),
    }
}

/// Reads `server:`.
pub(super) fn read(reader: &mut Reader<'_>, file: &Section<'_>) -> Server {
    let mut server = defaults();
    let Some(section) = file.get("server").and_then(|field| reader.section(field, keys::SERVER)) else { return server };
    let form = "an address and a port, such as `127.0.0.1:9090`";
    if let Some(listen) = reader.parsed(section.get("listen"), form, |text| text.parse().ok()) {
        server.listen = listen;
    }
    if let Some(admin) = reader.parsed(section.get("admin"), form, |text| text.parse().ok()) {
        server.admin = admin;
    }
    let before = reader.diagnostics.len();
    server.admin_tokens = admin_tokens(reader, &section);
    let tokens_good = reader.diagnostics.len() == before;
    server.trusted_proxies = networks(reader, &section, "trusted_proxies");
    if let Some(delay) = reader.duration(section.get("shutdown_delay"), Duration::ZERO..=Duration::from_secs(600)) {
        server.shutdown_delay = delay;
    }
    server.tls = section.get("tls").and_then(|field| reader.section(field, keys::TLS)).and_then(|tls| {
        let cert_file = reader.required(&tls, "cert_file", "the chain, PEM");
        let key_file = reader.required(&tls, "key_file", "its private key, PEM");
        pem::pair(reader, cert_file, key_file, pem::User::Us)
    });
    server.limits = limits(reader, &section);
    let place = |key| section.get(key).map_or(section.place, |field| &field.node.span);
    if server.admin_tokens.is_empty() && tokens_good && !server.admin.ip().is_loopback() {
        let message = "the admin listener is off loopback and has no tokens";
        reader.error(message, place("admin"), "anyone who reaches it could replay, discard and erase");
    }
    if server.listen == server.admin && server.listen.port() != 0 {
        reader.error("`listen` and `admin` are the same", place("admin"), "webhooks arrive there already");
    }
    server
}

fn admin_tokens(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<AdminToken> {
    let mut tokens: Vec<AdminToken> = Vec::new();
    let items = section.get("admin_tokens").map_or(&[][..], |field| reader.list(field));
    for item in items {
        let Some(section) = reader.section_of(item, &item.span, keys::ADMIN_TOKEN) else { continue };
        let name = reader.required(&section, "name", "who it is, in the audit");
        let name = reader.filled(name);
        let role = reader.required(&section, "role", "`viewer`, `operator` or `admin`");
        let words = [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];
        let role = reader.word(role, &words);
        if section.get("token").is_none() && section.get("token_file").is_none() {
            reader.error("`token` is missing in `server.admin_tokens`", section.place, "or `token_file`");
            continue;
        }
        let Ok(given) = secrets::optional(reader, &section, "token", "token_file") else { continue };
        let (Some(name), Some(role)) = (name, role) else { continue };
        if tokens.iter().any(|token| token.name == name.value) {
            reader.error(
                format!("{} is given twice", name.quoted()),
                &name.span,
                "the audit could not tell them apart",
            );
        }
        // A token that expands to nothing is no token.
        let Some(given) = given else { continue };
        let text = given.secret.expose();
        if text.chars().count() < TOKEN_CHARS_GOOD {
            reader.warn(
                "this token is short",
                &given.span,
                format!("fewer than {TOKEN_CHARS_GOOD} characters can be guessed"),
            );
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            reader.error("a token must be printable ASCII without spaces", &given.span, "it travels in a header");
        }
        let token = Secret::new(text.to_owned());
        tokens.push(AdminToken { name: name.value, role, token });
    }
    tokens
}

fn limits(reader: &mut Reader<'_>, section: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = section.get("limits").and_then(|field| reader.section(field, keys::LIMITS)) else {
        return limits;
    };
    if let Some(body) = reader.size(section.get("body"), 1 << 10..=64 << 20) {
        limits.body = body;
    }
    if let Some(headers) = reader.size(section.get("headers"), 1 << 10..=1 << 20) {
        limits.headers = headers;
    }
    if let Some(count) = reader.whole(section.get("header_count"), 8..=1_000) {
        limits.header_count = usize::try_from(count).unwrap_or(usize::MAX);
    }
    if let Some(count) = reader.whole(section.get("connections"), 1..=1_000_000) {
        limits.connections = usize::try_from(count).unwrap_or(usize::MAX);
    }
    let bounds = Duration::from_millis(100)..=Duration::from_secs(600);
    for (key, limit) in [
        ("header_timeout", &mut limits.header_timeout),
        ("body_timeout", &mut limits.body_timeout),
        ("idle_timeout", &mut limits.idle_timeout),
    ] {
        if let Some(timeout) = reader.duration(section.get(key), bounds.clone()) {
            *limit = timeout;
        }
    }
    limits
}

/// A list of networks; an address alone is the network of itself.
pub(super) fn networks(reader: &mut Reader<'_>, section: &Section<'_>, key: &'static str) -> Vec<IpNet> {
    let texts = reader.texts(section.get(key));
    texts.iter().filter_map(|text| network(reader, text)).collect()
}

fn network(reader: &mut Reader<'_>, text: &Text) -> Option<IpNet> {
    let parsed = text.value.parse::<IpNet>().ok().or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
    if parsed.is_none() {
        let message = format!("{} is not a network", text.quoted());
        reader.error(message, &text.span, "expected a CIDR, such as `10.0.0.0/8` or `2001:db8::/32`");
    }
    parsed
}
