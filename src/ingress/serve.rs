//! An HTTP/1.1 server with deadlines: accepts connections up to a cap, and stops without dropping what is in hand.
//!
//! One [`Server`] is one listener. What it answers is an [`Answers`]: the hooks, or for the admin listener any
//! hyper service in [`Service`]. Its [`Control`] changes limits, and brings it to an end in two steps:
//!
//! 1. [`Control::drain`]: still accepting, but each answer closes its connection, so that senders with connections
//!    of long standing move on by themselves, wherever the listener's address leads them by then.
//! 2. [`Control::stop`]: accepts what the kernel holds already, then no more. Requests in hand are answered, quiet
//!    connections end after a short grace. [`Server::run`] returns when the last one has ended.
//!
//! At the cap the server pauses accepting: further connections wait in the kernel, nobody is refused. The cap is
//! `server.limits.connections`, or the [`Ceiling`] where that is lower. Dropping the future of [`Server::run`] ends every
//! connection at once.

use super::{connection, problem::Problem, pulse::Pulses, tls::Certificates};
use crate::config::settings::Limits;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::service::TowerToHyperService;
use std::{
    convert::Infallible,
    error::Error,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How often deadlines are looked at; a deadline is kept to within this.
const TICK: Duration = Duration::from_millis(100);

/// How long a quiet connection may still bring a request once the server stops: what was on its way is not refused.
const QUIET_GRACE: Duration = Duration::from_millis(500);

/// How long the listener is asked for connections that the kernel holds, once the server stops. No longer: on a
/// listener that is passed on they come without end, and are the next process's.
const BACKLOG_WAIT: Duration = Duration::from_millis(100);

/// The pause after the system had no descriptors or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What a server answers.
pub trait Answers: Send + Sync + 'static {
    /// The answers' body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers one request of the connection from `peer`.
    fn answer(&self, peer: SocketAddr, request: Request<Incoming>)
    -> impl Future<Output = Response<Self::Body>> + Send;

    /// Hears of a request that was refused before it could be answered.
    fn refused(&self, problem: Problem) {
        let _ = problem;
    }
}

/// The address of a connection's other side, in the extensions of requests to a [`Service`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Any hyper service that cannot fail, as [`Answers`]; [`tower`] makes one of a router.
///
/// Its long answers (server-sent events) must send something within `idle_timeout`.
#[derive(Debug, Clone)]
pub struct Service<S>(pub S);

impl<S, B> Answers for Service<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Body = B;

    async fn answer(&self, peer: SocketAddr, mut request: Request<Incoming>) -> Response<B> {
        request.extensions_mut().insert(Peer(peer));
        match self.0.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Makes [`Answers`] of a tower service, such as a router of axum.
#[must_use]
pub fn tower<S>(service: S) -> Service<TowerToHyperService<S>> {
    Service(TowerToHyperService::new(service))
}

/// How many connections a listener may have open whatever the settings say.
#[derive(Debug, Clone)]
pub struct Ceiling {
    connections: usize,
    /// The last number that was lowered, and said to be; shared by clones.
    told: Option<Arc<AtomicUsize>>,
}

impl Ceiling {
    /// A ceiling that warns when the settings want more.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { connections, told: Some(Arc::default()) }
    }

    /// A ceiling that says nothing.
    #[must_use]
    pub fn silent(connections: usize) -> Self {
        Self { connections, told: None }
    }

    /// The number in force where this one is set.
    fn lower(&self, wanted: usize) -> usize {
        let connections = self.connections;
        if wanted > connections
            && let Some(told) = &self.told
            && told.swap(wanted, Ordering::Relaxed) != wanted
        {
            tracing::warn!(
                "`server.limits.connections` is {wanted}, and the process may not open so many files: {connections} are \
                 open at a time; raise the limit of open files (`ulimit -n`, `LimitNOFILE=`)"
            );
        }
        wanted.min(connections).max(1)
    }
}

