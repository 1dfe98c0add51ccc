//! The newcomer's minute: the whole line in one process, with no broker and no account.
//!
//! A stand-in for Laigu's API makes people and signed pushes about them, among them re-sends, a forged and an
//! unparsable one; an example file routes them to two folders. Then the demo reads the folders, holds them against
//! what it sent, and tells what happened to each kind. Only if everything is as it should be does it succeed.
//!
//! With `AMQP_URL` or `KAFKA_BROKERS` set, everything that is routed goes there too, to an exchange and a topic of the
//! demo's own, and ordinary clients read it back.

mod kafka;
mod rabbitmq;

use crate::{
    app::{self, generation::Generation},
    config,
    domain::Secret,
    sandbox::{
        self, Sandbox,
        push::{self, Kind, Mix, Push, Pusher},
    },
};
use anyhow::{Context, bail, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// The secret of the demo's webhook; known to everyone, so it protects nothing.
const SECRET: &str = "demo-secret-known-to-everyone";
/// The same people and pushes every time.
const SEED: u64 = 20_260;
/// Names the demo's own exchange and topic, with the number of its process.
const OWN: &str = "laigu-router-demo";
/// The file destinations, and their folders.
const FOLDERS: [&str; 2] = ["crm", "service"];
/// How long everything may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo in a new folder below the system's temporary one.
///
/// With `keep` the server stays, and it is said what to try next; it ends with Ctrl-C.
///
/// # Errors
/// What could not be started, or what did not arrive as it should.
pub async fn run(keep: bool) -> anyhow::Result<()> {
    let name = format!("{OWN}-{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    let mut brokers = Brokers::open(&name).await?;
    let ended = run_with(&mut brokers, &name, &folder, keep).await;
    brokers.close().await;
    ended?;
    if !keep {
        fs::remove_dir_all(&folder).ok();
    }
    Ok(())
}

async fn run_with(brokers: &mut Brokers, name: &str, folder: &Path, keep: bool) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join("routes.yaml");
    fs::write(&file, routes(brokers, name))?;

    let vendor = Sandbox::start(sandbox::Options::default()).await.context("cannot start the stand-in for Laigu")?;
    let token = vendor.options().enterprise_token.clone();
    let generation = load(&file)?;
    let running = app::start(generation).await.context("cannot start the router")?;
    let (hooks, admin) = (running.hooks, running.admin);
    let metrics = std::sync::Arc::clone(&running.state.metrics);
    let stop = CancellationToken::new();
    let server = tokio::spawn(running.until(stop.clone()));

    println!("laigu-router demo\n");
    println!("  a stand-in for Laigu's API   {}", vendor.url());
    println!("  webhooks                     http://{hooks}/hooks/laigu/acme");
    println!("  admin                        http://{admin}");
    println!("  routes                       {}\n", file.display());

    let mix = Mix { resent: 10, forged: 1, unparsable: 1, ..Mix::default() };
    let secret = Secret::new(SECRET.to_owned());
    let pushes = vendor.with_world(|world| push::pushes(world, &token, &secret, mix, SEED));
    let hook = format!("http://{hooks}/hooks/laigu/acme").parse().context("our own address is a URL")?;
    let answers = send(&Pusher::new(&hook, "meiqia-signature")?, &pushes).await?;
    let expected = Expected::of(&pushes, &brokers.names())?;
    let arrived = wait_for(folder, brokers, &expected).await?;
    account(&answers, &expected, folder, (metrics.accepted.get(), metrics.duplicates.get()))?;
    expected.compare(&arrived)?;
    brokers.tell(&arrived);
    println!("\nEverything arrived as it should: each push where its routes send it, once, with its own content.");

    if keep {
        what_next(&file, hooks, admin);
        tokio::signal::ctrl_c().await?;
    }
    stop.cancel();
    server.await?
}

/// The brokers that the environment names, and what reads back from them.
struct Brokers {
    rabbitmq: Option<rabbitmq::Reader>,
    kafka: Option<kafka::Reader>,
}

impl Brokers {
    /// Makes what the demo publishes to, before anything else runs: a broker that is not there is told at once.
    async fn open(name: &str) -> anyhow::Result<Self> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut brokers = Self { rabbitmq: None, kafka: None };
        if let Some(url) = set("AMQP_URL") {
            brokers.rabbitmq = Some(rabbitmq::Reader::open(&url, name).await?);
        }
        if let Some(list) = set("KAFKA_BROKERS") {
            match kafka::Reader::open(&list, name).await {
                Ok(reader) => brokers.kafka = Some(reader),
                Err(error) => {
                    brokers.close().await;
                    return Err(error);
                }
            }
        }
        Ok(brokers)
    }

    /// Their destinations' names.
    fn names(&self) -> Vec<&'static str> {
        let named = [self.rabbitmq.as_ref().map(|_| "rabbitmq"), self.kafka.as_ref().map(|_| "kafka")];
        named.into_iter().flatten().collect()
    }

    async fn read(&mut self, arrived: &mut Arrived) -> anyhow::Result<()> {
        if let Some(reader) = &mut self.rabbitmq {
            arrived.entry("rabbitmq").or_default().extend(reader.read().await?);
        }
        if let Some(reader) = &self.kafka {
            arrived.entry("kafka").or_default().extend(reader.read()?);
        }
        Ok(())
    }

    /// Says what was read back.
    fn tell(&self, arrived: &Arrived) {
        let saw = [
            ("rabbitmq", self.rabbitmq.as_ref().map(rabbitmq::Reader::saw)),
            ("kafka", self.kafka.as_ref().map(kafka::Reader::saw)),
        ];
        for (name, saw) in saw {
            if let Some(saw) = saw {
                let count = arrived.get(name).map_or(0, Vec::len);
                println!("  {count:>5}  read back from {name}: {saw}");
            }
        }
    }

    async fn close(self) {
        if let Some(reader) = self.rabbitmq {
            reader.close().await;
        }
        if let Some(reader) = self.kafka {
            reader.remove().await;
        }
    }
}

