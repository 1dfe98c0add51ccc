//! Every file that the process may open is taken: by connections, or by whatever else.

use super::{flood::ran_elsewhere, with_server};
use crate::{
    crash::{
        load::answer,
        push::{ENTERPRISE, SOURCES, signed},
    },
    program::{Home, PATIENCE, Program},
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Fewer than a program alone needs for long.
const FILES: usize = 256;
const HELD: usize = 1_000;
/// A segment is a sixteenth of it.
const STORAGE: &str = "{ path: ./data, max_size: 64MiB, retain: { delivered: 1s } }";
/// Some seventy fill a segment.
const FILLER_BYTES: usize = 60_000;
/// Between two rounds: what comes in the second for which it is kept must leave room in the store.
const PACE: Duration = Duration::from_millis(50);
const ROUTES: &str = "destinations:\n  archive: { type: file, path: ./archive }\n\
                      routes:\n  - { name: everything, to: [archive] }\n";

/// Connections that push, each what no other does.
struct Senders {
    streams: Vec<TcpStream>,
    number: usize,
}

impl Senders {
    fn connect(home: &Home) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(("127.0.0.1", home.hooks)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        let mut senders = Self { streams: (0..8).map(connect).collect(), number: 0 };
        // All of them are accepted before anyone else comes.
        senders.push();
        senders
    }

    /// One push over each, all at the same time; each is answered 200.
    fn push(&mut self) {
        thread::scope(|scope| {
            for (stream, number) in self.streams.iter_mut().zip(self.number..) {
                scope.spawn(move || {
                    let filler = "x".repeat(FILLER_BYTES);
                    let body = format!(
                        "{{\"event\":\"cus.upsert\",\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":1726824224,\
                         \"body\":{{\"remark\":\"{filler}\",\"track_id\":\"t{number}\"}},\"id\":\"sub_{number}\"}}"
                    );
                    stream.write_all(&signed(body.as_bytes())).unwrap();
                    assert_eq!(answer(stream).unwrap(), 200);
                });
            }
        });
        self.number += self.streams.len();
    }

    fn push_until(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}, and {} pushes", self.number);
            self.push();
            thread::sleep(PACE);
        }
    }
}

fn home() -> Home {
    let home = Home::new(STORAGE, &format!("{SOURCES}{ROUTES}"));
    // Nobody is sent away meanwhile.
    with_server(&home, "  limits: { header_timeout: 2m, idle_timeout: 2m }\n");
    home
}

/// Everything was delivered, and the process ends as it should.
fn ends_well(home: &Home, program: Program, senders: Senders) {
    program.wait_for("laigu_router_delivered_total", &[], senders.number as f64);
    drop(senders);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn connections_leave_the_files_that_the_store_needs() {
    if ran_elsewhere("security::files::connections_leave_the_files_that_the_store_needs", 2 * HELD) {
        return;
    }
    let home = home();
    let program = home.start_with_files(FILES);
    let mut senders = Senders::connect(&home);
    let held: Vec<_> = (0..HELD).map(|_| TcpStream::connect(("127.0.0.1", home.hooks)).unwrap()).collect();
    let data = home.path("data");
    senders.push_until("segments are sealed and removed", || {
        data.join("ids/0003").exists() && !data.join("events/0002.db").exists()
    });
    let log = fs::read_to_string(home.path("log")).unwrap();
    assert_eq!(log.matches("`server.limits.connections` is 10000").count(), 1, "{log}");
    drop(held);
    ends_well(&home, program, senders);
}

#[test]
fn while_no_file_can_be_opened_pushes_are_taken_and_the_rest_waits() {
    let home = home();
    let program = home.start();
    let mut senders = Senders::connect(&home);
    let pid = Pid::from_raw(program.id().try_into().unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    let allow = |current| prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
    // It has more open already.
    allow(Some(8));
    senders.push_until("a segment is due", || home.log().contains("cannot begin a new segment"));
    senders.push();
    allow(maximum);
    senders.push_until("segments are sealed", || home.path("data/ids/0002").exists());
    ends_well(&home, program, senders);
}
