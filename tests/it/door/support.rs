//! A door on a loopback port with a store that remembers, and a client that speaks raw HTTP/1.1.
#![allow(dead_code, reason = "tests take what they need")]

pub(crate) use crate::crash::push::sign as laigu_sign;
use arc_swap::ArcSwap;
use laigu_router::{
    config::settings::{
        Limits, Probe, Retry, Server as ServerSettings, Settings, Signature, SignatureEncoding, SignatureScheme,
        Source, SourceKind, Storage, Tenant, Unrouted,
    },
    domain::{HashKeys, NewEvent, Secret, SourceName, TenantName},
    ingress::{
        Accept, Answer, Busy,
        door::Door,
        hooks::Hooks,
        listen,
        problem::Problem,
        serve::{Control, Server},
        tls::Certificates,
    },
    journal::Retention,
    metrics::{Metrics, OfReason},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

pub(crate) const SECRET: &str = "test_secret";
pub(crate) const TOKEN: &str = "b6bd473a003a99216d3f63cc329869b3";

/// The longest any test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers what it was offered and answers as it is told.
pub(crate) struct Store {
    pub(crate) events: Mutex<Vec<NewEvent>>,
    pub(crate) says: Mutex<Says>,
    held: Mutex<Vec<oneshot::Sender<Answer>>>,
}

/// What the store does with an offer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Answer(Answer),
    /// Stored, after a while.
    After(Duration),
    /// Stored, once [`Running::release`] is called.
    Hold,
    Busy,
    Nothing,
    Panic,
}

impl Accept for Store {
    fn offer(&self, event: NewEvent, answer: oneshot::Sender<Answer>) -> Result<(), Busy> {
        let says = *self.says.lock().unwrap();
        match says {
            Says::Answer(word) => {
                self.events.lock().unwrap().push(event);
                let _ = answer.send(word);
                Ok(())
            }
            Says::After(delay) => {
                self.events.lock().unwrap().push(event);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = answer.send(Answer::Stored);
                });
                Ok(())
            }
            Says::Hold => {
                self.events.lock().unwrap().push(event);
                self.held.lock().unwrap().push(answer);
                Ok(())
            }
            Says::Busy => Err(Busy),
            Says::Nothing => Ok(()),
            Says::Panic => panic!("as asked"),
        }
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) control: Control,
    pub(crate) door: Arc<ArcSwap<Door>>,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) const KEYS: HashKeys = HashKeys { first: 1, second: 2 };

/// Opens the door; call within a runtime.
pub(crate) fn open(settings: &Settings) -> Running {
    open_on(settings, listen::bind("127.0.0.1:0".parse().unwrap()).unwrap())
}

/// Opens the door behind a listener.
pub(crate) fn open_on(settings: &Settings, listener: TcpListener) -> Running {
    open_with(settings, listener, None)
}

/// Opens the door with TLS.
pub(crate) fn open_secure(settings: &Settings, certificates: Certificates) -> Running {
    open_with(settings, listen::bind("127.0.0.1:0".parse().unwrap()).unwrap(), Some(certificates))
}

fn open_with(settings: &Settings, listener: TcpListener, certificates: Option<Certificates>) -> Running {
    let store = Arc::new(Store {
        events: Mutex::default(),
        says: Mutex::new(Says::Answer(Answer::Stored)),
        held: Mutex::default(),
    });
    let metrics = Arc::new(Metrics::default());
    let door = Arc::new(ArcSwap::from_pointee(Door::new(settings, KEYS).unwrap()));
    let control = Control::new(settings.server.limits);
    let address = listener.local_addr().unwrap();
    let hooks = Hooks::new(Arc::clone(&door), Arc::<Store>::clone(&store), Arc::clone(&metrics));
    let task = tokio::spawn(Server::new(listener, control.clone(), certificates, hooks).run());
    Running { address, store, metrics, control, door, task }
}

impl Running {
    pub(crate) fn say(&self, says: Says) {
        *self.store.says.lock().unwrap() = says;
    }

    /// Answers what was held, and from then on at once.
    pub(crate) fn release(&self) {
        self.say(Says::Answer(Answer::Stored));
        for answer in self.store.held.lock().unwrap().drain(..) {
            answer.send(Answer::Stored).unwrap();
        }
    }

    pub(crate) fn stored(&self) -> usize {
        self.store.events.lock().unwrap().len()
    }

