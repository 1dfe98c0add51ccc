//! A TCP proxy that breaks: what a network does to a connection, on loopback and at will.

use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What happens to connections, those that are open included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Pass,
    /// Each connection is closed at once.
    Refuse,
    /// Connections are taken, and nothing goes through either way, for ever.
    BlackHole,
    /// What the client says arrives; no answer does.
    Deaf,
    /// Each connection is closed after so many bytes from the client.
    CutAfter(u64),
    /// Each piece waits so long.
    Delay(Duration),
    /// What the client says arrives at so many bytes a second, over each connection.
    Narrow(u32),
}

pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Stands before a port of loopback.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mode, watched) = watch::channel(Mode::Pass);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, port, watched.clone()));
            }
        });
        Self { address, mode, _tasks: tasks }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn carry(client: TcpStream, port: u16, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (mode.clone(), mode.clone());
    tokio::select! {
        () = pump(from_client, to_server, up, true) => {}
        () = pump(from_server, to_client, down, false) => {}
        // The sender lives as long as the proxy.
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

/// Carries one direction until it ends or is cut. A black hole keeps the connection and what was in it.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>, from_client: bool) {
    let mut carried = 0;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        let holds = |mode: &Mode| *mode == Mode::BlackHole;
        if mode.wait_for(|mode| !holds(mode)).await.is_err() {
            return;
        }
        let now = *mode.borrow();
        let mut piece = &buffer[..count];
        match now {
            Mode::Delay(delay) => tokio::time::sleep(delay).await,
            Mode::Narrow(rate) if from_client => {
                let bytes = u32::try_from(piece.len()).expect("a small piece");
                tokio::time::sleep(Duration::from_secs(1) * bytes / rate).await;
            }
            Mode::Deaf if !from_client => continue,
            Mode::CutAfter(bytes) if from_client && carried + piece.len() as u64 >= bytes => {
                piece = &piece[..usize::try_from(bytes.saturating_sub(carried)).expect("a small number")];
                let _ = to.write_all(piece).await;
                return;
            }
            _ => {}
        }
        carried += piece.len() as u64;
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
