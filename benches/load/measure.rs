//! Runs one case, and takes down what it did.

use crate::{
    bare, bare_file,
    case::Case,
    client::{self, Gate, Load, Pushed},
    options::Options,
    server::{Lag, Server, Used, free_port, used},
};
use anyhow::{Context, bail};
use std::{
    collections::VecDeque,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// The argument that makes this very program the floor's server.
pub const FLOOR_MODE: &str = "serve-floor";
/// A backlog older than this at the end of a run means that the program did not keep up.
const LAG_MAX_SECONDS: f64 = 1.0;
/// What is stored before pushes come in while it drains, unless something else is asked for.
const DRAINING: u64 = 2_000_000;
/// How long pushes come in meanwhile at most: it must not be gone before.
const DRAINING_FOR: Duration = Duration::from_secs(15);
/// Younger than this, the oldest undelivered event is none of the backlog.
const BACKLOG_SECONDS: f64 = 5.0;
const CATCH_UP_MAX: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(20);
/// The rate of deliveries is taken over so many polls: two seconds.
const RATE_POLLS: usize = 100;
const HELD_SECONDS: f64 = 0.6;
/// Enough to fill any window while the rate is not known yet.
const HELD_MIN: f64 = 1_500.0;

/// What one case did; `None` is what it has not.
#[derive(Debug, Default)]
pub struct Measured {
    /// Pushes answered 200, or messages published, a second.
    pub per_second: f64,
    /// What there is to say beside it.
    pub note: String,
    /// What the load saw.
    pub pushed: Option<Pushed>,
    /// Processor time an event of the program.
    pub cpu: Option<Duration>,
    /// Processor time an event of the load.
    pub load_cpu: Option<Duration>,
    /// Bytes an event that the program made the kernel write.
    pub written: Option<f64>,
    /// The program's largest resident size.
    pub memory_max: Option<u64>,
    /// How far it was behind when the load ended.
    pub lag: Option<Lag>,
    /// How long it then took to deliver the rest.
    pub caught_up: Option<Duration>,
}

impl Measured {
    /// Whether it fell behind.
    pub fn is_lagging(&self) -> bool {
        self.lag.is_some_and(|lag| lag.seconds > LAG_MAX_SECONDS || lag.undecided > self.per_second * LAG_MAX_SECONDS)
    }
}

/// Runs one case with so many connections, on top of so many pushes stored.
pub fn measure(case: Case, connections: usize, stored: u64, options: &Options) -> anyhow::Result<Measured> {
    let folder = options.folder.join(format!("{case:?}-{connections}").to_lowercase());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let measured = match case {
        Case::BareFile => bare_file::measure(&folder, options)?,
        Case::BareRabbitMq | Case::BareKafka => bare(case, options)?,
        Case::DrainRabbitMq | Case::DrainKafka => drain(case, connections, &folder, options)?,
        Case::Floor | Case::Accept | Case::File | Case::Cel | Case::Half | Case::Backlog => {
            full(case, connections, stored, &folder, options)?
        }
        Case::Draining => {
            let options = Options { duration: options.duration.min(DRAINING_FOR), ..options.clone() };
            full(case, connections, if stored == 0 { DRAINING } else { stored }, &folder, &options)?
        }
        Case::RabbitMq | Case::Kafka => full(case, connections, stored, &folder, options)?,
    };
    fs::remove_dir_all(&folder)?;
    Ok(measured)
}

/// Pushes at the whole program, or at the floor.
fn full(case: Case, connections: usize, stored: u64, folder: &Path, options: &Options) -> anyhow::Result<Measured> {
    prepare(case)?;
    let stored = if case == Case::Floor { 0 } else { stored };
    let filled = fill(case, connections, folder, options, stored)?;
    let begin = Instant::now();
    let started = start(case, folder, options, None)?;
    let start_time = begin.elapsed();
    let load = Load { first: filled, ..load(started.1, connections, options) };
    let mut measured = push_at(&started, case, &load, options)?;
    if filled > 0 {
        let stored = format!("{filled} stored before, start took {:.2} s", start_time.as_secs_f64());
        measured.note = [measured.note, stored].join("; ").trim_start_matches("; ").to_owned();
    }
    Ok(measured)
}

/// A started program, and the port for pushes.
type Started = (Server, u16);

fn start(case: Case, folder: &Path, options: &Options, broker: Option<&str>) -> anyhow::Result<Started> {
    let port = free_port()?;
    let log = folder.join("server.log");
    if case == Case::Floor {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(FLOOR_MODE).arg(port.to_string());
        return Ok((Server::start(command, port, None, &log)?, port));
    }
    let admin = free_port()?;
    let routes = folder.join("routes.yaml");
    case.write_routes(&routes, port, admin)?;
    let mut command = Command::new(&options.program);
    command.arg("--config").arg(&routes).arg("serve").env("RUST_LOG", "warn");
    if let (Some(variable), Some(broker)) = (case.broker(), broker) {
        command.env(variable, broker);
    }
    Ok((Server::start(command, port, Some(admin), &log)?, port))
}

/// The load that the options ask for.
fn load(port: u16, connections: usize, options: &Options) -> Load {
    Load {
        port,
        connections,
        keys: options.keys,
        first: 0,
        count: u64::MAX,
        body_bytes: options.body_bytes,
        threads: options.threads,
        rate: options.rate,
        warm_up: options.warm_up,
        duration: options.duration,
    }
}

/// Stores so many pushes, delivers them, and ends the program; says how many it were.
fn fill(case: Case, connections: usize, folder: &Path, options: &Options, count: u64) -> anyhow::Result<u64> {
    if count == 0 {
        return Ok(0);
    }
    let away = (case == Case::Draining).then(|| case.dead_url());
    let (server, port) = start(case, folder, options, away)?;
    let until_done = Duration::from_secs(86_400);
    let load =
        Load { count, rate: None, warm_up: Duration::ZERO, duration: until_done, ..load(port, connections, options) };
    let (pushed, ()) = client::run(&load, &Arc::default(), || ())?;
    if case.delivers() {
        catch_up(&server, pushed.all)?;
    }
    // A number may have been taken and not pushed: the next run begins after all of them.
    Ok(count)
}

fn push_at((server, _): &Started, case: Case, load: &Load, options: &Options) -> anyhow::Result<Measured> {
    let gate = Arc::new(Gate::default());
    // A broker is slower than accepting: without a bound the run would only measure how fast a backlog grows.
    let held = case.delivers() && (options.behind.is_some() || case.broker().is_some());
    let both = || Ok::<_, anyhow::Error>((server.used()?, used("self")?));
    let (pushed, before) = std::thread::scope(|scope| {
        if held {
            scope.spawn(|| hold(server, &gate, options.behind));
        }
        let pushed = client::run(load, &gate, both);
        gate.ended.store(true, Ordering::Relaxed);
        pushed
    })?;
    let (before, after) = (before?, both()?);
    let lag = server.lag()?;
    if case == Case::Draining && lag.is_none_or(|lag| lag.seconds < BACKLOG_SECONDS) {
        bail!("the backlog was gone before the run ended: store more, or run shorter");
    }
    let caught_up = if case.delivers() { Some(catch_up(server, pushed.all)?) } else { None };
    let events = u32::try_from(pushed.counted.max(1))?;
    let cpu = |before: Used, after: Used| after.cpu.saturating_sub(before.cpu) / events;
    Ok(Measured {
        per_second: pushed.counted as f64 / pushed.took.as_secs_f64(),
        note: if held { "pushes held back".to_owned() } else { String::new() },
        cpu: Some(cpu(before.0, after.0)),
        load_cpu: Some(cpu(before.1, after.1)),
        written: Some(after.0.written.saturating_sub(before.0.written) as f64 / f64::from(events)),
        memory_max: Some(server.memory_max()?),
        pushed: Some(pushed),
        // What waits for a broker that is away, or was, is meant to grow old.
        lag: lag.map(
            |lag| {
                if matches!(case, Case::Backlog | Case::Draining) { Lag { seconds: 0.0, ..lag } } else { lag }
            },
        ),
        caught_up,
    })
}

/// Closes the gate while more than `bound` pushes are undelivered; without one, more than are delivered in a good half
/// second, so that the lag stays below what counts as falling behind.
fn hold(server: &Server, gate: &Gate, bound: Option<u64>) {
    let (begin, mut history) = (Instant::now(), VecDeque::new());
    while !gate.ended.load(Ordering::Relaxed) {
        // A metrics page that fails once leaves the gate as it is; the end of the run will tell.
        if let Ok(delivered) = server.counter("laigu_router_delivered_total") {
            history.push_back((begin.elapsed().as_secs_f64(), delivered));
            if history.len() > RATE_POLLS {
                history.pop_front();
            }
            let rate = match (history.front(), history.back()) {
                (Some((then, few)), Some((now, many))) if now > then => (many - few) / (now - then),
                _ => 0.0,
            };
            let bound = bound.map_or((rate * HELD_SECONDS).max(HELD_MIN), |bound| bound as f64);
            let behind = gate.answered.load(Ordering::Relaxed) as f64 - delivered;
            gate.closed.store(behind > bound, Ordering::Relaxed);
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until everything accepted is delivered, and says how long that took. Fails if it never is: a lane that loses
/// events is fast.
fn catch_up(server: &Server, accepted: u64) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    loop {
        let delivered = server.counter("laigu_router_delivered_total")?;
        if delivered >= accepted as f64 {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > CATCH_UP_MAX {
            bail!("{delivered} of {accepted} accepted pushes were delivered after {CATCH_UP_MAX:?}");
        }
        std::thread::sleep(POLL);
    }
}

fn prepare(case: Case) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match case.broker() {
        Some("AMQP_URL") => runtime.block_on(bare::prepare_rabbitmq(&case.broker_url()?)).map(drop),
        Some(_) => runtime.block_on(bare::prepare_kafka(&case.broker_url()?)),
        None => Ok(()),
    }
}

fn bare(case: Case, options: &Options) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (url, each) = (case.broker_url()?, options.duration / 4);
    let (per_second, window) = if case == Case::BareRabbitMq {
        runtime.block_on(bare::rabbitmq(&url, options.body_bytes, each))?
    } else {
        runtime.block_on(bare::kafka(&url, options.body_bytes, each))?
    };
    Ok(Measured { per_second, note: format!("best window {window}"), ..Measured::default() })
}

/// Fills a store while its broker is away, starts again with the broker there, and times the deliveries.
fn drain(case: Case, connections: usize, folder: &Path, options: &Options) -> anyhow::Result<Measured> {
    prepare(case)?;
    let filling = start(case, folder, options, Some(case.dead_url()))?;
    let load = Load { warm_up: Duration::ZERO, ..load(filling.1, connections, options) };
    let (pushed, ()) = client::run(&load, &Arc::default(), || ())?;
    drop(filling);
    let (server, _) = start(case, folder, options, None)?;
    let delivered = || server.counter("laigu_router_delivered_total");
    let begin = Instant::now();
    while delivered()? < 1.0 {
        if begin.elapsed() > CATCH_UP_MAX {
            bail!("nothing of the backlog was delivered after {CATCH_UP_MAX:?}");
        }
        std::thread::sleep(POLL);
    }
    let (first, begin, before) = (delivered()?, Instant::now(), server.used()?);
    let took = catch_up(&server, pushed.all).context("the backlog does not drain")?;
    let (events, after) = (pushed.all as f64 - first, server.used()?);
    Ok(Measured {
        per_second: events / took.min(begin.elapsed()).as_secs_f64(),
        note: format!("{} stored", pushed.all),
        cpu: Some(after.cpu.saturating_sub(before.cpu).div_f64(events.max(1.0))),
        written: Some(after.written.saturating_sub(before.written) as f64 / events.max(1.0)),
        memory_max: Some(server.memory_max()?),
        ..Measured::default()
    })
}