    pub(crate) async fn wait_stored(&self, count: usize) {
        let wait = async {
            while self.stored() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} of {count} stored", self.stored()));
    }

    pub(crate) fn rejected(&self, problem: Problem) -> u64 {
        self.metrics.rejected.get_or_create(&OfReason { reason: problem.reason() }).get()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads one answer.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        // The door may answer and close before it has read all.
        let _ = stream.write_all(bytes).await;
        read_reply(&mut stream).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send(&request("POST", path, headers, body)).await
    }

    /// Posts a body to `/hooks/laigu/acme` as Laigu signs it.
    pub(crate) async fn push(&self, body: &[u8]) -> Reply {
        self.post("/hooks/laigu/acme", &[("Laigu-Signature", &laigu_sign(body, SECRET))], body).await
    }
}

/// One answer as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// Reads one answer; `None` when the connection ends before one begins.
pub(crate) async fn read_reply(stream: &mut TcpStream) -> Option<Reply> {
    timeout(PATIENCE, read_reply_patiently(stream)).await.expect("an answer or an end in time")
}

async fn read_reply_patiently(stream: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) if bytes.is_empty() => return None,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut reply = Reply { status: head[9..12].parse().unwrap(), head, body: String::new() };
    if reply.status == 100 {
        return Some(reply);
    }
    let length = reply.header("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    reply.body = String::from_utf8(body).unwrap();
    Some(reply)
}

/// Waits until the other side closes; gives what came before.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the end of the connection in time");
    bytes
}

/// A push of Laigu with an id of its own.
pub(crate) fn push_body(number: usize) -> Vec<u8> {
    format!(
        r#"{{"id":"sub_{TOKEN}_1726824224_{number}","event":"cus.upsert","enterprise_token":"{TOKEN}","created_at":1726824224,"body":{{"track_id":"t{number}","name":"小黄鸭"}}}}"#
    )
    .into_bytes()
}

pub(crate) fn tenant(secrets: &[&str]) -> Tenant {
    Tenant {
        enterprise_token: None,
        enterprise_id: None,
        tenant_id: None,
        secrets: secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect(),
        path_secret: None,
        allow_from: Vec::new(),
        api: None,
        reconcile: None,
        poll_sessions: None,
        reports: None,
    }
}

pub(crate) fn source(kind: SourceKind, signature: Signature, tenants: Vec<(&str, Tenant)>) -> Source {
    Source {
        kind,
        ack: None,
        probe: Probe::Reject,
        signature,
        tenants: tenants.into_iter().map(|(name, tenant)| (TenantName::parse(name).unwrap(), tenant)).collect(),
        fields: None,
    }
}

pub(crate) fn signature(scheme: SignatureScheme, headers: &[&str]) -> Signature {
    Signature {
        scheme,
        headers: headers.iter().map(|name| (*name).to_owned()).collect(),
        encoding: SignatureEncoding::Hex,
        prefix: String::new(),
    }
}

pub(crate) fn laigu_signature() -> Signature {
    signature(SignatureScheme::Sha1Suffix, &["meiqia-signature", "laigu-signature", "laigu-sign", "meiqia-sign"])
}

/// `laigu` with the tenant `acme`.
pub(crate) fn settings() -> Settings {
    let acme = Tenant { enterprise_token: Some(TOKEN.to_owned()), ..tenant(&[SECRET]) };
    with_sources(vec![("laigu", source(SourceKind::Laigu, laigu_signature(), vec![("acme", acme)]))])
}

pub(crate) fn with_sources(sources: Vec<(&str, Source)>) -> Settings {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let day = Duration::from_secs(86_400);
    Settings {
        server: ServerSettings {
            listen: loopback,
            admin: loopback,
            admin_tokens: Vec::new(),
            trusted_proxies: Vec::new(),
            shutdown_delay: Duration::ZERO,
            tls: None,
            limits: Limits::default(),
        },
        storage: Storage {
            path: PathBuf::from("unused"),
            retention: Retention { delivered: day, dead_letters: day, ids: day, size_max: 1 << 30 },
            backlog_alarm_percent: 50,
        },
        sources: sources.into_iter().map(|(name, source)| (SourceName::parse(name).unwrap(), source)).collect(),
        destinations: BTreeMap::new(),
        routes: Vec::new(),
        unrouted: Unrouted::Keep,
        retry: Retry::default(),
    }
}
