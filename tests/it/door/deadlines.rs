//! Slow senders, many senders, and the end of the server.

use super::support::{
    PATIENCE, Running, SECRET, Says, laigu_sign, open, push_body, read_reply, read_to_end, request, settings,
};
use laigu_router::{
    config::settings::Settings,
    ingress::{listen, problem::Problem},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Deadlines short enough for a test and far enough apart to be told from each other.
fn hasty() -> Settings {
    let mut settings = settings();
    let limits = &mut settings.server.limits;
    limits.header_timeout = Duration::from_millis(600);
    limits.body_timeout = Duration::from_millis(1_200);
    limits.idle_timeout = Duration::from_millis(2_000);
    settings
}

/// How long it takes until the answer or the end comes, and what comes.
async fn wait(stream: &mut TcpStream) -> (Duration, Option<u16>) {
    let start = Instant::now();
    let reply = read_reply(stream).await;
    (start.elapsed(), reply.map(|reply| reply.status))
}

/// A stall of a busy machine, and still before the deadlines that hold when nothing is set: 5 s is the least of them.
const LATE_MAX: Duration = Duration::from_secs(3);

fn check_about(elapsed: Duration, expected_millis: u64) {
    let expected = Duration::from_millis(expected_millis);
    // Late is the machine's fault as much as ours; early is ours.
    assert!(elapsed + Duration::from_millis(20) >= expected, "{elapsed:?} is before {expected:?}");
    assert!(elapsed < expected + LATE_MAX, "{elapsed:?} is long after {expected:?}");
}

fn signed_push(number: usize) -> Vec<u8> {
    let body = push_body(number);
    request("POST", "/hooks/laigu/acme", &[("Laigu-Sign", &laigu_sign(&body, SECRET))], &body)
}

#[tokio::test]
async fn a_head_that_does_not_end_is_408_at_its_deadline_however_it_drips() {
    let door = open(&hasty());
    let mut stream = door.connect().await;
    stream.write_all(b"POST /hooks/laigu HTTP/1.1\r\nX: ").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drip = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let start = Instant::now();
    let mut answer = [0; 12];
    timeout(PATIENCE, tokio::io::AsyncReadExt::read_exact(&mut read, &mut answer)).await.unwrap().unwrap();
    check_about(start.elapsed(), 600);
    assert_eq!(&answer, b"HTTP/1.1 408");
    drip.abort();
    assert_eq!(door.rejected(Problem::Slow), 1);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_at_its_deadline() {
    let door = open(&hasty());
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"] {
        let mut stream = door.connect().await;
        stream.write_all(format!("POST /hooks/laigu HTTP/1.1\r\n{framing}").as_bytes()).await.unwrap();
        let (elapsed, status) = wait(&mut stream).await;
        assert_eq!(status, Some(408));
        check_about(elapsed, 1_200);
    }
    assert_eq!((door.stored(), door.rejected(Problem::Slow)), (0, 2));
}

#[tokio::test]
async fn a_quiet_connection_ends_at_its_deadline_without_a_word() {
    let door = open(&hasty());
    let mut fresh = door.connect().await;
    let (elapsed, status) = wait(&mut fresh).await;
    assert_eq!(status, None);
    check_about(elapsed, 2_000);
    let mut used = door.connect().await;
    used.write_all(&signed_push(1)).await.unwrap();
    assert_eq!(wait(&mut used).await.1, Some(200));
    let (elapsed, status) = wait(&mut used).await;
    assert_eq!(status, None);
    check_about(elapsed, 2_000);
}

#[tokio::test]
async fn the_second_head_of_a_connection_has_a_deadline_too() {
    let door = open(&hasty());
    // Its beginning comes with the first request, or after the answer.
    for together in [true, false] {
        let mut stream = door.connect().await;
        let (mut first, second) = (signed_push(1), b"POST /hooks/laigu HT");
        if together {
            first.extend_from_slice(second);
        }
        stream.write_all(&first).await.unwrap();
        assert_eq!(wait(&mut stream).await.1, Some(200));
        if !together {
            stream.write_all(second).await.unwrap();
        }
        let (elapsed, status) = wait(&mut stream).await;
        assert_eq!(status, Some(408));
        check_about(elapsed, 600);
    }
}

#[tokio::test]
async fn a_store_that_takes_its_time_is_waited_for() {
    let door = open(&hasty());
    door.say(Says::After(Duration::from_millis(2_500)));
    let mut stream = door.connect().await;
    stream.write_all(&signed_push(1)).await.unwrap();
    let (elapsed, status) = wait(&mut stream).await;
    assert_eq!(status, Some(200));
    check_about(elapsed, 2_500);
}

#[tokio::test]
async fn at_the_cap_new_connections_wait_and_nobody_is_refused() {
    let mut settings = settings();
    settings.server.limits.connections = 4;
    let door = open(&settings);
    let mut first = Vec::new();
    for number in 0..4 {
        let mut stream = door.connect().await;
        stream.write_all(&signed_push(number)).await.unwrap();
        assert_eq!(wait(&mut stream).await.1, Some(200));
        first.push(stream);
    }
    let mut fifth = door.connect().await;
    fifth.write_all(&signed_push(5)).await.unwrap();
    let early = timeout(Duration::from_millis(300), read_reply(&mut fifth)).await;
    assert!(early.is_err(), "served beyond the cap: {early:?}");
    first.pop();
    assert_eq!(wait(&mut fifth).await.1, Some(200));
    assert_eq!(door.stored(), 5);
}

/// Pushes on four connections, `count` each, and gives the slowest answer's time.
async fn slowest_of_good(door: &Running, count: usize) -> Duration {
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let mut stream = door.connect().await;
        tasks.spawn(async move {
            let mut slowest = Duration::ZERO;
            for number in 0..count {
                let start = Instant::now();
                stream.write_all(&signed_push(number)).await.unwrap();
                assert_eq!(read_reply(&mut stream).await.map(|reply| reply.status), Some(200));
                slowest = slowest.max(start.elapsed());
            }
            slowest
        });
    }
    tasks.join_all().await.into_iter().max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_slow_senders_do_not_disturb_the_others() {
    let door = open(&settings());
    let mut slow = Vec::new();
    // Each costs two descriptors in this process; stay within a usual limit of them.
    while slow.len() < 2_200 {
        match TcpStream::connect(door.address).await {
            Ok(mut stream) => {
                let part: &[u8] = match slow.len() % 3 {
                    0 => b"",
                    1 => b"POST /hooks/laigu HTTP/1.1\r\nX",
                    _ => b"POST /hooks/laigu HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
                };
                stream.write_all(part).await.unwrap();
                slow.push(stream);
            }
            Err(error) => {
                println!("only {} slow senders fit: {error}", slow.len());
                break;
            }
        }
    }
    assert!(slow.len() > 300, "too few descriptors for this test");
    let slowest = slowest_of_good(&door, 100).await;
    assert!(slowest < LATE_MAX, "a good push took {slowest:?}");
    assert_eq!(door.stored(), 400);
}

#[tokio::test]
async fn stopping_answers_what_is_in_hand_and_then_ends() {
    let door = open(&settings());
    door.say(Says::Hold);
    let mut busy = door.connect().await;
    busy.write_all(&signed_push(1)).await.unwrap();
    let mut half = door.connect().await;
    let push = signed_push(2);
    half.write_all(&push[..100]).await.unwrap();
    let mut quiet = door.connect().await;
    quiet.write_all(&request("GET", "/hooks/laigu", &[], b"")).await.unwrap();
    assert_eq!(wait(&mut quiet).await.1, Some(200));
    door.wait_stored(1).await;
    door.control.stop();
    half.write_all(&push[100..]).await.unwrap();
    door.wait_stored(2).await;
    door.release();
    for stream in [&mut busy, &mut half] {
        let reply = read_reply(stream).await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert_eq!(read_to_end(stream).await, b"");
    }
    assert_eq!(read_to_end(&mut quiet).await, b"");
    timeout(PATIENCE, door.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(door.address).await.is_err(), "somebody still listens");
}

#[tokio::test]
async fn draining_sends_senders_away_and_refuses_nobody() {
    let door = open(&settings());
    let mut stream = door.connect().await;
    stream.write_all(&signed_push(1)).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().header("connection"), None);
    door.control.drain();
    stream.write_all(&signed_push(2)).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.unwrap().header("connection"), Some("close"));
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert_eq!(door.push(&push_body(3)).await.status, 200);
}

