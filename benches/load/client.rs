//! The load: many keep-alive connections, each with one push under way, on one thread a core at most.
//!
//! It must cost little, since it shares the cores with what it measures: one runtime on one thread, requests made in
//! place, answers compared with the first one's length instead of parsed.

use crate::push::Push;
use anyhow::{Context, bail};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How to push.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to.
    pub port: u16,
    /// Connections, each with one push under way.
    pub connections: usize,
    /// Different keys.
    pub keys: u64,
    /// The number of the first push: no two runs against one store may share any.
    pub first: u64,
    /// Ends after so many pushes.
    pub count: u64,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Threads that push.
    pub threads: usize,
    /// Pushes a second over all connections; `None`: as fast as answers come.
    pub rate: Option<f64>,
    /// Not counted, at the start.
    pub warm_up: Duration,
    /// Counted.
    pub duration: Duration,
}

/// Holds the load back while too much is undelivered, so that a run is as fast as what is slowest, and no faster.
#[derive(Debug, Default)]
pub struct Gate {
    /// Pushes answered 200 so far.
    pub answered: AtomicU64,
    /// Whether nobody may push now.
    pub closed: AtomicBool,
    /// Whether the load has ended.
    pub ended: AtomicBool,
}

/// What came of it, of the counted part.
#[derive(Debug)]
pub struct Pushed {
    /// How long it really was.
    pub took: Duration,
    /// Pushes answered 200 in that time.
    pub counted: u64,
    /// Pushes answered 200 since the start.
    pub all: u64,
    latencies: Histogram,
}

impl Pushed {
    /// The time that so many of a thousand answers took at most.
    pub fn latency(&self, per_mille: u64) -> Duration {
        self.latencies.at(per_mille)
    }
}

/// Pushes, and calls `at_start` where the counted part begins. Any answer but 200 is an error.
pub fn run<T>(load: &Load, gate: &Arc<Gate>, at_start: impl FnOnce() -> T) -> anyhow::Result<(Pushed, T)> {
    let next = Arc::new(AtomicU64::new(load.first));
    let (begin, end) = {
        let begin = Instant::now() + load.warm_up;
        (begin, begin + load.duration)
    };
    let threads: Vec<_> = (0..load.threads)
        .map(|thread| {
            let (load, next, gate) = (load.clone(), Arc::clone(&next), Arc::clone(gate));
            let connections = (thread..load.connections).step_by(load.threads).count();
            std::thread::spawn(move || one_thread(&load, connections, &next, &gate, begin..end))
        })
        .collect();
    std::thread::sleep(load.warm_up);
    let before = at_start();
    let mut pushed = Pushed { took: load.duration, counted: 0, all: 0, latencies: Histogram::default() };
    for thread in threads {
        let (counted, all, latencies) = thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
        pushed.counted += counted;
        pushed.all += all;
        pushed.latencies.add(&latencies);
    }
    Ok((pushed, before))
}

type Counted = (u64, u64, Histogram);

fn one_thread(
    load: &Load,
    connections: usize,
    next: &Arc<AtomicU64>,
    gate: &Arc<Gate>,
    counted_part: Range<Instant>,
) -> anyhow::Result<Counted> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut connected = tokio::task::JoinSet::new();
        for _ in 0..connections {
            connected.spawn_local(one_connection(
                load.clone(),
                Arc::clone(next),
                Arc::clone(gate),
                counted_part.clone(),
            ));
        }
        let mut sum: Counted = (0, 0, Histogram::default());
        while let Some(done) = connected.join_next().await {
            let (counted, all, latencies) = done??;
            sum.0 += counted;
            sum.1 += all;
            sum.2.add(&latencies);
        }
        Ok(sum)
    }))
}

async fn one_connection(
    load: Load,
    next: Arc<AtomicU64>,
    gate: Arc<Gate>,
    counted_part: Range<Instant>,
) -> anyhow::Result<Counted> {
    let mut stream = TcpStream::connect(("127.0.0.1", load.port)).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let mut push = Push::new(load.body_bytes, load.keys);
    let mut answer = Answer::default();
    let (mut counted, mut all, mut latencies) = (0, 0, Histogram::default());
    let pause = load.rate.map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    // Spread over one pause, so that the connections do not push in step.
    let mut due = Instant::now() + pause.unwrap_or_default().mul_f64(fastrand::f64());
    loop {
        while gate.closed.load(Ordering::Relaxed) && Instant::now() < counted_part.end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut sent = Instant::now();
        if let Some(pause) = pause {
            tokio::time::sleep_until(due.into()).await;
            // From when it was due: a server that is late does not get fewer late answers by it.
            sent = due;
            due += pause;
        }
        if sent >= counted_part.end {
            return Ok((counted, all, latencies));
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number - load.first >= load.count {
            return Ok((counted, all, latencies));
        }
        let request = push.number(number);
        stream.write_all(request).await.context("cannot send")?;
        answer.read(&mut stream).await?;
        all += 1;
        gate.answered.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if counted_part.contains(&now) {
            counted += 1;
            latencies.record(now - sent);
        }
    }
}

/// The answers of one connection. The first is read with care, the others are as long as it was.
struct Answer {
    buffer: Vec<u8>,
    length: Option<usize>,
}

impl Default for Answer {
    fn default() -> Self {
        Self { buffer: vec![0; 4096], length: None }
    }
}

impl Answer {
    async fn read(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        let mut filled = 0;
        loop {
            let read = stream.read(&mut self.buffer[filled..]).await.context("cannot read the answer")?;
            filled += read;
            let text = &self.buffer[..filled];
            if read == 0 || filled == self.buffer.len() {
                bail!("no whole answer: {}", String::from_utf8_lossy(text));
            }
            if self.length.is_none() {
                self.length = length_of(text);
            }
            if self.length == Some(filled) {
                if text.starts_with(b"HTTP/1.1 200 ") {
                    return Ok(());
                }
                bail!("refused: {}", String::from_utf8_lossy(text));
            }
            if self.length.is_some_and(|length| filled > length)
                || !b"HTTP/1.1 200 ".starts_with(&text[..filled.min(13)])
            {
                bail!("refused: {}", String::from_utf8_lossy(text));
            }
        }
    }
}

/// The length of an answer, once its head is there.
fn length_of(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let head = text.find("\r\n\r\n")? + 4;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    Some(head + text.lines().find_map(length).unwrap_or(0))
}

/// Times in steps of 1/32 of their power of two, in microseconds.
#[derive(Debug, Clone)]
struct Histogram(Vec<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0; 32 * 34])
    }
}

impl Histogram {
    fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 32);
        let shift = (64 - micros.leading_zeros()).saturating_sub(6);
        let slot = usize::try_from((u64::from(shift) << 5) + (micros >> shift)).unwrap_or(usize::MAX);
        let last = self.0.len() - 1;
        self.0[slot.min(last)] += 1;
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    fn at(&self, per_mille: u64) -> Duration {
        let wanted = (self.0.iter().sum::<u64>() * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (slot, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let slot = slot as u64;
                let shift = (slot >> 5).saturating_sub(1);
                return Duration::from_micros((slot - (shift << 5)) << shift);
            }
        }
        Duration::ZERO
    }
}