fn routes(brokers: &Brokers, name: &str) -> String {
    let (mut destinations, mut leads, mut talks) = (String::new(), String::new(), String::new());
    if brokers.rabbitmq.is_some() {
        // The demo has made the exchange, and would not want it made again after it is gone.
        destinations += &format!(
            "  rabbitmq: {{ type: rabbitmq, url: '${{AMQP_URL}}', exchange: {{ name: {name}, declare: false }} }}\n"
        );
        leads += ", { destination: rabbitmq, routing_key: \"customer.{{ body.source | default('unknown') }}\" }";
        talks += ", rabbitmq";
    }
    if brokers.kafka.is_some() {
        destinations += &format!("  kafka: {{ type: kafka, brokers: '${{KAFKA_BROKERS}}', topic: {name} }}\n");
        leads += ", kafka";
        talks += ", kafka";
    }
    format!(
        r#"# The demo's routes: `laigu-router check --config` explains any mistake you make here.
version: 1
server: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, shutdown_delay: 0s }}
storage: {{ path: ./data }}
sources:
  laigu:
    type: laigu
    ack: '{{"status":"success"}}'
    tenants: {{ acme: {{ secret: {SECRET} }} }}
destinations:
  crm: {{ type: file, path: ./out/crm }}
  service: {{ type: file, path: ./out/service }}
{destinations}routes:
  - name: leads                        # people who can be called back
    when: event.type == "cus.upsert" && (has(body.tel) || has(body.weixin))
    to: [crm{leads}]
  - name: conversations
    when: event.type.startsWith("conversation.")
    to: [service{talks}]
"#
    )
}

fn load(file: &Path) -> anyhow::Result<Generation> {
    let loaded = config::load(file, &|name| std::env::var(name).ok());
    let loaded = loaded.map_err(|diagnostics| anyhow::anyhow!("{diagnostics}"))?;
    Generation::compile(1, loaded).map_err(|diagnostics| anyhow::anyhow!("{diagnostics}"))
}

/// How often each kind of push got each status.
type Answers = BTreeMap<(Kind, u16), u32>;

async fn send(pusher: &Pusher, pushes: &[Push]) -> anyhow::Result<Answers> {
    let mut answers = Answers::new();
    for push in pushes {
        let status = pusher.send(push).await.context("a push was not answered")?;
        *answers.entry((push.kind, status)).or_default() += 1;
    }
    Ok(answers)
}

/// What must arrive: for each destination the pushes by their vendor id, read without the router's own code.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    destinations: BTreeMap<&'static str, BTreeMap<String, serde_json::Value>>,
    unrouted: usize,
    dead: usize,
}