#[tokio::test]
async fn connections_that_the_kernel_holds_are_served_before_the_end() {
    let mut settings = settings();
    settings.server.limits.connections = 1;
    let door = open(&settings);
    let mut holder = door.connect().await;
    holder.write_all(&signed_push(0)).await.unwrap();
    assert_eq!(wait(&mut holder).await.1, Some(200));
    let mut waiting = Vec::new();
    for number in 1..10 {
        let mut stream = door.connect().await;
        stream.write_all(&signed_push(number)).await.unwrap();
        waiting.push(stream);
    }
    door.control.stop();
    for stream in &mut waiting {
        assert_eq!(wait(stream).await.1, Some(200));
    }
}

#[tokio::test]
async fn a_passed_socket_is_served_by_the_next_process_without_a_refusal() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let first = super::support::open_on(&settings(), listen::adopt(listener.try_clone().unwrap()).unwrap());
    let second_settings = settings();
    // It sends until the second process has had some, however fast the machine is.
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&enough);
    let sender = tokio::spawn(async move {
        let mut answered = 0;
        while !told.load(Ordering::Acquire) {
            let mut stream = TcpStream::connect(address).await.expect("nobody is refused");
            stream.write_all(&signed_push(answered)).await.unwrap();
            assert_eq!(read_reply(&mut stream).await.map(|reply| reply.status), Some(200), "push {answered}");
            answered += 1;
        }
        answered
    });
    first.wait_stored(50).await;
    first.control.stop();
    let (first_store, first_task) = (Arc::clone(&first.store), first.task);
    timeout(PATIENCE, first_task).await.unwrap().unwrap();
    let second = super::support::open_on(&second_settings, listen::adopt(listener).unwrap());
    second.wait_stored(50).await;
    enough.store(true, Ordering::Release);
    let answered = timeout(PATIENCE, sender).await.unwrap().unwrap();
    assert_eq!(first_store.events.lock().unwrap().len() + second.stored(), answered);
}
