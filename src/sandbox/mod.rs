//! A stand-in for both vendors' APIs: seeded people, every page rule and error code, and faults on request.
//!
//! For tests, for the demo, and for teams that write consumers without an account. It runs beside `serve` in one
//! process, on a loopback port, and can push signed events the way Laigu does ([`push`]). It is no model of the
//! vendors' quotas or timing, which are published nowhere. Where the vendors' pages are silent (HTTP status of an
//! error, the error envelope) it answers in the way that is hardest on a client.

mod control;
mod easemob;
pub mod faults;
mod gzip;
mod laigu;
mod names;
pub mod push;
mod request;
pub mod sender;
mod server;
pub mod world;

use crate::{
    config::settings::Rate,
    core::rate::{Bucket, Take},
    domain::Timestamp,
};
use faults::{Endpoint, Faults};
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};
use world::{Plan, World};

/// Who and what the stand-in is.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where it listens; port 0: any free one. Loopback, unless people and credentials are as made up as they come.
    pub listen: SocketAddr,
    /// The people in it.
    pub plan: Plan,
    /// Laigu's number of the enterprise.
    pub enterprise_id: u64,
    /// The token that stands in pushes.
    pub enterprise_token: String,
    /// Laigu's access token.
    pub access_token: String,
    /// Laigu's `app_id`.
    pub app_id: String,
    /// Laigu's `sign`.
    pub sign: String,
    /// The longest window that Laigu's lists take; wider is 10016.
    pub window_max: Duration,
    /// Laigu's quota; over it is 10014. None: no bound.
    pub rate: Option<Rate>,
    /// Easemob's number of the tenant.
    pub tenant_id: String,
    /// Easemob's `clientId`.
    pub client_id: String,
    /// Easemob's `secretId`.
    pub secret_id: String,
    /// How long Easemob's tokens live.
    pub token_life: Duration,
    /// The most sessions a page takes. The vendor says 50 in one place and "less than 50" in another.
    pub per_page_max: u32,
    /// Before every answer.
    pub latency: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            plan: Plan {
                seed: 1,
                now: Timestamp::now(),
                past: Duration::from_secs(3 * 86_400),
                clients: 300,
                conversations: 300,
                agents: 25,
                sessions: 230,
            },
            enterprise_id: 104,
            enterprise_token: "b6bd473a003a99216d3f63cc329869b3".into(),
            access_token: "sandbox-access-token".into(),
            app_id: "sandbox-app-id".into(),
            sign: "sandbox-sign".into(),
            window_max: Duration::from_secs(12 * 3600),
            rate: None,
            tenant_id: "1".into(),
            client_id: "sandbox-client-id".into(),
            secret_id: "sandbox-secret-id".into(),
            token_life: Duration::from_secs(7200),
            per_page_max: 50,
            latency: Duration::ZERO,
        }
    }
}

/// A running stand-in; stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

impl Sandbox {
    /// Binds the port and begins to answer.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::new(options));
        let mut tasks = JoinSet::new();
        tasks.spawn(server::run(listener, Arc::clone(&state)));
        Ok(Self { addr, state, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`, for `api.base_url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.state.options
    }

    /// What goes wrong, and what was called.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// How often an endpoint was called.
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.state.faults.calls(endpoint)
    }

    /// Looks at the people, or changes them.
    pub fn with_world<T>(&self, use_it: impl FnOnce(&mut World) -> T) -> T {
        self.state.with_world(use_it)
    }

    /// Makes every Easemob token that was given out invalid, as the vendor may at any time.
    pub fn void_tokens(&self) {
        lock(&self.state.tokens).clear();
    }

    /// Runs until dropped: for a command that does nothing else.
    pub async fn run(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What all connections share.
#[derive(Debug)]
struct State {
    options: Options,
    faults: Faults,
    world: Mutex<World>,
    bucket: Option<Mutex<Bucket>>,
    /// Easemob's tokens, and until when they are good.
    tokens: Mutex<BTreeMap<String, Timestamp>>,
}

impl State {
    fn new(options: Options) -> Self {
        let world = World::new(&options.plan, options.enterprise_id, &options.enterprise_token, &options.tenant_id);
        let bucket = options.rate.map(|rate| Mutex::new(Bucket::new(rate)));
        Self { options, faults: Faults::default(), world: Mutex::new(world), bucket, tokens: Mutex::default() }
    }

    fn with_world<T>(&self, use_it: impl FnOnce(&mut World) -> T) -> T {
        use_it(&mut lock(&self.world))
    }

    fn take(&self, now: Timestamp) -> Take {
        self.bucket.as_ref().map_or(Take::Ready, |bucket| lock(bucket).take(now))
    }
}

/// A panic of another thread leaves plain data as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
