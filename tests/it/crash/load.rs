//! The load: keep-alive connections, each with one push under way, each key on one connection alone.
//!
//! A connection sends the next push of a key only after the answer to the one before, or after a crash, when it sends
//! the unanswered one again first: so the numbers of a key are accepted in their order. Now and then an answered push
//! is sent again; that must be answered 200 and change nothing.

use crate::{
    crash::push::{KEYS, Push},
    program::PATIENCE,
};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

/// Each owns `KEYS / CONNECTIONS` keys.
const CONNECTIONS: usize = 16;
/// One push in so many is an answered one, sent again.
const RESEND_EVERY: usize = 16;

/// What all connections know of what they sent.
pub struct Senders(Vec<Sender>);

/// One connection's part.
struct Sender {
    /// Its keys, with how many pushes of each were sent.
    keys: Vec<(usize, usize)>,
    unanswered: Option<Push>,
    random: fastrand::Rng,
}

/// What happened under a load.
#[derive(Debug, Default, Clone, Copy)]
pub struct Load {
    /// Answered 200.
    pub answered: usize,
    /// Of those, sent again although answered before.
    pub resent: usize,
    /// Sent before the kill, and never answered.
    pub unanswered: usize,
}

/// A load that runs.
pub struct Running {
    /// Connections may fail.
    ending: Arc<AtomicBool>,
    /// No new pushes.
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Sender, Load, Option<Instant>)>>,
    pub since: Instant,
}

impl Senders {
    pub fn new(seed: u64) -> Self {
        let sender = |n: usize| Sender {
            keys: (0..KEYS).filter(|key| key % CONNECTIONS == n).map(|key| (key, 0)).collect(),
            unanswered: None,
            random: fastrand::Rng::with_seed(seed.wrapping_add(n as u64)),
        };
        Self((0..CONNECTIONS).map(sender).collect())
    }

    /// Senders that sent so many pushes of each of these keys, all answered.
    pub fn that_sent(keys: Range<usize>, count: usize) -> Self {
        let mut senders = Self::new(0);
        let all = senders.0.iter_mut().flat_map(|sender| &mut sender.keys);
        all.filter(|(key, _)| keys.contains(key)).for_each(|(_, sent)| *sent = count);
        senders
    }

    /// How many pushes of a key were sent, answered or not.
    pub fn sent(&self, key: usize) -> usize {
        self.0.iter().flat_map(|sender| &sender.keys).find(|(own, _)| *own == key).unwrap().1
    }

    pub fn total(&self) -> usize {
        self.0.iter().flat_map(|sender| &sender.keys).map(|(_, sent)| sent).sum()
    }

    /// Whether every push that was sent has its 200.
    pub fn all_answered(&self) -> bool {
        self.0.iter().all(|sender| sender.unanswered.is_none())
    }

    /// Sends what a crash left unanswered; then pushes until the load is ended.
    pub fn start(self, port: u16) -> Running {
        let (ending, enough) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let run = |mut sender: Sender| {
            let (ending, enough) = (Arc::clone(&ending), Arc::clone(&enough));
            thread::spawn(move || {
                let (load, last) = sender.run(port, &ending, &enough);
                (sender, load, last)
            })
        };
        let threads = self.0.into_iter().map(run).collect();
        Running { ending, enough, threads, since: Instant::now() }
    }
}

impl Running {
    /// Lets the connections fail from now on: call it right before the program is killed or stopped.
    pub fn expect_the_end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Lets every connection end with the answer to what it sent.
    pub fn send_no_more(&self) {
        self.enough.store(true, Ordering::Release);
    }

    /// Waits until every connection has ended. Unanswered is what was sent before `killed`.
    pub fn join(self, killed: Option<Instant>) -> (Senders, Load) {
        let mut sum = Load::default();
        let join = |thread: JoinHandle<(Sender, Load, Option<Instant>)>| {
            let (sender, load, last) = thread.join().expect("a sender failed");
            sum.answered += load.answered;
            sum.resent += load.resent;
            sum.unanswered += usize::from(killed.zip(last).is_some_and(|(killed, last)| last < killed));
            sender
        };
        let senders = self.threads.into_iter().map(join).collect();
        (Senders(senders), sum)
    }
}

impl Sender {
    /// Returns with the moment at which the push was sent that got no answer.
    fn run(&mut self, port: u16, ending: &AtomicBool, enough: &AtomicBool) -> (Load, Option<Instant>) {
        let mut load = Load::default();
        let mut stream = match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => stream,
            Err(_) if ending.load(Ordering::Acquire) => return (load, None),
            Err(error) => panic!("the program does not take connections: {error}"),
        };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        while self.unanswered.is_some() || !enough.load(Ordering::Acquire) {
            let (push, again) = self.next();
            if let Err(error) = stream.write_all(&push.request()) {
                assert!(ending.load(Ordering::Acquire), "a connection was cut: {error}");
                return (load, None);
            }
            let sent = Instant::now();
            match answer(&mut stream) {
                Ok(200) => {}
                Ok(status) => panic!("{} was answered {status}", push.id()),
                Err(error) => {
                    assert!(ending.load(Ordering::Acquire), "a connection was cut: {error}");
                    return (load, (!again).then_some(sent));
                }
            }
            load.answered += 1;
            load.resent += usize::from(again);
            if !again {
                self.unanswered = None;
            }
        }
        (load, None)
    }

    /// The next push, and whether it was answered before.
    fn next(&mut self) -> (Push, bool) {
        if let Some(push) = self.unanswered {
            return (push, false);
        }
        let at = self.random.usize(..self.keys.len());
        let (key, sent) = &mut self.keys[at];
        if *sent > 0 && self.random.usize(..RESEND_EVERY) == 0 {
            // An old one as often as one of the last few.
            let from = if self.random.bool() { 0 } else { sent.saturating_sub(4) };
            return (Push { key: *key, number: self.random.usize(from..*sent) }, true);
        }
        let push = Push { key: *key, number: *sent };
        *sent += 1;
        self.unanswered = Some(push);
        (push, false)
    }
}

/// Reads one whole answer, and gives its status.
pub fn answer(stream: &mut TcpStream) -> io::Result<u16> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return head
                    .split(' ')
                    .nth(1)
                    .and_then(|status| status.parse().ok())
                    .ok_or(io::ErrorKind::Other.into());
            }
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
