//! Answers that no client should survive by luck: each ends in its own error, in time, without a word of a secret.

use super::{api, sandbox, secret};
use laigu_router::{
    config::settings::Credentials,
    domain::Chain,
    sandbox::{
        Options, Sandbox,
        faults::{Endpoint, Fault},
    },
    vendors::{
        action::Action,
        http::{self, Error, Reached},
        laigu::api::{
            Api,
            error::{ApiError, classify},
            window::Paging,
        },
    },
};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_millis(800);
/// What a busy machine may add to it.
const STALL_MAX: Duration = Duration::from_secs(4);

fn client(base_url: &str, deadline: Duration) -> Api {
    let credentials = Credentials::AppSign { app_id: secret("sandbox-app-id"), sign: secret("sandbox-sign") };
    let options = http::Options { deadline, ..http::Options::default() };
    Api::new(&api(base_url, credentials), 104, options, Paging::default()).unwrap()
}

/// The error that a fault leads to; it never takes much longer than the deadline, and never holds a credential.
async fn struck(sandbox: &Sandbox, fault: Fault) -> ApiError {
    sandbox.faults().plan(Endpoint::Conversation, 1, fault);
    let begun = Instant::now();
    let error = client(&sandbox.url(), DEADLINE).conversation("700000001").await.unwrap_err();
    assert!(begun.elapsed() < DEADLINE + STALL_MAX, "{error} after {:?}", begun.elapsed());
    let printed = format!("{} {error:?}", Chain(&error));
    for secret in ["sandbox-sign", "sandbox-app-id", "app_id", "enterprise_id", "?"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    error
}

#[tokio::test]
async fn every_hostile_answer_ends_in_its_own_error() {
    let sandbox = sandbox(|_| {}).await;
    let check = |error: ApiError, action: Action, reached: Reached| {
        assert_eq!(classify(&error), action, "{error:?}");
        let ApiError::Http(error) = error else { panic!("{error:?}") };
        assert_eq!(error.reached(), reached, "{error:?}");
    };
    check(struck(&sandbox, Fault::Hang).await, Action::Retry, Reached::Perhaps);
    check(struck(&sandbox, Fault::Drip).await, Action::Retry, Reached::Perhaps);
    check(struck(&sandbox, Fault::Truncated).await, Action::Retry, Reached::Perhaps);
    check(struck(&sandbox, Fault::Html).await, Action::RetryAFew, Reached::Yes);
    check(struck(&sandbox, Fault::Huge).await, Action::RetryAFew, Reached::Yes);
    check(struck(&sandbox, Fault::Garbled).await, Action::RetryAFew, Reached::Yes);
    check(struck(&sandbox, Fault::Bomb).await, Action::RetryAFew, Reached::Yes);
    check(struck(&sandbox, Fault::Deep).await, Action::RetryAFew, Reached::Yes);
    assert!(matches!(struck(&sandbox, Fault::NullResult).await, ApiError::NoResult));
    for status in [500, 502, 503] {
        let error = struck(&sandbox, Fault::Status(status)).await;
        assert!(matches!(error, ApiError::Status { status: told, .. } if told == status), "{error:?}");
        assert_eq!(classify(&error), Action::Retry);
    }
}

#[tokio::test]
async fn a_redirect_is_an_error_and_the_other_place_is_never_called() {
    let sandbox = sandbox(|_| {}).await;
    let elsewhere = Sandbox::start(Options::default()).await.unwrap();
    let error = struck(&sandbox, Fault::Redirect(format!("{}/v1/conversations/7", elsewhere.url()))).await;
    assert!(matches!(error, ApiError::Http(Error::Redirect(status)) if status == 302), "{error:?}");
    assert_eq!(classify(&error), Action::GiveUp);
    assert!(elsewhere.faults().all_calls().is_empty());
}

#[tokio::test]
async fn the_right_answer_is_taken_when_it_is_late_but_in_time() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.faults().plan(Endpoint::Conversation, 1, Fault::Late(Duration::from_millis(150)));
    client(&sandbox.url(), Duration::from_secs(10)).conversation("700000001").await.unwrap();
}

#[tokio::test]
async fn a_compressed_answer_is_read_as_the_same_record() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox.url(), Duration::from_secs(10));
    let plain = client.conversation("700000001").await.unwrap();
    sandbox.faults().plan(Endpoint::Conversation, 1, Fault::Gzip);
    assert_eq!(client.conversation("700000001").await.unwrap(), plain);
}

#[tokio::test]
async fn one_fault_costs_one_call_and_the_next_call_is_good() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox.url(), Duration::from_secs(10));
    for fault in [Fault::Truncated, Fault::Status(503), Fault::Garbled, Fault::Huge] {
        sandbox.faults().plan(Endpoint::Conversation, 1, fault);
        let before = sandbox.calls(Endpoint::Conversation);
        client.conversation("700000001").await.unwrap_err();
        assert_eq!(sandbox.calls(Endpoint::Conversation), before + 1, "no call is repeated behind the caller's back");
        client.conversation("700000001").await.unwrap();
    }
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    // Bound and dropped: a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = client(&format!("http://127.0.0.1:{port}"), DEADLINE).conversation("7").await.unwrap_err();
    assert!(matches!(&error, ApiError::Http(error) if error.reached() == Reached::No), "{error:?}");
    assert_eq!(classify(&error), Action::Retry);
}

#[tokio::test]
async fn proxies_from_the_environment_play_no_part() {
    const URL: &str = "LAIGU_ROUTER_TEST_API";
    // In the child, whose environment names a proxy: the call must arrive where the base URL says.
    if let Ok(base_url) = std::env::var(URL) {
        client(&base_url, Duration::from_secs(10)).conversation("700000001").await.unwrap();
        return;
    }
    let sandbox = sandbox(|_| {}).await;
    let proxy = Sandbox::start(Options::default()).await.unwrap();
    let child = tokio::task::spawn_blocking({
        let base_url = format!("http://localhost:{}", sandbox.addr().port());
        let proxy = proxy.url();
        move || {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "vendors::hostile::proxies_from_the_environment_play_no_part"])
                .env(URL, base_url)
                .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, &proxy)))
                .env_remove("no_proxy")
                .env_remove("NO_PROXY")
                .output()
        }
    });
    let output = child.await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(sandbox.calls(Endpoint::Conversation), 1);
    assert!(proxy.faults().all_calls().is_empty());
}

#[test]
fn metadata_addresses_and_plain_http_are_refused_when_the_client_is_made() {
    let credentials = || Credentials::Bearer(secret("t"));
    for base_url in [
        "https://169.254.169.254",
        "https://[::ffff:169.254.169.254]",
        "https://100.100.100.200",
        "http://api.laigu.com",
        "https://user:pass@api.laigu.com",
    ] {
        let made = Api::new(&api(base_url, credentials()), 1, http::Options::default(), Paging::default());
        assert!(matches!(made, Err(Error::Refused(_))), "{base_url}");
    }
}
