//! The one HTTP client for vendors' APIs: it goes nowhere but where it was told, and takes no more than it can bear.
//!
//! Promises: no redirects, no proxies from the environment, one attempt a call, one deadline over connecting,
//! sending and reading; at most 1 MiB of answer after decompression; no link-local or metadata address; no URL,
//! credential or answer text in an error. It does not retry, does not pace, and knows no vendor's error codes.
//! What a failed call means for the other side is [`Error::reached`].

use crate::vendors::guard::{self, GuardedResolver, Plaintext, Refusal};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::{sync::Arc, time::Duration};
use url::Url;

/// The most an answer may weigh once decompressed: a page of 20 records is about 100 KB.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The deepest an answer may nest; the vendors' own go to 6.
pub const ANSWER_DEPTH_MAX: usize = 32;

/// How long a connection may take to be made; shorter than any deadline, so that "not sent" can be told.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A vendor that wants us to wait longer than this gets asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// For a call as a whole.
    pub deadline: Duration,
    /// Whether plain `http` may be spoken.
    pub plaintext: Plaintext,
}

impl Options {
    /// For a base URL that the configuration has let through: it asks for `allow_http` before it takes plain `http`.
    #[must_use]
    pub fn configured() -> Self {
        Self { plaintext: Plaintext::Anywhere, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), plaintext: Plaintext::default() }
    }
}

/// One request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a Method,
    /// Segments below the base URL; each must be `[A-Za-z0-9_-]{1,64}`; none: the base URL itself.
    pub path: &'a [&'a str],
    /// Query parameters, in order.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers that carry credentials; names in lower case.
    pub credentials: &'a [(&'static str, &'a str)],
    /// The body, which is JSON.
    pub body: Option<&'a [u8]>,
}

/// An answer, whole and within bounds; its content is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status: anything but 3xx.
    pub status: StatusCode,
    /// `Retry-After` in seconds, at most an hour.
    pub retry_after: Option<Duration>,
    /// The body, decompressed.
    pub body: Bytes,
}

/// Whether the other side may have acted on a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It never saw the call.
    No,
    /// It may have.
    Perhaps,
    /// It answered.
    Yes,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call was not made.
    #[error("the call was refused before it was sent")]
    Refused(#[from] Refusal),
    /// A credential or the client itself cannot be used.
    #[error("{0}")]
    Setup(&'static str),
    /// No connection.
    #[error("cannot connect to the API")]
    NotSent(#[source] reqwest::Error),
    /// The connection broke after the call may have been sent.
    #[error("the connection broke before the answer was whole")]
    Broken(#[source] reqwest::Error),
    /// The deadline passed.
    #[error("no whole answer within {0:?}")]
    Deadline(Duration),
    /// A redirect, which is never followed: it would carry the credentials elsewhere.
    #[error("the API answered with a redirect ({0}), which is never followed: check `base_url`")]
    Redirect(StatusCode),
    /// More than [`ANSWER_BYTES_MAX`].
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// The answer says it is compressed, and is not.
    #[error("the answer cannot be decompressed")]
    Garbled(#[source] reqwest::Error),
    /// The answer is not JSON.
    #[error("the answer (HTTP {0}) is not JSON")]
    NotJson(StatusCode),
    /// The answer nests deeper than [`ANSWER_DEPTH_MAX`].
    #[error("the answer nests deeper than {ANSWER_DEPTH_MAX} levels")]
    TooDeep,
}

impl Error {
    /// Whether the other side may have acted on the call.
    #[must_use]
    pub const fn reached(&self) -> Reached {
        match self {
            Self::Refused(_) | Self::Setup(_) | Self::NotSent(_) => Reached::No,
            Self::Broken(_) | Self::Deadline(_) => Reached::Perhaps,
            Self::Redirect(_) | Self::TooLarge | Self::Garbled(_) | Self::NotJson(_) | Self::TooDeep => Reached::Yes,
        }
    }

    /// A word for it, of a closed set: for a metric.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "unreachable",
            Self::Broken(_) => "broken",
            Self::Deadline(_) => "deadline",
            Self::Redirect(_) => "redirect",
            Self::Refused(_) | Self::Setup(_) => "setup",
            Self::TooLarge | Self::TooDeep | Self::Garbled(_) | Self::NotJson(_) => "unreadable",
        }
    }
}

/// A word for an HTTP status that is no success, of a closed set: for a metric.
#[must_use]
pub const fn status_word(status: u16) -> &'static str {
    match status {
        401 => "http_401",
        403 => "http_403",
        404 => "http_404",
        429 => "http_429",
        400..=499 => "http_4xx",
        500..=599 => "http_5xx",
        _ => "http_other",
    }
}

/// The client for one base URL; cheap to clone, keeps connections.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: Url,
    deadline: Duration,
}