/// Steers a running server; clones steer the same one.
#[derive(Debug, Clone)]
pub struct Control {
    limits: Arc<ArcSwap<Limits>>,
    ceiling: Ceiling,
    pulses: Arc<Pulses>,
    stop: CancellationToken,
}

impl Control {
    /// Steers a server that is yet to be made.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Arc::new(ArcSwap::from_pointee(limits)),
            ceiling: Ceiling::silent(usize::MAX),
            pulses: Arc::new(Pulses::new()),
            stop: CancellationToken::new(),
        }
    }

    /// Puts a ceiling over the connections of these limits, and of all that are set later.
    #[must_use]
    pub fn below(self, ceiling: Ceiling) -> Self {
        Self { ceiling, ..self }
    }

    /// Sets the limits of connections to come.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Ends each connection with its next answer; new ones are still accepted.
    pub fn drain(&self) {
        self.pulses.drain();
    }

    /// Stops accepting and ends every connection when its request in hand is answered.
    pub fn stop(&self) {
        self.pulses.drain();
        self.stop.cancel();
    }
}

/// One listener and what it answers.
#[derive(Debug)]
pub struct Server<A> {
    listener: TcpListener,
    control: Control,
    certificates: Option<Certificates>,
    answers: Arc<A>,
}

impl<A: Answers> Server<A> {
    /// Takes a listener (see [`super::listen`]); with certificates it speaks TLS only.
    #[must_use]
    pub fn new(listener: TcpListener, control: Control, certificates: Option<Certificates>, answers: A) -> Self {
        Self { listener, control, certificates, answers: Arc::new(answers) }
    }

    /// Serves until [`Control::stop`], then until the last connection has ended.
    ///
    /// # Cancel safety
    /// Dropping the future closes the listener and cuts every connection.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = connections.len() < self.control.ceiling.lower(self.control.limits.load().connections);
            tokio::select! {
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, peer)) => self.open(&mut connections, stream, peer),
                    Err(error) => pause(&error).await,
                },
                Some(ended) = connections.join_next() => report(ended),
                _ = tick.tick() => self.control.pulses.tick(),
                () = self.control.stop.cancelled() => break,
            }
        }
        let until = Instant::now() + BACKLOG_WAIT;
        // A connection that is ready is accepted before its timer is looked at: so the time is asked for, too, or a steady
        // sender would never be sent to the next process.
        while Instant::now() < until
            && let Ok(Ok((stream, peer))) = timeout_at(until, self.listener.accept()).await
        {
            self.open(&mut connections, stream, peer);
        }
        drop(self.listener);
        self.control.pulses.stop(QUIET_GRACE);
        while !connections.is_empty() {
            tokio::select! {
                Some(ended) = connections.join_next() => report(ended),
                _ = tick.tick() => self.control.pulses.tick(),
            }
        }
    }

    fn open(&self, connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
        let limits = **self.control.limits.load();
        let pulses = Arc::clone(&self.control.pulses);
        let answers = Arc::clone(&self.answers);
        let acceptor = self.certificates.as_ref().map(Certificates::acceptor);
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        connections.spawn(async move {
            let Some(acceptor) = acceptor else {
                return connection::serve(stream, peer, &limits, &pulses, &*answers).await;
            };
            match timeout(limits.header_timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => connection::serve(stream, peer, &limits, &pulses, &*answers).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

/// What a failed accept means for the next: nothing if it was that connection's own trouble.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    tracing::error!(%error, "cannot accept connections, trying again");
    tokio::time::sleep(EXHAUSTED_PAUSE).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked; the connection is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::Ceiling;

    #[test]
    fn a_number_above_the_ceiling_is_lowered_and_each_one_once_told() {
        let ceiling = Ceiling::new(100);
        for (wanted, expected, told) in
            [(50, 50, 0), (100, 100, 0), (101, 100, 101), (10_000, 100, 10_000), (0, 1, 10_000)]
        {
            assert_eq!(ceiling.clone().lower(wanted), expected);
            assert_eq!(ceiling.told.as_ref().unwrap().load(super::Ordering::Relaxed), told, "{wanted}");
        }
    }
}
