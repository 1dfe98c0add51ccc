//! The newcomer's minute: the whole line in one process, with no broker and no account.
//!
//! A stand-in for Laigu's API makes people and signed pushes about them, among them re-sends, a forged and an
//! unparsable one; an example file routes them to three folders, into one of them beside the records that the API has
//! of those people. Then the demo reads the folders, holds them against what it sent and what the stand-in knows, and
//! tells what happened to each kind. Only if everything is as it should be does it succeed.
//!
//! With `AMQP_URL` or `KAFKA_BROKERS` set, everything that is routed goes there too, to an exchange and a topic of the
//! demo's own, and ordinary clients read it back.

mod expected;
mod kafka;
mod rabbitmq;

use crate::{
    app::{self, generation::Generation},
    config,
    domain::Secret,
    sandbox::{
        self, Sandbox,
        push::{self, Kind, Mix, Push, Pusher},
        world::Plan,
    },
};
use anyhow::{Context, bail, ensure};
use expected::{Arrived, Copy, Enriched, Expected};
use std::{
    collections::BTreeMap,
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
const FOLDERS: [&str; 3] = ["crm", "profiles", "service"];
/// Everybody in the demo changed within this: so close together that a call for their records serves many of them.
const PAST: Duration = Duration::from_secs(3_600);
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

    let options = sandbox::Options::default();
    let options = sandbox::Options { plan: Plan { past: PAST, ..options.plan.clone() }, ..options };
    let vendor = Sandbox::start(options).await.context("cannot start the stand-in for Laigu")?;
    let token = vendor.options().enterprise_token.clone();
    fs::write(&file, routes(brokers, name, &vendor))?;
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
    let expected = vendor.with_world(|world| Expected::of(&pushes, &brokers.names(), world))?;
    let arrived = wait_for(folder, brokers, &expected).await?;
    account(&answers, &expected, folder, (metrics.accepted.get(), metrics.duplicates.get()))?;
    let enriched = expected.compare(&arrived)?;
    tell_of_records(&enriched, vendor.faults().all_calls().values().sum())?;
    brokers.tell(&arrived);
    println!("\nEverything arrived as it should: each push where its routes send it, once, with its own content,");
    println!("and beside it the vendor's record where a route asks for it.");

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

fn routes(brokers: &Brokers, name: &str, vendor: &Sandbox) -> String {
    let (url, token, enterprise) = (vendor.url(), &vendor.options().access_token, vendor.options().enterprise_id);
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
    tenants:
      acme:
        secret: {SECRET}
        enterprise_id: {enterprise}
        api: {{ base_url: '{url}', access_token: {token}, rate: 50/s }}
destinations:
  crm: {{ type: file, path: ./out/crm }}
  profiles: {{ type: file, path: ./out/profiles }}
  service: {{ type: file, path: ./out/service }}
{destinations}routes:
  - name: leads                        # people who can be called back
    when: event.type == "cus.upsert" && (has(body.tel) || has(body.weixin))
    to: [crm{leads}]
  - name: profiles                     # whoever came by an advertisement on Douyin, with the API's record of them
    when: event.type == "cus.upsert" && body.source == "douyin"
    enrich: [client]
    enrich_within: 30s
    to: [profiles]
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

/// Tells what was fetched.
fn tell_of_records(enriched: &Enriched, calls: u64) -> anyhow::Result<()> {
    let Enriched { ok, not_applicable } = enriched;
    println!("\n  {ok:>5}  records of customers put beside their pushes (`ok`), fetched with {calls} calls of the API");
    println!("  {not_applicable:>5}  visitors of whom the API has none, without a call (`not_applicable`)");
    ensure!(*ok > 0 && calls > 0, "nothing was fetched");
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
