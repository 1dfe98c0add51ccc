//! The disk fails below the real program: a sync that does not succeed, and no room to write.
//!
//! `shim/faults.c` stands between the program and its C library, for the files below one folder alone, and fails calls
//! while a file is there that the test makes and removes.

use crate::{
    crash::{
        files::Files,
        load::answer,
        push::{Push, SOURCES},
    },
    program::{Home, PATIENCE, Program, get, wait_for},
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::OnceLock,
    thread,
    time::Duration,
};

const ROUTES: &str = "destinations:\n  archive: { type: file, path: ./archive }\n\
                      routes:\n  - { name: everything, to: [archive] }\n";
/// Of different keys, so that they are in one batch or in several as it comes.
const KEYS: std::ops::Range<usize> = 0..16;
/// Numbers whose pushes bring the log's first checkpoint, after which its WAL is written over in place and does not grow.
const TO_A_CHECKPOINT: usize = 2_000 / 16 + 10;

/// The shim, built once for this run.
fn shim() -> &'static str {
    static BUILT: OnceLock<String> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shim/faults.c");
        let library = format!("{}/faults-{}.so", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", &library, source, "-ldl"];
        let output = Command::new("cc").args(flags).output().expect("a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    })
}

/// A home on a disk that can fail.
struct Disk {
    home: Home,
    below: PathBuf,
    once: bool,
}

impl Disk {
    /// What fails are files below this part of the data folder.
    fn new(below: &str, once: bool) -> Self {
        Self::of_size("20GiB", below, once)
    }

    fn of_size(size: &str, below: &str, once: bool) -> Self {
        let storage = format!("{{ path: ./data, max_size: {size} }}");
        let home = Home::new(&storage, &format!("{SOURCES}{ROUTES}"));
        let below = home.path("data").join(below);
        Self { home, below, once }
    }

    fn syncs_fail(&self) -> PathBuf {
        self.home.path("syncs-fail")
    }

    fn syncs_hang(&self) -> PathBuf {
        self.home.path("syncs-hang")
    }

    fn is_full(&self) -> PathBuf {
        self.home.path("is-full")
    }

    fn with_shim<T>(&self, start: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        let shown = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (below, sync) = (shown(self.below.clone()), shown(self.syncs_fail()));
        let (hang, full) = (shown(self.syncs_hang()), shown(self.is_full()));
        let mut variables = vec![("LD_PRELOAD", shim()), ("FAULT_BELOW", &below)];
        variables.extend([("FAULT_SYNC", &*sync), ("FAULT_HANG", &*hang), ("FAULT_FULL", &*full)]);
        if self.once {
            variables.push(("FAULT_ONCE", "1"));
        }
        start(&variables)
    }

    fn start(&self) -> Program {
        self.with_shim(|variables| self.home.start_with(variables))
    }

    /// Starts it without waiting for it to be ready.
    fn spawn(&self) -> Program {
        self.with_shim(|variables| self.home.spawn_with(variables))
    }

    /// Pushes all keys' numbers at the same time; how each was answered, `None` where the connection ended without one.
    fn push(&self, number: usize) -> BTreeMap<Push, Option<u16>> {
        let port = self.home.hooks;
        let one = move |key| {
            let push = Push { key, number };
            thread::spawn(move || {
                (push, TcpStream::connect(("127.0.0.1", port)).ok().and_then(|stream| post(stream, push)))
            })
        };
        KEYS.map(one).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    /// Pushes the numbers below [`TO_A_CHECKPOINT`], one push after the other: that makes the WAL as long as so many pushes
    /// can, and leaves room in it for the next checkpoint to come due.
    fn push_to_a_checkpoint(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.home.hooks)).unwrap();
        for push in (0..TO_A_CHECKPOINT).flat_map(|number| KEYS.map(move |key| Push { key, number })) {
            stream.write_all(&push.request()).unwrap();
            assert_eq!(answer(&mut stream).unwrap(), 200);
        }
    }

    /// Makes the disk full in the midst of a life: pushes all numbers from `first` on until nobody is answered 200 any
    /// more. Gives the first number that no push was answered 200 of.
    fn fill(&self, first: usize) -> usize {
        fs::write(self.is_full(), "").unwrap();
        for number in first..first + 8 * TO_A_CHECKPOINT {
            let answers = self.push(number);
            assert!(
                answers.values().all(|status| matches!(status, Some(200 | 503))),
                "{answers:?}: {}",
                self.home.log()
            );
            if answers == all(number, 503) {
                return number;
            }
        }
        panic!("the disk does not get full");
    }

    /// Makes room, and pushes numbers again until all of them are taken.
    fn make_room(&self, numbers: std::ops::Range<usize>) {
        fs::remove_file(self.is_full()).unwrap();
        for number in numbers {
            wait_for("pushes are taken again", PATIENCE, || (self.push(number) == all(number, 200)).then_some(()));
        }
    }

    /// Everything that must be there is, once, and nothing else.
    fn holds_exactly(&self, numbers: std::ops::Range<usize>) {
        let mut files = Files::new(self.home.path("archive"));
        let mut seen = BTreeMap::new();
        let wanted = numbers.len() * KEYS.len();
        wait_for("every push in the archive", PATIENCE, || {
            for line in files.read_new() {
                *seen.entry(Push::from_id(&line.vendor_id).unwrap()).or_insert(0) += 1;
            }
            (seen.len() >= wanted).then_some(())
        });
        let expected: BTreeMap<_, _> =
            numbers.flat_map(|number| KEYS.map(move |key| (Push { key, number }, 1))).collect();
        assert_eq!(seen, expected);
    }
}

