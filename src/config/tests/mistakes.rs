//! Each mistake, with the text that is marked and the words beside it.

use super::read;
use crate::config::diagnostic::Diagnostic;

/// A file without a mistake, by section.
const GOOD: [(&str, &str); 5] = [
    ("version", "1"),
    ("server", "{}"),
    ("sources", "{ laigu: { type: laigu, tenants: { acme: { secret: 0123456789abcdef0123456789abcdef } } } }"),
    ("destinations", "{ out: { type: file, path: out } }"),
    ("routes", "[{ name: all, to: [out] }]"),
];

const ENV: [(&str, &str); 4] = [
    ("WORD", "hunter2"),
    ("EMPTY", ""),
    ("LONG", "a-secret-that-is-long-enough-for-all"),
    ("URL", "amqp://u:hunter2@h"),
];

/// The good file with one section replaced or added; a value of several lines is indented below its key.
pub(super) fn file(section: &str, value: &str) -> String {
    let mut parts: Vec<(&str, &str)> = GOOD.into_iter().filter(|(name, _)| *name != section).collect();
    parts.push((section, value));
    let line = |(name, value): (&str, &str)| match value.contains('\n') {
        true => format!("{name}:\n  {}\n", value.trim().replace('\n', "\n  ")),
        false => format!("{name}: {value}\n"),
    };
    parts.into_iter().map(line).collect()
}

fn told(text: &str, list: &[Diagnostic]) -> Vec<String> {
    let shown = list.iter().map(|one| {
        let marked = text.get(one.span.clone()).unwrap_or("nothing");
        let mark = if marked.is_empty() { "nothing" } else { marked };
        format!("{mark} | {} | {}", one.message, one.label)
    });
    shown.collect()
}

pub(super) fn check(section: &str, value: &str, expected: &[&str]) {
    let text = file(section, value);
    match read(&text, &ENV, &[("/etc/lr/empty", "\n"), ("/etc/lr/short", "short\n")]) {
        Ok(loaded) => {
            let warnings = told(&text, &loaded.warnings);
            assert_eq!(warnings.iter().map(|line| format!("warning: {line}")).collect::<Vec<_>>(), expected, "{text}");
        }
        Err(mistakes) => {
            assert_eq!(told(&text, &mistakes.list), expected, "{text}");
            assert!(!mistakes.to_string().contains("hunter2"), "{mistakes}");
        }
    }
}

#[test]
fn shapes_and_unknown_keys() {
    check("version", "2", &["2 | `version` cannot be read | expected `version: 1`"]);
    check("servr", "{}", &["servr | `servr` is not a key of `routes.yaml` | did you mean `server`?"]);
    check("server", "{ Admin: x }", &["Admin | `Admin` is not a key of `server` | did you mean `admin`?"]);
    check(
        "server",
        "[]",
        &["[] | a list has no place here | expected keys of `server`: `listen`, `admin`, `admin_tokens`, \
         `trusted_proxies`, `shutdown_delay`, `tls`, `limits`"],
    );
    check("server", "{ listen: [] }", &["[] | a list has no place here | expected one value"]);
    check("routes", "x", &["x | a text has no place here | expected a list, such as `routes: […]`"]);
    check("sources", "{}", &["sources | `sources` is empty | name at least one"]);
    check("sources", "", &["version | `sources` is missing in `routes.yaml` | who pushes to us"]);
    check(
        "routes",
        "[{ name: all, to: [out], stop: no }]",
        &["no | `stop` cannot be read | expected `true` or `false`"],
    );
    check("unrouted", "kep", &["kep | `kep` is not a value of `unrouted` | did you mean `keep`?"]);
    check(
        "unrouted",
        "${WORD}",
        &["${WORD} | this value is not a value of `unrouted` | known here: `keep`, `discard`"],
    );
}

