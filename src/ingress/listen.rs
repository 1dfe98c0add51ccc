//! Listening sockets: passed to us by systemd or by the process before us, else our own.

use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds until they are accepted: room for a burst while the cap is reached.
const BACKLOG: u32 = 4096;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A passed socket is no listening TCP socket.
    #[error("cannot use the listening socket passed as number {index}")]
    Passed {
        /// Its place among the sockets passed.
        index: usize,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Sockets passed by the socket activation protocol (`LISTEN_FDS`), each to be taken once.
pub struct PassedSockets(listenfd::ListenFd);

impl PassedSockets {
    /// Takes note of what was passed.
    #[must_use]
    pub fn from_env() -> Self {
        Self(listenfd::ListenFd::from_env())
    }

    /// How many were passed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was passed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Takes the socket at `index` if one was passed there; else listens on `address`.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&mut self, index: usize, address: SocketAddr) -> Result<TcpListener, ListenError> {
        let passed = |source| ListenError::Passed { index, source };
        match self.0.take_tcp_listener(index).map_err(passed)? {
            Some(listener) => adopt(listener).map_err(passed),
            None => bind(address),
        }
    }
}

/// Listens on an address of our own.
///
/// # Errors
/// [`ListenError::Bind`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the connections of the process before it to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| ListenError::Bind { address, source })
}

/// Takes over a socket that listens already.
///
/// # Errors
/// What the system says.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
