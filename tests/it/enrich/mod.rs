//! Records fetched for events: the real program before the stand-in for the vendors' APIs.

mod budget;
mod lookups;
mod refresh;
mod reload;
mod required;
mod troubles;

use crate::{
    crash::{
        load::answer,
        push::{ENTERPRISE, SECRET},
    },
    program::{Home, PATIENCE, wait_for},
};
use laigu_router::{
    core::enrich::{GATHER_MAX, QUIET},
    domain::{Secret, Timestamp},
    sandbox::{
        Options, Sandbox,
        push::{client_push, conversation_push, sign},
        world::Row,
    },
};
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};
use tokio::runtime::Runtime;

/// Makes ids of pushes unique.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A stand-in for a vendor, on a runtime of its own.
pub struct Vendor {
    pub sandbox: Sandbox,
    // Dropped last: it runs the stand-in.
    _runtime: Runtime,
}

impl Vendor {
    fn new(options: Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
        Self { sandbox, _runtime: runtime }
    }

    pub fn start() -> Self {
        Self::new(Options::default())
    }

    /// The `api:` of a Laigu tenant that asks it.
    pub fn api(&self, rate: &str) -> String {
        format!("{{ base_url: '{}', access_token: sandbox-access-token, rate: {rate} }}", self.sandbox.url())
    }

    /// A conversation's push, and its id.
    fn conversation(&self, index: usize, event: &str) -> (String, Vec<u8>) {
        self.sandbox.with_world(|world| conversation(&world.conversations[index], event))
    }

    /// All calls that were made.
    pub fn calls(&self) -> u64 {
        self.sandbox.faults().all_calls().values().sum()
    }
}

pub fn conversation(row: &Row, event: &str) -> (String, Vec<u8>) {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    (row.id.clone(), conversation_push(row, event, ENTERPRISE, Timestamp::now(), number).to_vec())
}

fn client(row: &Row) -> Vec<u8> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    client_push(row, ENTERPRISE, Timestamp::now(), number).to_vec()
}

/// Calls that a burst may cost at most, told by when which conversation was pushed about: one for each, another one for each
/// [`GATHER_MAX`] that it took, and one where it was so quiet, on a slow machine, that the burst was taken for over.
pub fn calls_max(sent: &[(usize, Instant)]) -> u64 {
    let mut of_each: BTreeMap<usize, Vec<Instant>> = BTreeMap::new();
    sent.iter().for_each(|(index, at)| of_each.entry(*index).or_default().push(*at));
    let calls = |mut times: Vec<Instant>| {
        times.sort_unstable();
        let span = times[times.len() - 1].duration_since(times[0]);
        let quiet = times.windows(2).any(|pair| pair[1].duration_since(pair[0]) > QUIET / 2);
        1 + span.as_secs() / GATHER_MAX.as_secs() + u64::from(quiet)
    };
    let most = of_each.into_values().map(calls).sum();
    println!("a burst of {} may cost {most} calls", sent.len());
    most
}

/// A home with one tenant `acme` of a source `laigu`, which asks that API, and a destination `archive`.
fn home(api: &str, routes: &str) -> Home {
    Home::new("{ path: ./data }", &text(api, routes))
}

fn text(api: &str, routes: &str) -> String {
    format!(
        "sources:
  laigu:
    type: laigu
    tenants:
      acme: {{ enterprise_token: {ENTERPRISE}, enterprise_id: 104, secret: {SECRET}, api: {api} }}
destinations:
  archive: {{ type: file, path: ./archive }}
retry: {{ backoff: 100ms..300ms }}
{routes}"
    )
}

/// Pushes a signed body to `/hooks/laigu/acme`.
fn push(home: &Home, body: &[u8]) {
    push_to(home, "laigu/acme", body);
}

fn push_to(home: &Home, hook: &str, body: &[u8]) {
    let signature = sign(body, &Secret::new(SECRET.into()));
    let mut request = format!(
        "POST /hooks/{hook} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Laigu-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let mut stream = TcpStream::connect(("127.0.0.1", home.hooks)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request).unwrap();
    assert_eq!(answer(&mut stream).unwrap(), 200);
}

/// A delivered line.
struct Line {
    route: String,
    subject: String,
    delivery: String,
    /// What a consumer gets, byte for byte.
    data: String,
    value: Value,
}

impl Line {
    /// `enrichment.<what>`.
    fn part(&self, what: &str) -> &Value {
        &self.value["enrichment"][what]
    }

    /// The status of a part, and its reason.
    fn ended(&self, what: &str) -> (&str, &str) {
        let part = self.part(what);
        (part["status"].as_str().unwrap_or("none"), part["reason"].as_str().unwrap_or(""))
    }
}

/// Everything that was delivered to a folder so far.
fn lines_of(home: &Home, folder: &str) -> Vec<Line> {
    let entries = fs::read_dir(home.path(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "ndjson")).collect();
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        // The last line may be half written.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(line).unwrap();
            let word =
                |name: &str| members.get(name).map(|raw| raw.get().trim_matches('"').to_owned()).unwrap_or_default();
            let data = members["data"].get().to_owned();
            let value = serde_json::from_str(&data).unwrap();
            lines.push(Line {
                route: word("xroute"),
                subject: word("subject"),
                delivery: word("xdelivery"),
                data,
                value,
            });
        }
    }
    lines
}

fn lines(home: &Home) -> Vec<Line> {
    lines_of(home, "archive")
}

/// Waits until so many lines are there.
fn wait_for_lines(home: &Home, count: usize) -> Vec<Line> {
    let what = format!("{count} deliveries");
    wait_for(&what, PATIENCE, || Some(lines(home)).filter(|lines| lines.len() >= count))
}

const CONVERSATIONS: &str = "routes:\n  - { name: talks, enrich: [conversation], to: [archive] }\n";
const CLIENTS: &str = "routes:\n  - { name: leads, enrich: [client], to: [archive] }\n";
