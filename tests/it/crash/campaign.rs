//! A campaign: the program is started on one store, pushed to and killed, again and again; then everything is counted.

use crate::{
    crash::{
        load::Senders,
        oracle::{Copy, History},
        push::SOURCES,
        store,
    },
    program::{Home, PATIENCE, Program, wait_for},
};
use std::{
    ops::Range,
    thread,
    time::{Duration, Instant},
};

/// A cycle counts only at this rate or above.
const RATE_MIN: f64 = 500.0;
/// Cycles that do not count are repeated so often, for each that must.
const TRIES: usize = 3;

/// Where a destination's messages are read back.
pub trait Reader {
    /// Everything that came since the last call, in the order it came: all of what was published before this call.
    fn read_new(&mut self) -> Vec<Copy>;
}

impl Reader for crate::crash::files::Files {
    fn read_new(&mut self) -> Vec<Copy> {
        Self::read_new(self)
    }
}

/// A destination under test.
pub struct Target {
    pub history: History,
    pub reader: Box<dyn Reader>,
    /// The most deliveries that one crash may repeat.
    pub window: usize,
    /// How much came since the last kill.
    came: usize,
    /// What the last kill left without a receipt.
    unreceipted: usize,
    /// What was repeated since.
    since_kill: usize,
    repeated: usize,
    repeated_max: usize,
}

impl Target {
    pub fn new(history: History, reader: impl Reader + 'static, window: usize) -> Self {
        Self {
            history,
            reader: Box::new(reader),
            window,
            came: 0,
            unreceipted: 0,
            since_kill: 0,
            repeated: 0,
            repeated_max: 0,
        }
    }

    /// Takes what came since the last kill.
    fn look(&mut self, senders: &Senders) {
        let copies = self.reader.read_new();
        self.came += copies.len();
        let repeats = self.history.take(copies, senders);
        let name = self.history.name;
        self.since_kill += repeats;
        self.repeated += repeats;
        let (repeats, open) = (self.since_kill, self.unreceipted);
        assert!(repeats <= self.window, "{name}: a crash repeated {repeats}, the window is {}", self.window);
        assert!(repeats <= open, "{name}: a crash repeated {repeats}, {open} had no receipt");
        self.repeated_max = self.repeated_max.max(repeats);
    }

    /// Notes what a kill left, which alone may be repeated.
    fn ended(&mut self, unreceipted: usize) {
        self.unreceipted = unreceipted;
        self.since_kill = 0;
        self.came = 0;
    }
}

/// Kills the program, `load_ms` after pushes began, until `cycles` kills count, and fails unless every target has exactly what it must have.
///
/// A kill counts when at least one push was sent and not answered, at least one delivery had no durable receipt, every
/// destination was receiving, and pushes were answered at the rate that is asked for.
pub fn run(home: &Home, targets: &mut [Target], cycles: usize, load_ms: Range<u64>) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut senders = Senders::new(seed);
    let (mut counted, mut kills, mut unanswered, mut unreceipted, mut resent) = (0, 0, 0, 0, 0);
    let began = Instant::now();
    while counted < cycles {
        kills += 1;
        assert!(kills <= cycles * TRIES, "only {counted} of {kills} kills count");
        let program = home.start();
        let up = "laigu_router_destination_state";
        program.wait_for(up, &["state=\"up\""], targets.len() as f64);
        let running = senders.start(home.hooks);
        thread::sleep(Duration::from_millis(random.u64(load_ms.clone())));
        running.expect_the_end();
        let since = running.since;
        let killed = program.kill();
        let (back, load) = running.join(Some(killed));
        senders = back;
        let rate = load.answered as f64 / (killed - since).as_secs_f64();
        let mut delivering = true;
        for target in &mut *targets {
            target.look(&senders);
            delivering &= target.came > 0;
            target.ended(store::unreceipted(&home.path("data"), target.history.name));
        }
        let open: Vec<_> = targets.iter().map(|target| target.unreceipted).collect();
        let counts = delivering && load.unanswered > 0 && open.iter().sum::<usize>() > 0 && rate >= RATE_MIN;
        counted += usize::from(counts);
        unanswered += load.unanswered;
        unreceipted += open.iter().sum::<usize>();
        resent += load.resent;
        let word = if counts { "counts" } else { "does not count" };
        println!("kill {kills} {word}: {rate:.0}/s, unanswered {}, unreceipted {open:?}", load.unanswered);
    }
    let senders = finish(home, targets, senders);
    println!(
        "{counted} of {kills} kills counted in {:.0} s: {} pushes, {resent} sent again, {unanswered} unanswered and \
         {unreceipted} unreceipted at kills",
        began.elapsed().as_secs_f64(),
        senders.total()
    );
    println!("{} segments", std::fs::read_dir(home.path("data/ids")).unwrap().count() + 1);
    for target in targets {
        let Target { history, repeated, repeated_max, window, .. } = target;
        let (name, has) = (history.name, history.has());
        println!("{name}: {has} deliveries, {repeated} repeated, {repeated_max} at most by one kill (window {window})");
    }
}

/// Stops the program with SIGTERM under load, `stops` times; each must end well, and leave nothing to be repeated.
pub fn run_stops(home: &Home, targets: &mut [Target], stops: usize) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut senders = Senders::new(seed);
    for stop in 1..=stops {
        let program = home.start();
        let running = senders.start(home.hooks);
        thread::sleep(Duration::from_millis(200));
        running.expect_the_end();
        let status = program.terminate(PATIENCE);
        assert!(status.success(), "{status}: {}", home.log());
        let (back, load) = running.join(None);
        senders = back;
        for target in &mut *targets {
            target.look(&senders);
            assert!(target.came > 0, "{}: nothing came", target.history.name);
            // What was decided last may never have been out; what was out must have its receipt.
            target.ended(0);
        }
        println!("stop {stop}: {} answered", load.answered);
    }
    finish(home, targets, senders);
}

/// Lets the program end its work in peace, and checks that nothing is missing and nothing follows.
fn finish(home: &Home, targets: &mut [Target], senders: Senders) -> Senders {
    let program = home.start();
    let running = senders.start(home.hooks);
    running.send_no_more();
    let (senders, _) = running.join(None);
    assert!(senders.all_answered(), "a push is unanswered: {}", home.log());
    for target in &mut *targets {
        let wanted = target.history.wanted(&senders);
        let what = format!("{}: {wanted} deliveries", target.history.name);
        wait_for(&what, PATIENCE, || {
            target.look(&senders);
            (target.history.has() >= wanted).then_some(())
        });
    }
    check_metrics(&program);
    let status = program.terminate(PATIENCE);
    assert!(status.success(), "{status}: {}", home.log());
    for target in targets {
        target.look(&senders);
        target.history.check_whole(&senders);
    }
    senders
}

/// Nothing was turned away, nothing died, and nothing is left to do.
fn check_metrics(program: &Program) {
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    for name in ["laigu_router_rejected_total", "laigu_router_dead_letters_total", "laigu_router_id_conflicts_total"] {
        assert!(program.metric(name, &[]) < 0.5, "{name}");
    }
}

/// A home whose routes file has these destinations and routes.
pub fn home(destinations_and_routes: &str) -> Home {
    // Small segments, so that some kills come while one is rolled or sealed.
    Home::new("{ path: ./data, max_size: 256MiB }", &format!("{SOURCES}{destinations_and_routes}"))
}