impl Http {
    /// Takes a base URL from the configuration.
    ///
    /// # Errors
    /// [`Error::Refused`] when the URL may not be called, [`Error::Setup`] when the system has no usable TLS roots.
    pub fn new(base: &Url, options: Options) -> Result<Self, Error> {
        guard::check_base(base, options.plaintext)?;
        // Whoever comes first installs it; all of us want the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .gzip(true)
            .retry(reqwest::retry::never())
            .dns_resolver(Arc::new(GuardedResolver))
            .connect_timeout(CONNECT_TIMEOUT.min(options.deadline))
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("laigu-router/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| Error::Setup("cannot set up TLS: no usable root certificates"))?;
        Ok(Self { client, base: base.clone(), deadline: options.deadline })
    }

    /// Makes one attempt at one call.
    ///
    /// # Errors
    /// [`Error`]; every HTTP status but 3xx is an answer, not an error.
    ///
    /// # Cancel safety
    /// Dropped after it was first polled, it is not known whether the call was made.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, Error> {
        let request = self.request(call)?;
        match tokio::time::timeout(self.deadline, self.exchange(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline(self.deadline)),
        }
    }

    fn request(&self, call: Call<'_>) -> Result<reqwest::Request, Error> {
        let mut url = guard::below(&self.base, call.path)?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = reqwest::Request::new(call.method.clone(), url);
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, text) in call.credentials {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| Error::Setup("a credential holds characters that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(*name, value);
        }
        if let Some(body) = call.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.to_vec().into());
        }
        Ok(request)
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<Answer, Error> {
        let mut response = self.client.execute(request).await.map_err(not_answered)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Error::Redirect(status));
        }
        if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
            return Err(Error::TooLarge);
        }
        let retry_after = retry_after(response.headers());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(not_whole)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body: body.freeze() })
    }
}

impl Answer {
    /// The body as the text of a JSON object or array, of bounded depth. Values in it are not parsed yet.
    ///
    /// # Errors
    /// [`Error::NotJson`] for an HTML page, an empty body or anything else; [`Error::TooDeep`].
    pub fn json(&self) -> Result<&str, Error> {
        let text = std::str::from_utf8(&self.body).map_err(|_| Error::NotJson(self.status))?;
        if !text.trim_start().starts_with(['{', '[']) {
            return Err(Error::NotJson(self.status));
        }
        if depth(text.as_bytes()) > ANSWER_DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        Ok(text)
    }
}

fn not_answered(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_connect() { Error::NotSent(error) } else { Error::Broken(error) }
}

fn not_whole(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_decode() { Error::Garbled(error) } else { Error::Broken(error) }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// How deep brackets nest, brackets in strings left out. Says nothing of whether they match.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// What the vendor said about an error, fit to be shown: our own credentials taken out, one line, 200 characters.
#[must_use]
pub fn presentable(said: &str, credentials: &[&str]) -> String {
    let mut text = said.to_owned();
    for credential in credentials.iter().filter(|credential| !credential.is_empty()) {
        text = text.replace(credential, "[secret]");
    }
    text.chars().take(200).flat_map(char::escape_debug_unless_plain).collect()
}

trait Plain {
    fn escape_debug_unless_plain(self) -> Vec<char>;
}

impl Plain for char {
    /// Quotes stay; control, bidi and invisible characters become `\u{…}`.
    fn escape_debug_unless_plain(self) -> Vec<char> {
        if matches!(self, '"' | '\'' | '\\') { vec![self] } else { self.escape_debug().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Error, depth, presentable, retry_after};
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode, header};
    use std::time::Duration;

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, retry_after: None, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (json, expected) in [("{}", 1), (r#"{"a":[{}]}"#, 3), (r#"{"a":"[[[[","b":"\"{{"}"#, 1), ("[[],[[]]]", 3)] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn what_is_not_json_or_too_deep_is_refused() {
        assert!(matches!(answer("<html>").json(), Err(Error::NotJson(_))));
        assert!(matches!(answer("").json(), Err(Error::NotJson(_))));
        assert!(answer(&format!("{}{}", "[".repeat(32), "]".repeat(32))).json().is_ok());
        assert!(matches!(answer(&"[".repeat(33)).json(), Err(Error::TooDeep)));
    }

    #[test]
    fn the_vendors_wish_to_wait_is_bounded() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("999999"), Some(Duration::from_secs(3600)));
        assert_eq!(read("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }

    #[test]
    fn a_vendors_words_are_shown_without_our_credentials_or_control_characters() {
        let said = "sign s3cret is \"wrong\"\n\u{1b}[31m\u{202e}坏";
        assert_eq!(presentable(said, &["s3cret", ""]), "sign [secret] is \"wrong\"\\n\\u{1b}[31m\\u{202e}坏");
        assert_eq!(presentable(&"x".repeat(500), &[]).len(), 200);
    }
}
