//! The process under load, and what the kernel and its own metrics say of it.

use anyhow::{Context, bail};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A clock tick of `/proc/<pid>/stat`: 100 a second on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);
const START_MAX: Duration = Duration::from_secs(30);

/// A port nobody listens on now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running process; ended when this is dropped.
pub struct Server {
    child: Child,
    admin: Option<u16>,
}

/// What a process has used up, since it started.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// Bytes that it made the kernel write to disk.
    pub written: u64,
}

/// How far the router and the destinations are behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Events that no decision was made about.
    pub undecided: f64,
    /// How old the oldest undelivered event is, of the destination that is furthest behind.
    pub seconds: f64,
}

impl Server {
    /// Starts a program and waits until it answers: on `admin` with a ready `/readyz`, or else on `port` at all.
    /// What it says goes to `log`.
    pub fn start(mut command: Command, port: u16, admin: Option<u16>, log: &Path) -> anyhow::Result<Self> {
        let log_file = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { child, admin };
        let begin = Instant::now();
        loop {
            let ready = match admin {
                Some(admin) => get(admin, "/readyz").is_ok_and(|(status, _)| status == 200),
                None => TcpStream::connect(("127.0.0.1", port)).is_ok(),
            };
            if ready {
                return Ok(server);
            }
            let ended = server.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > START_MAX {
                bail!("not ready, {ended:?}: {}", fs::read_to_string(log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has used up so far.
    pub fn used(&self) -> anyhow::Result<Used> {
        used(&self.child.id().to_string())
    }

    /// The largest resident size that it had, in bytes.
    pub fn memory_max(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }

    /// How far it is behind; `None` where there is nothing to be behind with.
    pub fn lag(&self) -> anyhow::Result<Option<Lag>> {
        let Some(admin) = self.admin else { return Ok(None) };
        let (_, text) = get(admin, "/metrics")?;
        let undecided = values(&text, "laigu_router_undecided_events").sum();
        let seconds = values(&text, "laigu_router_lag_seconds").fold(0.0, f64::max);
        Ok(Some(Lag { undecided, seconds }))
    }

    /// The sum of a counter over its labels.
    pub fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let (_, text) = get(self.admin.context("no admin port")?, "/metrics")?;
        Ok(values(&text, name).sum())
    }
}

/// The values of a metric, over its labels.
fn values(text: &str, name: &str) -> impl Iterator<Item = f64> {
    text.lines().filter_map(move |line| {
        let labels = line.strip_prefix(name)?;
        labels.starts_with(['{', ' ']).then(|| labels.rsplit(' ').next()?.parse().ok())?
    })
}

/// What a process has used up so far; `self` is this one.
pub fn used(process: &str) -> anyhow::Result<Used> {
    let of = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
    // Fields 14 and 15, counted behind the program's name, which may hold blanks.
    let stat = of("stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = |field: usize| -> anyhow::Result<u32> {
        Ok(fields.split_whitespace().nth(field - 3).context("stat is short")?.parse()?)
    };
    let io = of("io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
    Ok(Used { cpu: TICK * (ticks(14)? + ticks(15)?), written: written.parse()? })
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// One GET over a connection of its own.
fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
    Ok((status, text))
}
