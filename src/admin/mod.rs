//! The admin listener: probes, metrics, and the API that the command line and the console use.
//!
//! Endpoints and the roles they take stand in one table, [`endpoints::TABLE`]. Lists never hold a payload; times are
//! RFC 3339; errors are RFC 9457 problems.

pub mod access;
pub mod dead_letters;
pub mod destinations;
pub mod endpoints;
pub mod events;
pub mod lists;
pub mod lockout;
pub mod probes;
pub mod problem;
pub mod reconciles;
pub mod replays;
pub mod routes;
pub mod state;
pub mod timeline;

pub use state::AdminState;

use crate::ingress::serve::{Answers, Service};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;

/// Everything the admin listener answers.
pub fn service(state: Arc<AdminState>) -> impl Answers {
    Service(TowerToHyperService::new(endpoints::router(&state)))
}
