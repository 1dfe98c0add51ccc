//! A whole selection at once, without a job: what a replay would send, and what a discard takes away.

use super::{
    OrderError, Replays,
    choose::{Chooser, Chosen},
    definition::{Checked, Definition},
};
use crate::{
    domain::Timestamp,
    journal::{ReadError, sqlite::jobs::feed::Origin},
    lanes::destination::Control,
};
use std::{collections::BTreeMap, sync::Arc};
use tracing::info;

/// Dead letters that one transaction discards.
const DISCARDS_AT_ONCE: usize = 500;

/// What would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preview {
    /// Deliveries.
    pub matched: u64,
    /// By route.
    pub by_route: BTreeMap<String, u64>,
    /// Dead letters that would stay as they are.
    pub kept: u64,
    /// Rows that retention has taken.
    pub gone: u64,
}

impl Replays {
    /// What a job would send if it began now.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn preview(&self, definition: &Definition) -> Result<Preview, OrderError> {
        let checked = definition.check().map_err(OrderError::Wrong)?;
        checked.destinations_known(&self.shared.generation.load()).map_err(OrderError::Wrong)?;
        let mut preview = Preview::default();
        self.each_chunk(checked, false, |chosen| {
            preview.gone += chosen.gone;
            for thing in &chosen.things {
                let routes = thing.what.routes();
                preview.kept += u64::from(thing.origin.is_some() && routes.is_empty());
                for route in routes {
                    preview.matched += 1;
                    *preview.by_route.entry(route.to_string()).or_default() += 1;
                }
            }
        })
        .await?;
        Ok(preview)
    }

    /// How many dead letters a discard would take.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn discardable(&self, definition: &Definition) -> Result<u64, OrderError> {
        Ok(self.letters(definition).await?.len() as u64)
    }

    /// Takes dead letters off the shelf for good; how many went.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn discard(&self, who: &str, definition: &Definition, reason: &str) -> Result<u64, OrderError> {
        let letters = self.letters(definition).await?;
        self.note(who, format!("discard begins: {}: {reason}", definition.words())).await?;
        let mut count = 0;
        for chunk in letters.chunks(DISCARDS_AT_ONCE) {
            let chunk = chunk.to_vec();
            let (gone, released) = self.with(move |state| state.discard(&chunk)).await?;
            count += gone.len() as u64;
            for (destination, order) in released {
                if let Some(handle) = self.shared.fleet.handle(destination.as_str()) {
                    // A lane that is gone finds its key free when it starts again.
                    let _ = handle.controls.send(Control::Release(order)).await;
                }
            }
        }
        info!(who, count, "dead letters are discarded");
        self.note(who, format!("discard done: {count} discarded: {reason}")).await?;
        Ok(count)
    }

    /// The dead letters of a selection that nobody has.
    async fn letters(&self, definition: &Definition) -> Result<Vec<Origin>, OrderError> {
        let checked = definition.check().map_err(OrderError::Wrong)?;
        let mut letters = Vec::new();
        self.each_chunk(checked, true, |chosen| {
            let found = chosen.things.iter().filter_map(|thing| thing.origin.as_ref());
            letters.extend(found.map(|letter| (letter.lane.clone(), letter.row.offset, letter.row.route.clone())));
        })
        .await?;
        Ok(letters)
    }

    async fn each_chunk(
        &self,
        checked: Checked,
        only_which: bool,
        mut take: impl FnMut(Chosen),
    ) -> Result<(), OrderError> {
        let checked = Arc::new(checked);
        let began = Timestamp::now();
        let mut cursor: Option<String> = None;
        loop {
            let chooser = Chooser {
                queries: self.shared.queries.clone(),
                log: Arc::clone(&self.shared.log),
                generation: self.shared.generation.load_full(),
                fetch: Arc::clone(&self.shared.fetch),
                checked: Arc::clone(&checked),
                began,
                stop: self.shared.stop.clone(),
                only_which,
            };
            let at = cursor.take();
            let chosen = tokio::task::spawn_blocking(move || chooser.chunk(at.as_deref())).await;
            let chosen = chosen.map_err(|error| ReadError(error.to_string()))??;
            cursor = Some(chosen.cursor.clone());
            let complete = chosen.complete;
            take(chosen);
            if complete {
                return Ok(());
            }
        }
    }
}
