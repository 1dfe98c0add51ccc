//! Reads the vendors' lists by the file in force: what [`crate::reconcile`] needs of the program.

use crate::{
    app::generation::Generation,
    journal::sqlite::state::SqliteState,
    reconcile::{jobs::Jobs, schedule::Schedule},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

/// How often feeds that ended by themselves are begun again: none does, unless something is wrong.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Keeps feeds and back-fills running by the routes in force, until the process stops. They may be cut at any time: what
/// is not stored is read again.
pub async fn read(
    mut schedule: Schedule<SqliteState>,
    jobs: Jobs,
    mut routes: watch::Receiver<Arc<Generation>>,
    stop: CancellationToken,
) {
    let mut look = time::interval(LOOK_EVERY);
    loop {
        let generation = Arc::clone(&routes.borrow_and_update());
        schedule.apply(&generation.settings).await;
        jobs.apply(&generation.settings);
        tokio::select! {
            () = stop.cancelled() => break,
            _ = look.tick() => {}
            changed = routes.changed() => if changed.is_err() {
                break;
            },
        }
    }
    jobs.stop();
    schedule.stop().await;
}