impl Expected {
    /// Everything goes to its folder, and to all of `brokers`.
    fn of(pushes: &[Push], brokers: &[&'static str]) -> anyhow::Result<Self> {
        let mut expected = Self::default();
        for push in pushes {
            match push.kind {
                Kind::Unparsable => expected.dead += 1,
                Kind::Resent | Kind::Forged => {}
                Kind::Fresh => {
                    let value: serde_json::Value = serde_json::from_slice(&push.body)?;
                    let event = value.get("event").and_then(|event| event.as_str()).unwrap_or_default();
                    let reachable = |name| value.get("body").and_then(|body| body.get(name)).is_some();
                    let folder = match event {
                        "cus.upsert" if reachable("tel") || reachable("weixin") => "crm",
                        event if event.starts_with("conversation.") => "service",
                        _ => {
                            expected.unrouted += 1;
                            continue;
                        }
                    };
                    let id = value.get("id").and_then(|id| id.as_str()).context("a push of ours has an id")?;
                    for name in brokers.iter().chain([&folder]) {
                        expected.destinations.entry(name).or_default().insert(id.to_owned(), value.clone());
                    }
                }
            }
        }
        Ok(expected)
    }

    fn len(&self) -> usize {
        self.destinations.values().map(BTreeMap::len).sum()
    }

    fn compare(&self, arrived: &Arrived) -> anyhow::Result<()> {
        for (name, pushes) in &self.destinations {
            let mut seen = BTreeSet::new();
            for Copy { vendor_id: id, data } in arrived.get(name).into_iter().flatten() {
                let sent = pushes.get(id).with_context(|| format!("{name} has {id}, which was not sent there"))?;
                ensure!(data == sent, "{name} has {id} with other content than was sent");
                ensure!(seen.insert(id), "{name} has {id} twice");
            }
            ensure!(seen.len() == pushes.len(), "{name} has {} of {} pushes", seen.len(), pushes.len());
        }
        Ok(())
    }
}

/// One delivery, as it was read.
#[derive(Debug)]
struct Copy {
    vendor_id: String,
    data: serde_json::Value,
}

/// By destination.
type Arrived = BTreeMap<&'static str, Vec<Copy>>;

/// Reads until as much has arrived as must, or patience ends.
async fn wait_for(folder: &Path, brokers: &mut Brokers, expected: &Expected) -> anyhow::Result<Arrived> {
    let deadline = time::Instant::now() + PATIENCE;
    let mut read_back = Arrived::new();
    loop {
        brokers.read(&mut read_back).await?;
        let mut arrived = read(folder)?;
        let count = |arrived: &Arrived| arrived.values().map(Vec::len).sum::<usize>();
        let copies = count(&arrived) + count(&read_back);
        if copies >= expected.len() {
            arrived.append(&mut read_back);
            return Ok(arrived);
        }
        if time::Instant::now() > deadline {
            bail!("{copies} of {} deliveries arrived within {PATIENCE:?}; see {}", expected.len(), folder.display());
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

fn read(folder: &Path) -> anyhow::Result<Arrived> {
    let mut arrived = Arrived::new();
    for name in FOLDERS {
        for path in files(&folder.join("out").join(name)) {
            for line in fs::read_to_string(&path)?.lines() {
                // The last line may be half written while we read it.
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
                let id = line.get("xvendorid").and_then(|id| id.as_str()).context("a line without xvendorid")?;
                let data = line.get("data").context("a line without data")?.clone();
                arrived.entry(name).or_default().push(Copy { vendor_id: id.to_owned(), data });
            }
        }
    }
    Ok(arrived)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "ndjson")).collect();
    paths.sort();
    paths
}

/// Tells what was sent, what was answered, and where it is now.
fn account(
    answers: &Answers,
    expected: &Expected,
    folder: &Path,
    (accepted, duplicates): (u64, u64),
) -> anyhow::Result<()> {
    println!("  pushed                        answered");
    for ((kind, status), count) in answers {
        let (what, meaning) = match kind {
            Kind::Fresh => ("new, signed", "durable, then 200"),
            Kind::Resent => ("sent again, same bytes", "known: 200, and not delivered again"),
            Kind::Forged => ("signed with another secret", "refused, nothing kept"),
            Kind::Unparsable => ("signed, but not JSON", "kept for you: a dead letter `unparsable`"),
        };
        println!("  {count:>5}  {what:<28} {status}  {meaning}");
        let right = if *kind == Kind::Forged { 401 } else { 200 };
        ensure!(*status == right, "{what}: answered {status}, not {right}");
    }
    println!("\n  {accepted:>5}  stored, {duplicates} re-sends told by their id");
    for name in FOLDERS {
        let count = expected.destinations.get(name).map_or(0, BTreeMap::len);
        println!("  {count:>5}  delivered to {}", folder.join("out").join(name).display());
    }
    println!("  {:>5}  taken by no route: kept, listed, replayable", expected.unrouted);
    println!("  {:>5}  dead letters", expected.dead);
    Ok(())
}

fn what_next(file: &Path, hooks: std::net::SocketAddr, admin: std::net::SocketAddr) {
    let file = file.display();
    println!("\nIt runs on until Ctrl-C. Try, in another terminal:");
    println!("  laigu-router --config {file} --admin http://{admin} events list");
    println!("  laigu-router --config {file} --admin http://{admin} dead-letters list");
    println!("  laigu-router --config {file} check");
    println!("  curl http://{admin}/metrics");
    println!("  curl http://{hooks}/hooks/laigu/acme    # what a console's test sees");
}
