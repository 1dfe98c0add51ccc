//! Reading a log from a task: from the ring at once, from the disk on a blocking thread.

use crate::{
    domain::{Event, EventId, Offset, Partition, Routed},
    journal::{Entry, Log, Page, ReadError, ReadLimit, Wanted, tail::Tail},
};
use std::sync::Arc;

/// Bytes of bodies that one read brings at most.
const READ_BYTES: usize = 4 << 20;

/// What one read of so many rows may bring.
#[must_use]
pub fn limit(rows: usize) -> ReadLimit {
    ReadLimit { rows, bytes: READ_BYTES }
}

/// Reads EVENTS.
///
/// # Errors
/// [`ReadError`] when nothing could be read.
pub async fn events<L: Log + 'static>(
    log: &Arc<Tail<L>>,
    partition: Partition,
    from: Offset,
    rows: usize,
) -> Result<Page<Event>, ReadError> {
    let limit = limit(rows);
    if let Some(page) = log.recent_events(partition, from, limit) {
        return Ok(page);
    }
    let log = Arc::clone(log);
    blocking(move || log.events(partition, from, limit)).await
}

/// Reads one event, also when only the shelf still has it; `None` when nobody has.
///
/// # Errors
/// [`ReadError`] when it could not be read now.
pub async fn event<L: Log + 'static>(
    log: &Arc<Tail<L>>,
    partition: Partition,
    id: EventId,
) -> Result<Option<Entry<Event>>, ReadError> {
    let offset = id.position.offset;
    let page = events(log, partition, offset, 1).await?;
    let here = |entry: &Entry<Event>| match entry {
        Entry::Row(event) => event.position().offset == offset,
        Entry::Damaged(damage) => damage.offset == offset,
    };
    if let Some(entry) = page.rows.into_iter().next().filter(here) {
        return Ok(Some(entry));
    }
    let log = Arc::clone(log);
    Ok(blocking(move || log.event(id)).await?.map(Entry::Row))
}

/// Reads ROUTED.
///
/// # Errors
/// [`ReadError`] when nothing could be read.
pub async fn routed<L: Log + 'static>(
    log: &Arc<Tail<L>>,
    partition: Partition,
    from: Offset,
    wanted: &Wanted,
    rows: usize,
) -> Result<Page<Routed>, ReadError> {
    let limit = limit(rows);
    if let Some(page) = log.recent_routed(partition, from, wanted, limit) {
        return Ok(page);
    }
    let (log, wanted) = (Arc::clone(log), wanted.clone());
    blocking(move || log.routed(partition, from, &wanted, limit)).await
}

/// Reads one row of ROUTED, also when only the shelf still has it; `None` when nobody has.
///
/// # Errors
/// [`ReadError`] when it could not be read now.
pub async fn routed_row<L: Log + 'static>(
    log: &Arc<Tail<L>>,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Entry<Routed>>, ReadError> {
    let log = Arc::clone(log);
    blocking(move || log.routed_row(partition, offset)).await
}

async fn blocking<R: Send + 'static>(
    read: impl FnOnce() -> Result<R, ReadError> + Send + 'static,
) -> Result<R, ReadError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) => Err(ReadError(error.to_string())),
    }
}
