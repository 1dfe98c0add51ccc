//! What a blocking thread does for a file destination: encode, write, sync, and open again after an error.

use crate::{
    destinations::{
        Outcome, OutletState,
        file::{
            folder::{FILE_BYTES_MAX, Folder, FolderError},
            line::push_line,
        },
        message::{Message, TypePrefixes},
    },
    domain::{Attempt, Chain, Failure, FailureKind, StopReason, Timestamp},
};
use std::path::PathBuf;

/// So much is encoded before it is written, so that a window of large events costs little memory.
const PIECE_BYTES: usize = 4 << 20;

/// What came of a batch or a probe.
pub(super) struct Written {
    pub outcomes: Vec<(u64, Outcome)>,
    pub state: OutletState,
}

impl Written {
    /// What comes of a batch where the destination has no writer.
    pub(super) fn nowhere(batch: &[Attempt]) -> Self {
        let words: Box<str> = "the destination's own lane has no writer at the moment".into();
        let failure = Failure { kind: FailureKind::Lane(StopReason::Down), detail: words.clone() };
        let failed = |attempt: &Attempt| (attempt.ticket, Outcome::Failed(failure.clone()));
        Self { outcomes: batch.iter().map(failed).collect(), state: OutletState::Stopped(StopReason::Down, words) }
    }
}

pub(super) struct Writer {
    path: PathBuf,
    prefixes: TypePrefixes,
    /// `None` before the first try and after an error.
    folder: Option<Folder>,
    /// Whether the next line must begin a new file, because the last one's end is not known.
    fresh: bool,
    /// Whether the folder must be seen to take something before it is believed again.
    doubted: bool,
    message: Message,
    lines: Vec<u8>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, prefixes: TypePrefixes) -> Self {
        let (message, lines) = (Message::default(), Vec::new());
        Self { path, prefixes, folder: None, fresh: false, doubted: false, message, lines }
    }

    /// Opens the folder if it is not open; after an error only when it takes a few bytes.
    pub(super) fn probe(&mut self) -> Written {
        let state = match self.open() {
            Ok(_) => OutletState::Up,
            Err(error) => {
                let (reason, words) = stop(&error);
                OutletState::Stopped(reason, words)
            }
        };
        Written { outcomes: Vec::new(), state }
    }

    /// Writes a batch: all of it is on disk, or none of it counts.
    pub(super) fn write(&mut self, batch: &[Attempt], now: Timestamp) -> Written {
        let error = match self.try_write(batch, now) {
            Ok(outcomes) => return Written { outcomes, state: OutletState::Up },
            Err(error) => error,
        };
        self.doubted = true;
        self.fresh |= error.is_sync();
        // What someone else changed is theirs: opening it again cuts no more than a torn line.
        if let (Some(folder), false) = (self.folder.take(), matches!(error, FolderError::Changed(_))) {
            folder.give_up();
        }
        let (reason, words) = stop(&error);
        let failure = Failure { kind: FailureKind::Lane(reason), detail: words.clone() };
        let failed = |attempt: &Attempt| (attempt.ticket, Outcome::Failed(failure.clone()));
        Written { outcomes: batch.iter().map(failed).collect(), state: OutletState::Stopped(reason, words) }
    }

    fn try_write(&mut self, batch: &[Attempt], now: Timestamp) -> Result<Vec<(u64, Outcome)>, FolderError> {
        let prefixes = self.prefixes.snapshot();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            self.lines.clear();
            let mut count = 0;
            for attempt in rest {
                self.message.render(attempt, &prefixes);
                push_line(&mut self.lines, &self.message, attempt.delivery.event());
                count += 1;
                if self.lines.len() >= PIECE_BYTES {
                    break;
                }
            }
            let (piece, after) = rest.split_at(count);
            let lines = std::mem::take(&mut self.lines);
            let name = self.open()?.write(&lines, now)?;
            outcomes.extend(piece.iter().map(|attempt| (attempt.ticket, Outcome::Taken { answer: name.clone() })));
            self.lines = lines;
            rest = after;
        }
        self.lines.shrink_to(2 * PIECE_BYTES);
        self.open()?.sync()?;
        Ok(outcomes)
    }

    fn open(&mut self) -> Result<&mut Folder, FolderError> {
        if self.folder.is_none() {
            let mut folder = Folder::open(&self.path, FILE_BYTES_MAX)?;
            if self.doubted {
                folder.probe()?;
            }
            if self.fresh {
                folder.leave_file();
            }
            (self.fresh, self.doubted) = (false, false);
            self.folder = Some(folder);
        }
        Ok(self.folder.as_mut().expect("it was just opened where there was none"))
    }
}

/// What an error means for the lane, and its words.
fn stop(error: &FolderError) -> (StopReason, Box<str>) {
    let reason = match error {
        FolderError::Locked(_) => StopReason::Misconfigured,
        FolderError::Io { .. } | FolderError::Changed(_) => StopReason::Down,
    };
    (reason, Chain(error).to_string().into())
}
