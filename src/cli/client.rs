//! The admin API as the verbs call it.

use super::{Global, config_file, trust::Trust};
use crate::domain::Secret;
use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{fmt, net::IpAddr, path::Path, time::Duration};
use url::Url;

/// A page of a list is read in a few hundred milliseconds; a busy server may take longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Items that a server gives at once.
const PAGE_MAX: usize = 500;
/// Where a token is looked for when none is given.
const TOKEN_VARIABLE: &str = "LAIGU_ROUTER_TOKEN";
/// Where a server listens that says nothing else.
const DEFAULT_ADMIN: &str = "http://127.0.0.1:9090";

/// Nobody answers.
#[derive(Debug)]
pub(super) struct Unreachable {
    at: String,
    guessed: bool,
    /// Somebody answers whom we do not believe.
    doubted: bool,
    why: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.doubted {
            write!(out, "who answers at {} shows a certificate that is not trusted ({})", self.at, self.why)?;
            return write!(out, "\n  name the authority's file with --ca-file FILE");
        }
        write!(out, "no server answers at {} ({})", self.at, self.why)?;
        write!(out, "\n  start one with `laigu-router serve`, or say where it is with --admin URL")?;
        if self.guessed {
            write!(out, "\n  the configuration could not be read, so the usual address was tried")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unreachable {}

/// The query of a request, and its body.
type Asked<'a> = (&'a [(&'a str, String)], Option<&'a Value>);

/// One server's admin API.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    guessed: bool,
    token: Option<Secret>,
}

impl Client {
    pub(super) fn new(global: &Global) -> anyhow::Result<Self> {
        let Place { base, guessed, trust } = match &global.admin {
            Some(url) => Place { base: url.clone(), guessed: false, trust: Trust::System },
            None => place(&global.config)?,
        };
        let trust = global.ca_file.as_deref().map_or(Ok(trust), Trust::authorities)?;
        let builder = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        // The admin API is near: a proxy for the way out would only see the token.
        let http = trust.apply(builder.no_proxy())?.build().context("cannot make an HTTP client")?;
        Ok(Self { http, base, guessed, token: token(global)? })
    }

    /// The status of a path that needs no token.
    pub(super) async fn status_of(&self, path: &str) -> anyhow::Result<u16> {
        let (status, _) = self.call(Method::GET, &[path], (&[], None), false).await?;
        Ok(status.as_u16())
    }

    /// Asks for something below `/api/v1/`; the text of its JSON.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<String> {
        self.api(Method::GET, path, (query, None)).await
    }

    /// Asks for a list, page by page until it holds `limit` items or ends: a page that was searched for long may be short.
    pub(super) async fn list(
        &self,
        path: &[&str],
        query: &[(&'static str, String)],
        limit: usize,
    ) -> anyhow::Result<Value> {
        let mut query: Vec<(&str, String)> = query.to_vec();
        let mut items: Vec<Value> = Vec::new();
        loop {
            query.retain(|(name, _)| *name != "limit");
            query.push(("limit", (limit - items.len()).min(PAGE_MAX).to_string()));
            let page: Value = serde_json::from_str(&self.get(path, &query).await?)?;
            items.extend(super::show::items(&page).iter().cloned());
            let next = page.get("next").and_then(Value::as_str).map(ToOwned::to_owned);
            let Some(cursor) = next.clone().filter(|_| items.len() < limit) else {
                return Ok(json!({"items": items, "next": next}));
            };
            query.retain(|(name, _)| *name != "cursor");
            query.push(("cursor", cursor));
        }
    }

    /// Has something done below `/api/v1/`.
    pub(super) async fn post(&self, path: &[&str], body: Option<&Value>) -> anyhow::Result<String> {
        self.api(Method::POST, path, (&[], body)).await
    }

    async fn api(&self, method: Method, path: &[&str], asked: Asked<'_>) -> anyhow::Result<String> {
        let path: Vec<&str> = ["api", "v1"].iter().chain(path).copied().collect();
        let (status, text) = self.call(method, &path, asked, true).await?;
        if status.is_success() {
            return Ok(text);
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = ["detail", "title"].iter().find_map(|member| problem.get(member)?.as_str());
        let said = said.unwrap_or_else(|| status.canonical_reason().unwrap_or("an error"));
        match status {
            StatusCode::UNAUTHORIZED => bail!(
                "the server wants a token it knows: put one of `server.admin_tokens` into {TOKEN_VARIABLE}, or name \
                 its file with --token-file"
            ),
            StatusCode::FORBIDDEN => bail!("the token's role does not allow this: {said}"),
            status => bail!("the server answers {}: {said}", status.as_u16()),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        (query, body): Asked<'_>,
        authorised: bool,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("--admin: `{}` is no http URL", self.base))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.http.request(method, url).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(token) = self.token.as_ref().filter(|_| authorised) {
            request = request.bearer_auth(token.expose());
        }
        let unreachable = |error: reqwest::Error| {
            let error = error.without_url();
            Unreachable {
                at: self.base.to_string().trim_end_matches('/').to_owned(),
                guessed: self.guessed,
                doubted: causes(&error).any(is_doubt),
                why: causes(&error).last().map_or_else(|| error.to_string(), ToString::to_string),
            }
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        Ok((status, response.text().await.map_err(unreachable)?))
    }
}

/// Where the server is.
struct Place {
    base: Url,
    /// The file could not be read here, so this is the usual address.
    guessed: bool,
    trust: Trust,
}

/// `server.admin`.
fn place(path: &Path) -> anyhow::Result<Place> {
    let usual = || Url::parse(DEFAULT_ADMIN).context("the usual address is a URL");
    let Ok(loaded) = config_file::load(path) else {
        return Ok(Place { base: usual()?, guessed: true, trust: Trust::System });
    };
    let server = &loaded.settings.server;
    let mut at = server.admin;
    if at.port() == 0 {
        bail!("`server.admin` has port 0, which is another one at every start: say --admin URL");
    }
    if at.ip().is_unspecified() {
        at.set_ip(match at.ip() {
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        });
    }
    let (scheme, trust) = match &server.tls {
        Some(tls) => ("https", Trust::leaf(&tls.cert_file.path)?),
        None => ("http", Trust::System),
    };
    let base = Url::parse(&format!("{scheme}://{at}")).context("an address makes a URL")?;
    Ok(Place { base, guessed: false, trust })
}

fn token(global: &Global) -> anyhow::Result<Option<Secret>> {
    let (place, text) = match (&global.token, &global.token_file) {
        (Some(token), _) => ("--token".to_owned(), token.expose().to_owned()),
        (None, Some(file)) => {
            let place = format!("--token-file: `{}`", file.display());
            let text = std::fs::read_to_string(file).with_context(|| format!("{place} cannot be read"))?;
            (place, text)
        }
        (None, None) => (TOKEN_VARIABLE.to_owned(), std::env::var(TOKEN_VARIABLE).unwrap_or_default()),
    };
    let text = text.trim();
    if text.is_empty() && place != TOKEN_VARIABLE {
        bail!("{place} is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{place}: the token holds something else than printable ASCII");
    }
    Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
}

/// Whether this is a certificate that is not believed. What an I/O error carries does not count as its cause.
fn is_doubt(cause: &(dyn std::error::Error + 'static)) -> bool {
    let carried = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match carried {
        Some(inner) => is_doubt(inner),
        None => matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))),
    }
}

/// An error and what caused it; the last says what happened: `Connection refused (os error 111)`.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| cause.source())
}
