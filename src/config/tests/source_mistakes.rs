//! Mistakes below `sources:`.

use super::mistakes::check;

#[test]
fn sources_and_signatures() {
    check(
        "sources",
        "{ a: { tenants: { b: { secret: x } } } }",
        &["a | `a` has no `type` | one of `laigu`, `laigu-automation`, `meiqia`, `easemob-kefu`, `webhook`"],
    );
    check(
        "sources",
        "{ a: { type: laigo, tenants: { 'b/c': {} } } }",
        &[
            "laigo | `laigo` is not a type | did you mean `laigu`?",
            "'b/c' | `b/c` is not a name | expected 1 to 64 letters, digits, `_`, `-` or `.`, starting with a letter or \
         digit",
            "'b/c' | `secret` is missing in `sources.*.tenants.*` | this source is signed: without a secret every push \
         would be refused",
        ],
    );
    check(
        "sources",
        "{ a: { type: webhook, tenants: { b: {} } } }",
        &["a | `signature` is missing in `sources.*` | a `webhook` must say how it is signed, or `scheme: none`"],
    );
    check(
        "sources",
        "{ a: { type: webhook, signature: { scheme: hmac-sha256 }, tenants: { b: { secret: x } } } }",
        &["signature | `headers` is missing in `sources.*.signature` | such as `headers: [X-Signature]`"],
    );
    check(
        "sources",
        "{ a: { type: webhook, signature: { scheme: standard-webhooks, headers: [a b], encoding: hex }, tenants: \
         { b: { secret: x } } } }",
        &[
            "a b | this is not a header's name | expected letters, digits and `-`, such as `X-Signature`",
            "encoding | `encoding` has no use here | the scheme fixes it",
            "x | this is not a secret of Standard Webhooks | expected base64, with `whsec_` before it or not",
        ],
    );
    check(
        "sources",
        "{ a: { type: webhook, signature: { scheme: none }, fields: { id: id, payload: 'header:X' }, tenants: \
         { b: { path_secret: 0123456789abcdef } } } }",
        &[
            "id | `id` cannot be read | expected a JSON pointer such as `/customer/id`, or `header:X-Event-Id`",
            "'header:X' | `payload` cannot be a header | expected a JSON pointer to an object",
        ],
    );
}

fn check_tenant(kind: &str, tenant: &str, expected: &[&str]) {
    check("sources", &format!("{{ a: {{ type: {kind}, tenants: {{ b: {tenant} }} }} }}"), expected);
}

#[test]
fn secrets() {
    check_tenant(
        "laigu",
        "{ secret: '${EMPTY}' }",
        &["'${EMPTY}' | `secret` is empty | an empty secret would let anyone in"],
    );
    check_tenant(
        "laigu",
        "{ secret_file: empty }",
        &["empty | `secret` is empty | an empty secret would let anyone in"],
    );
    check_tenant(
        "laigu",
        "{ secret_file: short }",
        &[
            "warning: short | this secret is short | SHA1(body + secret) is weak: 32 bytes or more, and `allow_from`, help",
        ],
    );
    check_tenant(
        "laigu",
        "{ secret: ['${LONG}', ''] }",
        &["'' | `secret` is empty | an empty secret would let anyone in"],
    );
    check_tenant(
        "laigu",
        "{ secret: [] }",
        &[
            "b | `secret` is missing in `sources.*.tenants.*` | this source is signed: without a secret every push would be \
         refused",
        ],
    );
    check_tenant(
        "laigu",
        "{ secret: '${LONG}', secret_file: short }",
        &["secret_file | `secret` and `secret_file` are both given | keep one of them"],
    );
    check_tenant(
        "easemob-kefu",
        "{ secret: x }",
        &[
            "b | `path_secret` is missing or empty | this source is not signed: only a secret in its URL tells its pushes \
         from forged ones",
            "x | `secret` has no use here | this source is not signed; `path_secret` guards its URL",
        ],
    );
    check_tenant(
        "laigu-automation",
        "{ path_secret: short/one }",
        &[
            "short/one | `path_secret` is too short | at least 16 characters; `openssl rand -hex 16` makes a good one",
            "short/one | `path_secret` does not fit into a URL | letters, digits, `-`, `_`, `.` and `~`",
        ],
    );
    check_tenant(
        "webhook",
        "{ path_secret: '${EMPTY}' }",
        &["a | `signature` is missing in `sources.*` | a `webhook` must say how it is signed, or `scheme: none`"],
    );
}

