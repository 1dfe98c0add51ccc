//! The tables behind the tidy rules: layers from the bottom up, homes of crates, words that must not stay.

/// The longest a file may be, in lines.
pub const LINES_MAX: usize = 450;

/// A part of the program.
pub struct Layer {
    /// As imports name it.
    pub name: &'static str,
    /// Where it lies: a file, or a folder with its `/`.
    pub path: &'static str,
    /// What it may import, in groups; all of it stands above this row.
    pub may_use: &'static [&'static [&'static str]],
}

const fn layer(name: &'static str, path: &'static str, may_use: &'static [&'static [&'static str]]) -> Layer {
    Layer { name, path, may_use }
}

/// Plain values and the seams.
const SEAMS: &[&str] = &["domain", "journal", "config", "destinations", "ingress"];
/// What every part may use.
const BASE: &[&str] = &["domain", "journal", "config", "destinations", "ingress", "core", "metrics"];
/// What stages and the top wire together.
const PARTS: &[&str] = &["journal::sqlite", "destinations::*", "routing", "vendors", "enrich"];

/// Who may import whom, from the bottom up. A seam is a trait with its plain values, in a `mod.rs`; it stands lower than
/// the files beside it, which are `name::*`.
pub const LAYERS: &[Layer] = &[
    layer("lib", "src/lib.rs", &[]),
    layer("domain", "src/domain/", &[]),
    layer("journal", "src/journal/", &[&["domain"]]),
    layer("config", "src/config/", &[&["domain", "journal"]]),
    layer("destinations", "src/destinations/mod.rs", &[&["domain", "config"]]),
    layer("ingress", "src/ingress/mod.rs", &[&["domain"]]),
    layer("core", "src/core/", &[SEAMS]),
    layer("metrics", "src/metrics.rs", &[&["domain", "journal", "config", "core"]]),
    layer("telemetry", "src/telemetry.rs", &[&["domain", "config"]]),
    // Parts: each does one thing with the outside, and none knows another.
    layer("journal::memory", "src/journal/memory", &[&["domain", "journal", "core"]]),
    layer("journal::sqlite", "src/journal/sqlite", &[BASE]),
    layer("destinations::*", "src/destinations/", &[BASE]),
    layer("routing", "src/routing/", &[SEAMS, &["core"]]),
    layer("vendors", "src/vendors/", &[BASE]),
    layer("enrich", "src/enrich/", &[BASE, &["vendors"]]),
    layer("sandbox", "src/sandbox/", &[&["domain", "config", "core", "vendors"]]),
    layer("retention", "src/retention.rs", &[BASE, &["journal::sqlite"]]),
    // Stages.
    layer("ingress::*", "src/ingress/", &[BASE, &["vendors"]]),
    layer("lanes", "src/lanes/", &[BASE, &["destinations::*", "routing", "vendors", "enrich"]]),
    layer("reconcile", "src/reconcile/", &[BASE, &["journal::sqlite", "vendors", "enrich", "lanes"]]),
    // The program's handles: what runs, by name. The admin API steers through them; `app` itself is above it.
    layer("app::*", "src/app/", &[BASE, PARTS, &["ingress::*", "lanes", "reconcile"]]),
    layer("admin", "src/admin/", &[BASE, PARTS, &["ingress::*", "lanes", "reconcile", "app::*"]]),
    // The top.
    layer(
        "app",
        "src/app/mod.rs",
        &[BASE, PARTS, &["telemetry", "sandbox", "retention", "ingress::*", "lanes", "reconcile", "app::*", "admin"]],
    ),
    layer("demo", "src/demo", &[BASE, PARTS, &["sandbox", "app::*", "app"]]),
    layer("cli", "src/cli/", &[BASE, PARTS, &["telemetry", "sandbox", "retention", "app::*", "app", "demo"]]),
    layer("main", "src/main.rs", &[&["config", "telemetry", "app::*", "app", "demo", "cli"]]),
];

/// Whether a row's path covers a file: the file itself, or the folder it is in.
pub fn begins(row: &str, path: &str) -> bool {
    path.strip_prefix(row).is_some_and(|rest| row.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '.']))
}

/// Where a third-party crate may be named.
pub enum Home {
    /// A word of the language here.
    Anywhere,
    /// Everywhere but there.
    NotIn(&'static [&'static str]),
    /// There alone.
    Only(&'static [&'static str]),
}

/// What decides without doing: no runtime, no clock, no chance, no I/O.
const PURE: &[&str] = &["src/domain/", "src/core/", "src/routing/"];

