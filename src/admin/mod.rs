//! The admin listener: probes, metrics, and the API that the command line and the console use.

pub mod api;
pub mod state;

pub use state::AdminState;

use crate::ingress::serve::{Answers, Service};
use axum::{Router, routing::get};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;

/// Everything the admin listener answers.
pub fn service(state: Arc<AdminState>) -> impl Answers {
    let router = Router::new()
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/destinations", get(api::destinations))
        .with_state(state);
    Service(TowerToHyperService::new(router))
}