#[test]
fn variables() {
    check(
        "unrouted",
        "${NOT_SET}",
        &["${NOT_SET} | the variable `NOT_SET` is not set | set it, or give a default: `${NOT_SET:-…}`"],
    );
    check(
        "storage",
        "{ path: \"a/${NOT_SET}/b\" }",
        &["${NOT_SET} | the variable `NOT_SET` is not set | set it, or give a default: `${NOT_SET:-…}`"],
    );
    check(
        "storage",
        "{ path: '${A-b}' }",
        &["${A-b} | this is not a variable | write `${NAME}`, `${NAME:-default}`, or `$${` for a plain `${`"],
    );
    check("storage", "{ path: '${EMPTY}' }", &["'${EMPTY}' | `path` is empty | give a value, or leave the key out"]);
    check(
        "routes",
        "[{ name: all, to: [out], when: 'event.type == \"${WORD}\"' }]",
        &[
            "'event.type == \"${WORD}\"' | variables are not put into expressions and templates | write the value out, or \
         compare with a field of the event",
        ],
    );
}

#[test]
fn the_server() {
    check(
        "server",
        "{ listen: localhost }",
        &["localhost | `listen` cannot be read | expected an address and a port, such as `127.0.0.1:9090`"],
    );
    let open = "0.0.0.0:1 | the admin listener is off loopback and has no tokens | anyone who reaches it could replay, \
                discard and erase";
    check("server", "{ admin: '0.0.0.0:1' }", &[&open.replacen("0.0.0.0:1", "'0.0.0.0:1'", 1)]);
    check("server", "{ admin: 0.0.0.0:1, admin_tokens: [{ name: a, role: viewer, token: '${EMPTY}' }] }", &[open]);
    check("server", "{ admin: '[::1]:1', admin_tokens: [{ name: a, role: viewer, token: '${EMPTY}' }] }", &[]);
    check(
        "server",
        "{ admin: 127.0.0.1:8, listen: 127.0.0.1:8 }",
        &["127.0.0.1:8 | `listen` and `admin` are the same | webhooks arrive there already"],
    );
    check(
        "server",
        "{ admin_tokens: [{ name: a, role: opertor, token: short }] }",
        &["opertor | `opertor` is not a value of `role` | did you mean `operator`?"],
    );
    check(
        "server",
        "{ admin_tokens: [{ name: a, role: viewer, token: '${WORD}' }] }",
        &["warning: '${WORD}' | this token is short | fewer than 16 characters can be guessed"],
    );
    check(
        "server",
        "{ admin_tokens: [{ name: a, role: viewer, token_file: none }, { name: b, role: viewer }] }",
        &[
            "none | `token_file` cannot be read: entity not found | relative to the folder of this file",
            "{ name: b, role: viewer } | `token` is missing in `server.admin_tokens` | or `token_file`",
        ],
    );
    check(
        "server",
        "{ trusted_proxies: [10.0.0.0/33] }",
        &["10.0.0.0/33 | `10.0.0.0/33` is not a network | expected a CIDR, such as `10.0.0.0/8` or `2001:db8::/32`"],
    );
    check(
        "server",
        "{ limits: { body: 1MB, headers: 1GiB, header_count: 5_00, idle_timeout: 5 } }",
        &[
            "1MB | `body` cannot be read | expected bytes, or a whole number and `KiB`, `MiB` or `GiB`, such as `20GiB`",
            "1GiB | `headers` is out of bounds | expected 1KiB to 1MiB",
            "5_00 | `header_count` cannot be read | expected a whole number from 8 to 1000",
            "5 | `idle_timeout` cannot be read | expected a whole number and `ms`, `s`, `m`, `h` or `d`, such as `10m`",
        ],
    );
    check(
        "server",
        "{ tls: { cert_file: short } }",
        &[
            "tls | `key_file` is missing in `server.tls` | its private key, PEM",
            "short | there is no certificate in `cert_file` | expected PEM, such as `-----BEGIN CERTIFICATE-----`",
        ],
    );
}

