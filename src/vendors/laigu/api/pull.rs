//! Pulls records out of a paged list, page after page, at the reader's own pace.

use super::{
    Api, Listing,
    error::ApiError,
    records::Listed,
    walk::{Cursor, Style, Walk},
    window::Window,
};
use crate::{
    domain::Timestamp,
    vendors::{
        action::Action,
        record::{Batch, Record},
    },
};
use futures_util::stream::{self, Stream, TryStreamExt};
use std::marker::PhantomData;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// Its records, as the vendor ordered them.
    pub records: Vec<Record<T>>,
    /// How many more it has that are no JSON objects, such as `null` or one with half an emoji.
    pub unreadable: usize,
    /// The token of the next page; empty: there is none.
    pub next_page_token: String,
    /// The window it was asked for.
    pub window: Window,
}

impl<T> Page<T> {
    /// What it has, read and unreadable.
    #[must_use]
    pub fn into_batch(self) -> Batch<T> {
        Batch { records: self.records, unreadable: self.unreadable }
    }
}

/// A page that could not be had, and what follows from it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read a page of {listing}")]
pub struct Stopped {
    /// The list.
    pub listing: Listing,
    /// What to do. The pull has already gone back where it must: asking again is enough.
    pub action: Action,
    /// Why.
    #[source]
    pub source: ApiError,
}

/// A pull over a range of time. Nothing is asked for that nobody waits for.
#[derive(Debug)]
pub struct Pull<T> {
    api: Api,
    listing: Listing,
    walk: Walk,
    record: PhantomData<fn() -> T>,
}

impl<T: Listed> Pull<T> {
    pub(super) fn new(api: Api, listing: Listing, range: Window) -> Self {
        let style = if listing == Listing::ConversationsV1 { Style::Offset } else { Style::Token };
        let walk = Walk::new(range, style, &api.paging());
        Self { api, listing, walk, record: PhantomData }
    }

    /// Everything before this time has been read to the end: what a watermark may become, once the records are safe.
    #[must_use]
    pub fn drained_to(&self) -> Timestamp {
        self.walk.drained_to()
    }

    /// Whether every page was read.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.walk.ask().is_none()
    }

    /// Makes one call for the next page; nothing when the range is drained.
    ///
    /// # Errors
    /// [`Stopped`]; the same page is asked for by the next call, or, after [`Action::RestartWindow`],
    /// [`Action::HalveWindow`] and [`Action::ShrinkPage`], the window from its beginning. Pauses and the number of tries are the caller's.
    ///
    /// # Cancel safety
    /// A dropped call leaves the pull where it was.
    pub async fn next_page(&mut self) -> Result<Option<Page<T>>, Stopped> {
        let Some(ask) = self.walk.ask() else { return Ok(None) };
        let outcome = match &ask.cursor {
            Cursor::Token(token) => self.api.page(self.listing, ask.window, ask.limit, token).await,
            Cursor::Offset(offset) => self.api.offset_page(ask.window, ask.limit, *offset).await,
        };
        let outcome = outcome.and_then(|page: Page<T>| {
            self.walk.took(page.records.len() + page.unreadable, &page.next_page_token).map_err(ApiError::Paging)?;
            Ok(page)
        });
        match outcome {
            Ok(mut page) => {
                if self.listing == Listing::ConversationsV1 {
                    // Its parameters are named after the start, its text speaks of the end; the end it is.
                    page.records.retain(|record| record.typed.is_within(&page.window));
                }
                Ok(Some(page))
            }
            Err(source) => {
                let action = self.walk.failed(&source);
                Err(Stopped { listing: self.listing, action, source })
            }
        }
    }

    /// The records one by one, in the order of the pages; restarts and halves windows and makes pages smaller by itself,
    /// ends at any other error. Records of a restarted window come again; what cannot be read is left out.
    pub fn records(self) -> impl Stream<Item = Result<Record<T>, Stopped>> + Send {
        let pages = stream::try_unfold(self, |mut pull| async move {
            loop {
                match pull.next_page().await {
                    Ok(page) => return Ok(page.map(|page| (page, pull))),
                    Err(stopped) => match stopped.action {
                        Action::RestartWindow | Action::HalveWindow | Action::ShrinkPage => {}
                        _ => return Err(stopped),
                    },
                }
            }
        });
        pages.map_ok(|page: Page<T>| stream::iter(page.records.into_iter().map(Ok))).try_flatten()
    }
}
