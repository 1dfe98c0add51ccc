//! What the store costs by itself: appends in batches of several sizes, and scans of what they wrote.
//!
//! Prints events a second, CPU microseconds an event (all threads), and bytes written an event. Bodies are 1 KB; an
//! append brings as many decisions as events, as in a store whose router keeps up. Usage: `journal [events] [folder]`.

use laigu_router::{
    domain::{
        Decision, DestinationName, Fingerprint, HashKeys, Headers, Incarnation, NewEvent, OrderKey, Origin, Partition,
        RouteName, RoutedRow, SourceName, Target, TenantName, Timestamp,
    },
    journal::{
        Appender, Batch, Entry, Log, NewRouted, ReadLimit, Retention, Wanted,
        sqlite::{Options, Store, open},
    },
};
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const KEYS: HashKeys = HashKeys { first: 1, second: 2 };
const DAY: Duration = Duration::from_secs(86_400);
const P0: Partition = Partition(0);
const PAGE: ReadLimit = ReadLimit { rows: 256, bytes: 4 << 20 };

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let events: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let place = arguments.next().unwrap_or_else(|| std::env::temp_dir().display().to_string());
    println!("{:>16} {:>12} {:>12} {:>12}", "", "events/s", "CPU µs/event", "bytes/event");
    for size in [1, 16, 64, 256] {
        let folder = tempfile::tempdir_in(&place).expect("a folder for the store");
        let mut store = open(&options(folder.path())).expect("a new store opens");
        let events = if size == 1 { events / 20 } else { events };
        let batches = batches(&mut store, size);
        measure(&format!("append by {size}"), || append(&mut store, &batches, events));
        if size == 64 {
            measure("scan EVENTS", || scan_events(&store));
            measure("scan, own rows", || scan_routed(&store, "crm"));
            measure("scan, no rows", || scan_routed(&store, "elsewhere"));
            drop(store);
            let began = Instant::now();
            let store = open(&options(folder.path())).expect("the store opens again");
            println!("{:>16} {:>12}", "reopen ms", began.elapsed().as_millis());
            drop(store);
        }
    }
}

fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        retention: Retention { delivered: DAY, dead_letters: DAY, ids: DAY, size_max: 100 << 30 },
        segment_bytes_max: 1 << 30,
        incarnation: Incarnation(1),
        keys: KEYS,
        now: Timestamp::now(),
    }
}

/// Some batches to append over and over: what is in them does not matter to the store.
fn batches(store: &mut Store, size: usize) -> Vec<Batch> {
    let first = Batch { events: vec![(event(0), false)], routed: vec![] };
    store.appender.append(&first).expect("the first event is stored");
    let page = store.log.events(P0, 1, PAGE).expect("it is read");
    let Some(Entry::Row(about)) = page.rows.first() else { panic!("the first event is whole") };
    let target = |destination: &str| Target {
        route: RouteName::parse("everything").expect("a name"),
        destination: DestinationName::parse(destination).expect("a name"),
        address: Some("customer.wx".into()),
        parts: Default::default(),
    };
    let decision = Decision { targets: vec![target("crm"), target("archive")], ..Decision::default() };
    let row = RoutedRow { event: about.position(), job: 0, generation: 1, decision, enrichment: vec![] };
    let batch = |number: usize| Batch {
        events: (0..size).map(|n| (event(number * size + n), false)).collect(),
        routed: (0..size).map(|_| NewRouted { row: row.clone(), event: Arc::clone(about) }).collect(),
    };
    (0..8).map(batch).collect()
}

fn event(number: usize) -> NewEvent {
    let body = format!("{{\"event\":\"cus.upsert\",\"id\":\"sub_{number:012}\",\"body\":\"{}\"}}", "x".repeat(960));
    let id = format!("sub_{number:012}");
    NewEvent {
        source: SourceName::parse("laigu").expect("a name"),
        tenant: TenantName::parse("acme").expect("a name"),
        kind: "cus.upsert".into(),
        key: Some(format!("track-{number}").into()),
        origin: Origin::Push,
        sent_at: Some(Timestamp::now()),
        received_at: Timestamp::now(),
        headers: Headers("content-type: application/json\nuser-agent: laigu/1.0\n".into()),
        payload: Some(50..1_000),
        order: Some(OrderKey(number as u64)),
        id_hash: KEYS.id("laigu", "acme", &id),
        body_hash: KEYS.body(body.as_bytes()),
        fingerprint: Fingerprint::default(),
        superseded: false,
        vendor_id: Some(id.into()),
        body: body.into(),
    }
}

fn append(store: &mut Store, batches: &[Batch], events: u64) -> u64 {
    let mut appended = 0;
    for batch in batches.iter().cycle() {
        store.appender.append(batch).expect("there is room");
        appended += batch.events.len() as u64;
        if appended >= events {
            break;
        }
    }
    appended
}

fn scan_events(store: &Store) -> u64 {
    let (mut from, mut rows) = (1, 0);
    loop {
        let page = store.log.events(P0, from, PAGE).expect("it is read");
        if page.next == from {
            return rows;
        }
        (from, rows) = (page.next, rows + page.rows.len() as u64);
    }
}

/// Reads all of ROUTED as a lane does; what is counted is the rows passed.
fn scan_routed(store: &Store, destination: &str) -> u64 {
    let wanted = Wanted::Destination(DestinationName::parse(destination).expect("a name"));
    let mut from = 1;
    loop {
        let page = store.log.routed(P0, from, &wanted, PAGE).expect("it is read");
        if page.next == from {
            return from;
        }
        from = page.next;
    }
}

fn measure(what: &str, work: impl FnOnce() -> u64) {
    let (cpu, bytes, began) = (cpu_nanos(), bytes_written(), Instant::now());
    let events = work();
    let per = |total: u64| total as f64 / events as f64;
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, bytes) = (cpu_nanos() - cpu, bytes_written() - bytes);
    println!("{what:>16} {:>12.0} {:>12.2} {:>12.0}", events as f64 / seconds, per(cpu) / 1e3, per(bytes));
}

/// Time on a CPU of all threads of this process.
fn cpu_nanos() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let nanos = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    threads.filter_map(nanos).sum()
}

fn bytes_written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").expect("Linux");
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}
