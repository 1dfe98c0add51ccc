//! The vendors' API clients against the stand-in: pages, errors, hostile answers.

mod by_hand;
pub mod documented;
mod easemob;
mod hostile;
mod laigu;
mod stand_in;

use laigu_router::{
    config::settings::{Api as ApiSettings, Credentials, Rate},
    domain::{Secret, Timestamp},
    sandbox::{Options, Sandbox},
    vendors::laigu::api::window::Window,
};
use std::time::Duration;
use url::Url;

/// A stand-in with a world that never changes by itself.
async fn sandbox(options: impl FnOnce(&mut Options)) -> Sandbox {
    let mut given = Options::default();
    given.plan.now = Timestamp::parse_rfc3339("2024-09-20T09:23:42.989Z").unwrap();
    options(&mut given);
    Sandbox::start(given).await.unwrap()
}

/// The whole past of the stand-in's world.
fn past(sandbox: &Sandbox) -> Window {
    let plan = &sandbox.options().plan;
    let from = plan.now.as_millis() - i64::try_from(plan.past.as_millis()).unwrap();
    Window { from: Timestamp::from_millis(from), to: plan.now.plus(Duration::from_millis(1)) }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn api(base_url: &str, credentials: Credentials) -> ApiSettings {
    ApiSettings {
        base_url: Url::parse(base_url).unwrap(),
        path_prefix: None,
        credentials,
        rate: Rate { count: 2, per: Duration::from_secs(1) },
    }
}
