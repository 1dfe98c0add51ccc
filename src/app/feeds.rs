//! Reads the vendors' lists by the file in force: what [`crate::reconcile`] needs of the program.

use crate::{
    app::generation::Generation,
    journal::sqlite::state::SqliteState,
    reconcile::{jobs::Jobs, schedule::Schedule},
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Keeps feeds and back-fills running by the routes in force, until the process stops. They may be cut at any time: what
/// is not stored is read again.
pub async fn read(
    mut schedule: Schedule<SqliteState>,
    jobs: Jobs,
    mut routes: watch::Receiver<Arc<Generation>>,
    stop: CancellationToken,
) {
    loop {
        let generation = Arc::clone(&routes.borrow_and_update());
        schedule.apply(&generation.settings).await;
        jobs.apply(&generation.settings);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = routes.changed() => if changed.is_err() {
                break;
            },
        }
    }
    jobs.stop();
    schedule.stop().await;
}
