//! A changed `routes.yaml` while the real program runs.

use crate::{
    crash::push::Push,
    program::{Home, PATIENCE, Program, get, wait_for},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const SOURCE: &str = "sources:\n  laigu: { type: laigu, tenants: { acme: { secret: crash-secret } } }\n";
const ONE: &str = "destinations:\n  one: { type: file, path: ./one }\nroutes:\n  - { name: all, to: [one] }\n";
const TWO: &str = "destinations:\n  one: { type: file, path: ./one }\n  two: { type: file, path: ./two }\n\
                   routes:\n  - { name: all, to: [one, two] }\n";
const WRONG: &str = "destinations:\n  one: { type: file, path: ./one }\nroutes:\n  - { name: all, to: [oen] }\n";

fn rewrite(home: &Home, text: &str) {
    rewrite_all(home, &format!("{SOURCE}{text}"));
}

/// Replaces everything from the sources on.
pub fn rewrite_all(home: &Home, text: &str) {
    let file = home.path("routes.yaml");
    let head = fs::read_to_string(&file).unwrap();
    let head = &head[..head.find("sources:").unwrap()];
    // As Kubernetes and editors do it: never half a file.
    fs::write(home.path("new.yaml"), format!("{head}{text}")).unwrap();
    fs::rename(home.path("new.yaml"), &file).unwrap();
}

/// `POST /api/v1/routes/reload`: status and body.
pub fn reload(home: &Home) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", home.admin)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        "POST /api/v1/routes/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

fn post(home: &Home, key: usize, number: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", home.hooks)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&Push { key, number }.request()).unwrap();
    assert_eq!(crate::crash::load::answer(&mut stream).unwrap(), 200);
}

fn lines(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "ndjson"));
    files.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn start() -> (Home, Program) {
    let home = Home::new("{ path: ./data }", &format!("{SOURCE}{ONE}"));
    let program = home.start();
    (home, program)
}

#[test]
fn a_new_destination_gets_what_is_decided_from_then_on() {
    let (home, program) = start();
    post(&home, 1, 1);
    program.wait_for("laigu_router_delivered_total", &["destination=\"one\""], 1.0);
    rewrite(&home, TWO);
    let (status, body) = reload(&home);
    assert_eq!((status, body.contains("\"changed\":true")), (200, true), "{body}");
    post(&home, 1, 2);
    program.wait_for("laigu_router_delivered_total", &["destination=\"two\""], 1.0);
    program.wait_for("laigu_router_delivered_total", &["destination=\"one\""], 2.0);
    let (one, two) = (lines(&home.path("one")), lines(&home.path("two")));
    assert_eq!((one.len(), two.len()), (2, 1));
    assert!(two[0].contains(&Push { key: 1, number: 2 }.id()), "{}", two[0]);
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_says_so() {
    let (home, program) = start();
    rewrite(&home, WRONG);
    let (status, body) = reload(&home);
    assert_eq!(status, 422);
    assert!(body.contains("oen") && body.contains("one"), "names the mistake and the nearest name: {body}");
    post(&home, 1, 1);
    program.wait_for("laigu_router_delivered_total", &["destination=\"one\""], 1.0);
}

#[test]
fn a_changed_file_is_taken_by_itself_and_a_removed_destination_keeps_its_place() {
    let (home, program) = start();
    rewrite(&home, TWO);
    program.wait_for("laigu_router_destination_state", &["destination=\"two\"", "state=\"up\""], 1.0);
    post(&home, 1, 1);
    program.wait_for("laigu_router_delivered_total", &["destination=\"two\""], 1.0);
    rewrite(&home, ONE);
    program.wait_for("laigu_router_destination_state", &["destination=\"two\"", "state=\"orphaned\""], 1.0);
    post(&home, 1, 2);
    program.wait_for("laigu_router_delivered_total", &["destination=\"one\""], 2.0);
    assert_eq!(lines(&home.path("two")).len(), 1, "nothing is decided for it any more");
    rewrite(&home, TWO);
    program.wait_for("laigu_router_destination_state", &["destination=\"two\"", "state=\"up\""], 1.0);
    post(&home, 1, 3);
    program.wait_for("laigu_router_delivered_total", &["destination=\"two\""], 2.0);
}

#[test]
fn reloading_all_the_time_under_load_loses_and_doubles_nothing() {
    const PUSHES: usize = 300;
    let (home, program) = start();
    let until = Instant::now() + Duration::from_secs(5);
    let done = std::sync::atomic::AtomicBool::new(false);
    let reloads = std::thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            let mut count = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) || Instant::now() < until {
                // A comment makes it another file, and another generation.
                rewrite(&home, &format!("{ONE}# {count}\n"));
                assert_eq!(reload(&home).0, 200);
                count += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            count
        });
        for number in 1..=PUSHES {
            post(&home, number % 7, number);
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        reloading.join().unwrap()
    });
    assert!(reloads > 10, "{reloads}");
    program.wait_for("laigu_router_delivered_total", &["destination=\"one\""], PUSHES as f64);
    let lines = lines(&home.path("one"));
    for number in 1..=PUSHES {
        let id = format!("\"{}\"", Push { key: number % 7, number }.id());
        assert_eq!(lines.iter().filter(|line| line.contains(&format!("\"xvendorid\":{id}"))).count(), 1, "{id}");
    }
    program.terminate(Duration::from_secs(15));
}

#[test]
fn a_changed_shutdown_delay_counts_at_the_stop() {
    let (home, program) = start();
    let file = home.path("routes.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("shutdown_delay: 0s", "shutdown_delay: 10m")).unwrap();
    assert_eq!(reload(&home).0, 200);
    let done = Command::new("kill").args(["-TERM", &program.id().to_string()]).status().unwrap();
    assert!(done.success());
    // What a stop without a delay takes a moment for would look the same.
    wait_for("a word about the delay", PATIENCE, || home.log().contains("still accepting").then_some(()));
    assert!(matches!(get(home.admin, "/readyz"), Some((503, _))));
    post(&home, 1, 1);
    program.wait_for("laigu_router_delivered_total", &["destination=\"one\""], 1.0);
}
