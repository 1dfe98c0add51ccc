//! Dead letters that go for good.

use super::{
    feed::{Origin, lane_id},
    settle::{Released, remove},
};
use crate::journal::{
    WriteError,
    sqlite::{state::SqliteState, state_rows::route_text},
};

impl SqliteState {
    /// Takes dead letters off their shelves; those that a replay has, or that are gone, are left out. Gives back which
    /// went, and the keys that they held.
    ///
    /// # Errors
    /// [`WriteError`]; all are there then.
    pub fn discard(&mut self, letters: &[Origin]) -> Result<(Vec<Origin>, Vec<Released>), WriteError> {
        self.write(letters.len() as u64, |connection, _| {
            let (mut gone, mut released) = (Vec::new(), Vec::new());
            for letter in letters {
                let (lane, row, route) = letter;
                let Some(lane) = lane_id(connection, lane)? else { continue };
                if remove(connection, lane, *row, route_text(route.as_ref()), 1, &mut released)? {
                    gone.push(letter.clone());
                }
            }
            Ok((gone, released))
        })
    }
}