/// The home of every dependency.
pub const CRATES: &[(&str, Home)] = &[
    ("axum", Home::Only(&["src/admin/", "src/sandbox/"])),
    (
        "http",
        Home::Only(&[
            "src/config/",
            "src/ingress/",
            "src/admin/",
            "src/vendors/",
            "src/sandbox/",
            "src/enrich/",
            "src/reconcile/",
        ]),
    ),
    ("http_body_util", Home::Only(&["src/ingress/", "src/admin/"])),
    ("hyper", Home::Only(&["src/ingress/", "src/sandbox/"])),
    ("hyper_util", Home::Only(&["src/ingress/", "src/admin/", "src/sandbox/"])),
    ("tokio", Home::NotIn(PURE)),
    ("tokio_util", Home::NotIn(PURE)),
    ("tokio_rustls", Home::Only(&["src/ingress/", "src/destinations/rabbitmq"])),
    ("tokio_stream", Home::NotIn(PURE)),
    ("futures_util", Home::NotIn(PURE)),
    ("bytes", Home::Anywhere),
    ("ipnet", Home::Only(&["src/config/", "src/ingress/"])),
    ("listenfd", Home::Only(&["src/ingress/", "src/app"])),
    ("serde", Home::Anywhere),
    ("serde_json", Home::Anywhere),
    ("serde_saphyr", Home::Only(&["src/config/"])),
    ("annotate_snippets", Home::Only(&["src/config/"])),
    ("jiff", Home::Only(&["src/domain/", "src/destinations/file/", "src/vendors/", "src/cli/"])),
    ("memchr", Home::Anywhere),
    ("hmac", Home::Only(&["src/vendors/"])),
    ("sha1", Home::Only(&["src/vendors/", "src/sandbox/"])),
    ("sha2", Home::Only(&["src/config/", "src/admin/", "src/vendors/", "src/domain/hashing.rs"])),
    ("siphasher", Home::Only(&["src/domain/hashing.rs", "src/destinations/traceparent.rs"])),
    ("subtle", Home::Only(&["src/domain/", "src/admin/", "src/vendors/"])),
    ("hex", Home::Anywhere),
    ("base64", Home::Anywhere),
    ("secrecy", Home::Only(&["src/domain/secret.rs"])),
    ("fastrand", Home::NotIn(PURE)),
    ("getrandom", Home::NotIn(PURE)),
    ("xorf", Home::Only(&["src/journal/sqlite/"])),
    ("cel", Home::Only(&["src/routing/"])),
    ("minijinja", Home::Only(&["src/routing/", "src/admin/console"])),
    // The demo reads back with the bare client, so that it does not believe the destination.
    ("lapin", Home::Only(&["src/destinations/rabbitmq", "src/demo/rabbitmq.rs"])),
    ("rdkafka", Home::Only(&["src/destinations/kafka", "src/demo/kafka.rs"])),
    ("regex", Home::Only(&["src/routing/"])),
    ("reqwest", Home::Only(&["src/vendors/", "src/cli/"])),
    ("rustls", Home::NotIn(PURE)),
    ("url", Home::NotIn(PURE)),
    ("clap", Home::Only(&["src/cli/", "src/main.rs"])),
    ("clap_complete", Home::Only(&["src/cli/"])),
    ("thiserror", Home::Anywhere),
    ("anyhow", Home::Only(&["src/app", "src/demo", "src/cli/", "src/main.rs"])),
    ("arc_swap", Home::NotIn(PURE)),
    ("tracing", Home::NotIn(PURE)),
    ("tracing_subscriber", Home::Only(&["src/telemetry.rs", "src/main.rs"])),
    ("prometheus_client", Home::Only(&["src/metrics.rs"])),
    ("rustix", Home::Only(&["src/app/descriptors.rs", "src/journal/sqlite/folder.rs"])),
    ("rusqlite", Home::Only(&["src/journal/sqlite/"])),
    ("mimalloc", Home::Only(&["src/main.rs"])),
];

/// What of a file is searched.
#[derive(Clone, Copy)]
pub enum Counts {
    /// All of it, comments and literals too.
    Text,
    /// Its code.
    Code,
    /// Its code without unit tests.
    Shipped,
}

/// A text that must not stay in the source.
pub struct Word {
    /// The text.
    pub text: &'static str,
    /// Why not.
    pub why: &'static str,
    /// Which text of a file counts.
    pub counts: Counts,
    /// Where it counts.
    pub within: &'static [&'static str],
    /// Where it may be all the same.
    pub except: &'static [&'static str],
}

const ALL: &[&str] = &["src/", "tests/", "benches/", "fuzz/"];
const UNFINISHED: &str = "finish it, or leave it out and say so";
const PRINTS: &str = "commands print; everything else uses tracing";
const PRINTERS: &[&str] = &["src/cli/", "src/demo", "src/main.rs"];
const OUTSIDE: &str = "the machines take time, chance and the world as inputs";

const fn word(text: &'static str, why: &'static str, counts: Counts) -> Word {
    Word { text, why, counts, within: ALL, except: &[] }
}

const fn print(text: &'static str) -> Word {
    Word { text, why: PRINTS, counts: Counts::Code, within: &["src/"], except: PRINTERS }
}

const fn outside(text: &'static str) -> Word {
    Word { text, why: OUTSIDE, counts: Counts::Shipped, within: PURE, except: &["src/domain/time.rs"] }
}

/// Words that must not stay. Those that this file would trip over are written in two halves.
pub const WORDS: &[Word] = &[
    word("todo!", UNFINISHED, Counts::Code),
    word("unimplemented!", UNFINISHED, Counts::Code),
    word("dbg!", "left over from a search", Counts::Code),
    word("#[ignore", "a test that does not run proves nothing", Counts::Code),
    word(concat!("TO", "DO"), "do it, or open an issue", Counts::Text),
    word(concat!("FIX", "ME"), "fix it, or open an issue", Counts::Text),
    print("println!"),
    print("print!"),
    print("eprintln!"),
    print("eprint!"),
    outside("SystemTime"),
    outside("Instant::now"),
    outside("std::fs"),
    outside("std::net::Tcp"),
    outside("thread::sleep"),
    outside("async fn"),
    outside("async move"),
];