fn check_api(kind: &str, api: &str, expected: &[&str]) {
    let identity = if kind == "laigu" { "enterprise_id: 1, secret" } else { "tenant_id: 1, path_secret" };
    check_tenant(kind, &format!("{{ {identity}: '${{LONG}}', api: {api} }}"), expected);
}

#[test]
fn apis_and_polling() {
    check_api(
        "laigu",
        "{ access_token: '${EMPTY}' }",
        &["'${EMPTY}' | `access_token` is missing or empty | calls could not be authorised"],
    );
    check_api("laigu", "{ app_id: x }", &["app_id | `sign` is missing or empty | calls could not be authorised"]);
    check_api(
        "laigu",
        "{ rate: 0/s }",
        &[
            "api | `api` has no credentials | expected `access_token`, or `app_id` and `sign`",
            "0/s | `rate` cannot be read | expected a whole number from 1 and `/s`, `/m` or `/h`, such as `2/s`",
        ],
    );
    check_api(
        "laigu",
        "{ app_id: x, sign: y, access_token: z }",
        &["app_id | two ways to authorise are given | keep one of them"],
    );
    check_api(
        "easemob-kefu",
        "{ access_token: x }",
        &["access_token | `access_token` has no use here | this vendor's API is authorised otherwise"],
    );
    for (url, label) in [
        ("ftp://x", "expected `https://host`"),
        ("nonsense", "expected `https://host`"),
        ("http://example.com", "expected `https://`; `allow_http: true` takes plain HTTP"),
        ("https://u:hunter2@example.com", "credentials have keys of their own here"),
        ("https://example.com/a%2fb", "expected `https://host:port/path`, nothing behind it"),
        ("https://example.com/?t=hunter2", "expected `https://host:port/path`, nothing behind it"),
        ("https://169.254.169.254", "no API lies at such an address"),
        ("https://[::ffff:169.254.169.254]", "no API lies at such an address"),
    ] {
        let expected = format!("'{url}' | `base_url` cannot be used | {label}");
        check_api("laigu", &format!("{{ access_token: x, base_url: '{url}' }}"), &[&expected]);
    }
    for url in ["http://127.0.0.1:1", "https://0x7f.1", "https://localhost", "https://10.1.2.3", "http://[::1]:2"] {
        let expected = format!(
            "warning: '{url}' | `base_url` is on this machine or a private network | right for a stand-in or a proxy"
        );
        check_api("laigu", &format!("{{ access_token: x, base_url: '{url}' }}"), &[&expected]);
    }
    check_api(
        "laigu",
        "{ access_token: x, base_url: 'http://a.example', allow_http: true, path_prefix: /x }",
        &["path_prefix | `path_prefix` has no use here | only `type: easemob-kefu` has one"],
    );
    check_api(
        "easemob-kefu",
        "{ client_id: x, secret_id: y, path_prefix: '/a/{tenant}' }",
        &["'/a/{tenant}' | `path_prefix` cannot be read | expected a path such as `/api/tenants/{tenant_id}`"],
    );
    check_tenant(
        "laigu",
        "{ secret: '${LONG}', api: { access_token: x }, poll: { sessions: 5m } }",
        &[
            "api | `enterprise_id` is missing in `sources.*.tenants.*` | every call needs it",
            "poll | `poll` has no use here | `type: laigu` has none",
        ],
    );
    check_tenant(
        "laigu",
        "{ secret: '${LONG}', reconcile: {}, reports: {} }",
        &[
            "reconcile | `reconcile` needs `api` | there is nothing to ask without it",
            "reconcile | `reconcile` asks for nothing | give `clients`, `conversations` or both",
            "reports | `reports` needs `api` | there is nothing to ask without it",
            "reports | `reports` asks for nothing | give `agent_online`, `agent_service` or both",
        ],
    );
}

#[test]
fn tenants_that_a_push_could_not_tell_apart() {
    check(
        "sources",
        "{ a: { type: laigu, tenants: { b: { enterprise_token: x, secret: '${LONG}' }, c: { enterprise_token: x, secret: '${LONG}' } } } }",
        &["c | another tenant has the same `enterprise_token` | a push to the source's own URL could be either's"],
    );
}