fn post(mut stream: TcpStream, push: Push) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&push.request()).ok()?;
    answer(&mut stream).ok()
}

fn all(number: usize, status: u16) -> BTreeMap<Push, Option<u16>> {
    KEYS.map(|key| (Push { key, number }, Some(status))).collect()
}

fn lag(program: &Program) {
    program.wait_for("laigu_router_lag_events", &[], 0.0);
}

/// A sync of the log fails: nobody of that batch is answered 200, the process ends, and after a restart all is right.
fn check_failed_sync_of_the_log(once: bool) {
    let disk = Disk::new("events/", once);
    let mut program = disk.start();
    assert_eq!(disk.push(0), all(0, 200));
    program.wait_for("laigu_router_delivered_total", &[], KEYS.len() as f64);
    lag(&program);
    fs::write(disk.syncs_fail(), "").unwrap();
    let answers = disk.push(1);
    assert!(answers.values().all(|status| matches!(status, None | Some(503))), "{answers:?}");
    assert!(answers.values().any(|status| *status == Some(503)), "{answers:?}");
    let status = program.ended(Duration::from_secs(15));
    assert!(!status.success(), "{status}: {}", disk.home.log());
    assert!(disk.home.log().contains("sync"), "{}", disk.home.log());
    if once {
        assert!(!disk.syncs_fail().exists(), "the fault was never met");
    } else {
        // Not before the disk is well: what was recovered is synced before anything is served.
        let mut program = disk.spawn();
        let status = program.ended(PATIENCE);
        assert!(!status.success(), "{status}: {}", disk.home.log());
        fs::remove_file(disk.syncs_fail()).unwrap();
    }
    let program = disk.start();
    assert_eq!(disk.push(1), all(1, 200));
    assert_eq!(disk.push(0), all(0, 200));
    disk.holds_exactly(0..2);
    lag(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", disk.home.log());
    disk.holds_exactly(0..2);
}

#[test]
fn a_sync_of_the_log_that_fails_once_ends_the_process_and_answers_nobody_200() {
    check_failed_sync_of_the_log(true);
}

#[test]
fn a_log_that_cannot_be_synced_is_not_served_from_either() {
    check_failed_sync_of_the_log(false);
}

#[test]
fn a_failed_sync_of_the_progress_ends_the_process_and_loses_nothing() {
    let disk = Disk::new("state.db", true);
    let program = disk.start();
    assert_eq!(disk.push(0), all(0, 200));
    program.wait_for("laigu_router_delivered_total", &[], KEYS.len() as f64);
    // Every receipt is durable after a stop.
    assert!(program.terminate(PATIENCE).success(), "{}", disk.home.log());
    let mut program = disk.start();
    fs::write(disk.syncs_fail(), "").unwrap();
    let answers = disk.push(1);
    let status = program.ended(Duration::from_secs(15));
    assert!(!status.success(), "{status}: {}", disk.home.log());
    assert!(!disk.syncs_fail().exists(), "the fault was never met");
    let program = disk.start();
    assert_eq!(disk.push(1), all(1, 200));
    lag(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", disk.home.log());
    // What was out without a receipt is delivered again, one of each key at most.
    let lines = Files::new(disk.home.path("archive")).read_new();
    let count = |push: Push| lines.iter().filter(|line| line.vendor_id == push.id()).count();
    for (push, status) in answers {
        assert!((1..=2).contains(&count(push)), "{} answered {status:?} is there {} times", push.id(), count(push));
    }
    assert!(KEYS.into_iter().all(|key| count(Push { key, number: 0 }) == 1));
}

#[test]
fn a_full_disk_is_answered_503_the_process_stays_and_later_pushes_are_taken() {
    let disk = Disk::new("", false);
    let program = disk.start();
    assert_eq!(disk.push(0), all(0, 200));
    lag(&program);
    fs::write(disk.is_full(), "").unwrap();
    for _ in 0..3 {
        assert_eq!(disk.push(1), all(1, 503));
    }
    let mut stream = TcpStream::connect(("127.0.0.1", disk.home.hooks)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&Push { key: 0, number: 1 }.request()).unwrap();
    let mut answer = [0; 1_024];
    let length = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    assert_eq!(get(disk.home.admin, "/livez").unwrap().0, 200);
    assert_eq!(get(disk.home.admin, "/readyz").unwrap().0, 503);
    fs::remove_file(disk.is_full()).unwrap();
    wait_for("pushes are taken again", PATIENCE, || (disk.push(1) == all(1, 200)).then_some(()));
    assert_eq!(disk.push(2), all(2, 200));
    wait_for("it is ready again", PATIENCE, || matches!(get(disk.home.admin, "/readyz"), Some((200, _))).then_some(()));
    disk.holds_exactly(0..3);
    lag(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", disk.home.log());
}

#[test]
fn a_checkpoint_that_finds_no_room_is_waited_out() {
    let disk = Disk::new("", false);
    let program = disk.start();
    disk.push_to_a_checkpoint();
    let refused = disk.fill(TO_A_CHECKPOINT);
    assert!(
        fs::read_to_string(disk.home.path("log")).unwrap().contains("no room for a checkpoint"),
        "{}",
        disk.home.log()
    );
    assert_eq!(get(disk.home.admin, "/livez").unwrap().0, 200);
    assert_eq!(get(disk.home.admin, "/readyz").unwrap().0, 503);
    disk.make_room(TO_A_CHECKPOINT..refused + 2 * TO_A_CHECKPOINT);
    disk.holds_exactly(0..refused + 2 * TO_A_CHECKPOINT);
    lag(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", disk.home.log());
}

#[test]
fn a_start_on_a_full_disk_answers_503_and_goes_on_when_there_is_room() {
    let disk = Disk::new("", false);
    let program = disk.start();
    disk.push_to_a_checkpoint();
    let refused = disk.fill(TO_A_CHECKPOINT);
    program.kill();
    let program = disk.spawn();
    wait_for("pushes are answered 503", PATIENCE, || (disk.push(refused) == all(refused, 503)).then_some(()));
    assert!(disk.home.log().contains("no room to write the WAL back"), "{}", disk.home.log());
    assert_eq!(get(disk.home.admin, "/readyz").unwrap().0, 503);
    disk.make_room(TO_A_CHECKPOINT..refused + 1);
    lag(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", disk.home.log());
    let lines = Files::new(disk.home.path("archive")).read_new();
    let mut seen = BTreeMap::new();
    lines.iter().for_each(|line| *seen.entry(Push::from_id(&line.vendor_id).unwrap()).or_insert(0) += 1);
    for push in (0..=refused).flat_map(|number| KEYS.map(move |key| Push { key, number })) {
        // What was out without a receipt when it was killed is delivered again.
        let copies = seen.remove(&push).unwrap_or(0);
        assert!((1..=2).contains(&copies), "{} is there {copies} times", push.id());
    }
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn the_names_of_folders_and_files_are_synced_also_by_whoever_finds_them_there() {
    let disk =
        Disk { home: Home::new("{ path: ./above/data }", &format!("{SOURCES}{ROUTES}")), ..Disk::new("", false) };
    let synced = disk.home.path("synced");
    let start = || disk.home.start_with(&[("LD_PRELOAD", shim()), ("FAULT_SYNCED", synced.to_str().unwrap())]);
    let syncs = |name: &str| {
        let path = fs::canonicalize(disk.home.path(name)).unwrap();
        fs::read_to_string(&synced).unwrap().lines().filter(|line| *line == path.to_str().unwrap()).count()
    };
    let program = start();
    assert_eq!(disk.push(0), all(0, 200));
    disk.holds_exactly(0..1);
    // In the last one lie the folder that is above the store's, and the archive.
    for folder in ["above/data", "above", "archive", ""] {
        assert!(syncs(folder) > 0, "{folder}");
    }
    program.kill();
    let folders = ["above", "archive"];
    let before = folders.map(syncs);
    let program = start();
    lag(&program);
    wait_for("the folders are synced", PATIENCE, || {
        folders.iter().zip(before).all(|(folder, before)| syncs(folder) > before).then_some(())
    });
}

#[test]
fn a_stop_does_not_wait_for_a_sealing_that_hangs() {
    let disk = Disk::of_size("16MiB", "ids/", false);
    let program = disk.start();
    fs::write(disk.syncs_hang(), "").unwrap();
    let mut pushed = 0;
    while !disk.home.path("data/ids/0001.tmp").exists() {
        assert!(pushed < 1_000, "no segment was closed: {}", disk.home.log());
        assert_eq!(disk.push(pushed), all(pushed, 200));
        pushed += 1;
    }
    disk.holds_exactly(0..pushed);
    lag(&program);
    assert!(program.terminate(Duration::from_secs(10)).success(), "{}", disk.home.log());
    assert!(disk.home.log().contains("upkeep did not end in time"), "{}", disk.home.log());
    fs::remove_file(disk.syncs_hang()).unwrap();
    let program = disk.start();
    wait_for("the segment is sealed", PATIENCE, || disk.home.path("data/ids/0001").exists().then_some(()));
    assert_eq!(disk.push(0), all(0, 200));
    assert_eq!(disk.push(pushed), all(pushed, 200));
    disk.holds_exactly(0..pushed + 1);
    lag(&program);
}
