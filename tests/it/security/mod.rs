//! Attacks on the real program, where no test beside the code shows the whole: floods, bombs, guesses, leaks.
//!
//! `docs/security.md` lists every attack with the test that holds against it.

mod files;
mod flood;
mod guesses;
mod hostile;
mod leaks;
mod page;

use crate::{
    crash::load::answer,
    program::{Home, PATIENCE},
};
use std::{io::Write, net::TcpStream};

/// Sends one request over a connection of its own, and gives the answer's status.
fn send(port: u16, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request);
    answer(&mut stream).unwrap()
}

/// Puts more into the `server` section.
fn with_server(home: &Home, lines: &str) {
    let file = home.path("routes.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mark = "  shutdown_delay: 0s\n";
    assert!(text.contains(mark));
    std::fs::write(file, text.replacen(mark, &format!("{mark}{lines}"), 1)).unwrap();
}
