//! Which request headers are kept beside an event.

use crate::{
    config::settings::{FieldPath, Fields},
    domain::Headers,
};
use http::{HeaderMap, HeaderName};

/// Kept whatever the source.
const ALWAYS: [&str; 3] = ["content-type", "user-agent", "traceparent"];

/// A header with one of these among its words carries a credential, or the address of somebody.
const SECRET_WORDS: [&str; 15] = [
    "sign",
    "sig",
    "signature",
    "hmac",
    "token",
    "secret",
    "auth",
    "authorization",
    "cookie",
    "password",
    "apikey",
    "key",
    "jwt",
    "forwarded",
    "ip",
];

/// Chooses the headers to keep: `content-type`, `user-agent`, `traceparent`, `x-…`, and those that `fields` reads;
/// never a signature's or what looks like a credential.
#[must_use]
pub fn kept(headers: &HeaderMap, signatures: &[HeaderName], fields: Option<&Fields>) -> Headers {
    let mut text = String::new();
    for (name, value) in headers {
        let name_text = name.as_str();
        let named = || is_named(name_text, fields);
        let wanted = ALWAYS.contains(&name_text) || (name_text.starts_with("x-") && !is_secret(name_text)) || named();
        if !wanted || signatures.contains(name) {
            continue;
        }
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
        // Mostly there is one, and then nothing is moved again.
        text.reserve_exact(name_text.len() + value.len() + 3);
        text.push_str(name_text);
        text.push_str(": ");
        text.push_str(value);
        text.push('\n');
    }
    Headers(text.into())
}

fn is_secret(name: &str) -> bool {
    name.split('-').any(|word| SECRET_WORDS.contains(&word))
}

fn is_named(name: &str, fields: Option<&Fields>) -> bool {
    let Some(fields) = fields else { return false };
    [&fields.id, &fields.kind, &fields.key, &fields.time]
        .into_iter()
        .flatten()
        .any(|path| matches!(path, FieldPath::Header(header) if header == name))
}

#[cfg(test)]
mod tests {
    use super::kept;
    use crate::config::settings::{FieldPath, Fields};
    use http::{HeaderMap, HeaderName, HeaderValue};

    #[test]
    fn headers_are_kept_unless_they_carry_a_secret() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("host", "h"),
            ("x-request-id", "r"),
            ("x-hub-signature-256", "s"),
            ("x-api-key", "s"),
            ("x-sign", "s"),
            ("x-forwarded-for", "9.9.9.9"),
            ("laigu-sign", "s"),
            ("x-mark", "s"),
            ("authorization", "s"),
            ("webhook-id", "w"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let fields = Fields {
            id: Some(FieldPath::Header("webhook-id".to_owned())),
            kind: None,
            key: None,
            time: None,
            payload: None,
        };
        let signatures = [HeaderName::from_static("x-mark"), HeaderName::from_static("authorization")];
        let kept = kept(&headers, &signatures, Some(&fields));
        let mut lines: Vec<_> = kept.0.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["content-type: application/json", "webhook-id: w", "x-request-id: r"]);
    }
}