#[test]
fn the_store_and_retries() {
    check(
        "storage",
        "{ backlog_alarm: 0%, max_size: 1KiB, retain: { ids: 0s } }",
        &[
            "0% | `backlog_alarm` cannot be read | expected a whole number from 1 to 100 and `%`, such as `50%`",
            "1KiB | `max_size` is out of bounds | expected 1MiB to 1048576GiB",
            "0s | `ids` is out of bounds | expected 1s to 3650d",
        ],
    );
    for backoff in ["1s", "60s..1s", "1s..2h", "0s..1s", "1..2"] {
        check(
            "retry",
            &format!("{{ backoff: {backoff} }}"),
            &[&format!(
                "{backoff} | `backoff` cannot be read | expected the first and the longest pause, `10ms` to `1h`, such as \
             `1s..60s`"
            )],
        );
    }
    check(
        "destinations",
        "{ out: { type: file, path: data/out } }",
        &[
            "warning: data/out | the files of this destination lie in the store's folder | `storage.max_size` counts them, \
         and nothing removes them",
        ],
    );
}

/// Twenty mistakes in one file, each on a line that says so.
const TWENTY: &str = include_str!("twenty.yaml");

#[test]
fn twenty_mistakes_are_told_at_once_each_on_its_line() {
    let mistakes = read(TWENTY, &ENV, &[]).expect_err("twenty mistakes");
    let line = |at: usize| 1 + TWENTY[..at].matches('\n').count();
    let told: Vec<usize> = mistakes.list.iter().map(|one| line(one.span.start)).collect();
    let marked = TWENTY.lines().enumerate().filter(|(_, text)| text.contains("# wrong"));
    assert_eq!(told, marked.map(|(index, _)| index + 1).collect::<Vec<_>>(), "{mistakes}");
    assert_eq!(mistakes.list.len(), 20);
    let shown = mistakes.to_string();
    assert!(shown.ends_with("/etc/lr/routes.yaml: 20 mistakes"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_mistake_looks_like_a_compilers() {
    let text = file("routes", "[{ name: 线索, to: [oot] }]");
    let mistakes = read(&text, &ENV, &[]).expect_err("two mistakes");
    assert_eq!(
        mistakes.to_string(),
        "\
error: `线索` is not a name
 --> /etc/lr/routes.yaml:5:18
  |
5 | routes: [{ name: 线索, to: [oot] }]
  |                  ^^^^ expected 1 to 64 letters, digits, `_`, `-` or `.`, starting with a letter or digit

error: destination `oot` is not defined
 --> /etc/lr/routes.yaml:5:27
  |
5 | routes: [{ name: 线索, to: [oot] }]
  |                             ^^^ did you mean `out`?

/etc/lr/routes.yaml: 2 mistakes"
    );
}

#[test]
fn literal_secrets_are_masked_in_what_is_shown() {
    let text = file("sources", "{ a: { type: laigu, tenants: { b: { secret: hunter2, nam: x } } } }");
    let shown = read(&text, &ENV, &[]).expect_err("an unknown key").to_string();
    assert!(shown.contains("{ secret: *******, nam: x }"), "{shown}");
    let broken = read("secret: hunter2\na: 'b\n", &ENV, &[]).expect_err("no YAML").to_string();
    assert!(!broken.contains("hunter2"), "{broken}");
}

#[test]
fn files_that_no_one_wrote_are_refused() {
    let large = format!("version: 1 #{}\n", "x".repeat(1 << 20));
    assert!(read(&large, &ENV, &[]).expect_err("too large").to_string().contains("larger than 1MiB"));
    let many = (0..5_000).map(|index| format!("key{index}: x\n")).collect::<String>();
    let shown = read(&many, &ENV, &[]).expect_err("unknown keys").to_string();
    assert!(shown.ends_with("1000 mistakes, the first 200 are shown"), "{}", &shown[shown.len() - 200..]);
}
