//! `kill -9` of the real program under load, and what its destinations hold in the end.
//!
//! The oracle shares nothing with the product: pushes are made from (key, number), so it knows every byte, every
//! destination and every order without asking. For each destination it demands that every push answered 200 is there
//! by every route that is for it; that nothing else is; that bytes are equal; that first copies of a key are in the
//! order they were accepted; that a crash repeats no more than the window, and only what had no durable receipt.

mod campaign;
mod files;
mod load;
mod oracle;
mod push;
mod store;

use campaign::Target;
use files::Files;
use oracle::{History, Route};
use push::Push;

/// Kills that must count.
const CYCLES: usize = 50;
/// Deliveries that a file lane has out at most.
const WINDOW: usize = 256;

const FILES: &str = "destinations:
  archive: { type: file, path: ./archive, window: 256 }
  leads: { type: file, path: ./leads, window: 256 }
routes:
  - { name: vip, when: 'has(body.level) && body.level == \"A\"', to: [archive] }
  - { name: leads, when: has(body.tel), to: [leads] }
  - { name: everything, to: [archive] }
";

const ARCHIVE: &[Route] = &[("vip", Push::is_vip), ("everything", |_| true)];
const LEADS: &[Route] = &[("leads", Push::is_lead)];

/// A push as a line's `data`: its bytes without its line breaks.
fn on_one_line(push: Push) -> Vec<u8> {
    let mut bytes = push.body();
    bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    bytes
}

#[test]
fn killed_under_load_it_loses_and_invents_nothing_in_its_files() {
    let home = campaign::home(FILES);
    let target =
        |name, routes| Target::new(History::new(name, routes, on_one_line), Files::new(home.path(name)), WINDOW);
    let mut targets = [target("archive", ARCHIVE), target("leads", LEADS)];
    campaign::run(&home, &mut targets, CYCLES);
}
